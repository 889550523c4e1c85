package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// ClusterOptions say what brokers make a cluster.
type ClusterOptions struct {
	Kind    Kind // Subprocess or Container
	Brokers int  // to begin with; default 3
	// Dir is for all data; each broker has a directory of its own there.
	Dir    string
	Binary string // for Subprocess
	Image  Image  // for Container
	// Back is the network between Containers, on which etcd and the store are;
	// Front is the one between them and their clients.
	Back, Front *Network
	// Links gives each Subprocess a network of its own, so that Cut works. It
	// takes root.
	Links bool
	// Embedded has etcd in the first three brokers. Without it Subprocesses
	// share the Cluster's Etcd.
	Embedded bool
	// StoreURL and Env are the object store's, for all brokers.
	StoreURL string
	Env      []string
	Settings map[string]string
}

// Cluster is brokers that share an etcd and an object store. Its methods are
// for one goroutine at a time.
type Cluster struct {
	// Brokers have the node ids 1, 2 and so on.
	Brokers []*Broker
	// Etcd is nil where it is embedded.
	Etcd *Etcd

	o     ClusterOptions
	lab   *lab
	store *forwarder
	cut   map[int32]bool
	// Of the embedded etcd: its members by node id, and their client URLs.
	peers, members []string
}

// rack is one of three, in turn.
func rack(id int32) string { return "rack-" + string(rune('a'+(id-1)%3)) }

// NewCluster prepares the brokers; Start starts them, and Close ends them.
func NewCluster(ctx context.Context, o ClusterOptions) (c *Cluster, err error) {
	if o.Brokers == 0 {
		o.Brokers = 3
	}
	c = &Cluster{o: o, cut: make(map[int32]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close(ctx))
		}
	}()
	if o.Links {
		if c.lab, err = newLab(ctx); err != nil {
			return nil, err
		}
		if err := c.forwardStore(ctx); err != nil {
			return nil, err
		}
	}
	if o.Embedded {
		err = c.planEtcd()
	} else {
		err = c.startEtcd(ctx)
	}
	if err != nil {
		return nil, err
	}
	for range o.Brokers {
		if _, err := c.Add(ctx, nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// forwardStore lets brokers in a lab reach a MinIO of this machine.
func (c *Cluster) forwardStore(ctx context.Context) error {
	rest, ok := strings.CutPrefix(c.o.StoreURL, "minio://")
	if !ok {
		return nil
	}
	addr, path, _ := strings.Cut(rest, "/")
	at := net.JoinHostPort(c.lab.host(labStore), portOf(addr))
	f, err := newForwarder(ctx, at, addr)
	if err != nil {
		return err
	}
	c.store, c.o.StoreURL = f, "minio://"+at+"/"+path
	return nil
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	host := "127.0.0.1"
	if c.lab != nil {
		host = c.lab.host(labEtcd)
	}
	etcd, err := NewEtcd(filepath.Join(c.o.Dir, "etcd"), host)
	if err != nil {
		return err
	}
	c.Etcd = etcd
	return etcd.Start(ctx)
}

// embeddedMembers is how many brokers have a member of the embedded etcd.
const embeddedMembers = 3

// planEtcd chooses the addresses of the embedded members: brokers find each
// other, and further brokers find them, by these.
func (c *Cluster) planEtcd() error {
	for id := int32(1); id <= min(embeddedMembers, int32(c.o.Brokers)); id++ {
		peer, client := c.alias(id)+":2380", c.alias(id)+":2379"
		if c.lab != nil {
			host := c.lab.host(labBrokers + int(id))
			peer, client = host+":2380", host+":2379"
		} else if c.o.Kind != Container {
			var err error
			if peer, err = freeAddress(); err != nil {
				return err
			}
			if client, err = freeAddress(); err != nil {
				return err
			}
		}
		c.peers = append(c.peers, fmt.Sprintf("%d=http://%s", id, peer))
		c.members = append(c.members, "http://"+client)
	}
	return nil
}

func (c *Cluster) alias(id int32) string { return fmt.Sprintf("broker-%d", id) }

// Add prepares one more broker, with settings of its own.
func (c *Cluster) Add(ctx context.Context, settings map[string]string) (*Broker, error) {
	id := int32(len(c.Brokers) + 1)
	o := Options{Kind: c.o.Kind, Binary: c.o.Binary, Image: c.o.Image, Network: c.o.Back, Front: c.o.Front, StoreURL: c.o.StoreURL, Env: c.o.Env}
	o.Dir = filepath.Join(c.o.Dir, c.alias(id))
	if dir := os.Getenv("COLDBROOK_LOGS"); dir != "" {
		o.LogFile = filepath.Join(dir, c.alias(id)+".log")
	}
	o.Settings = map[string]string{
		"node.id": strconv.Itoa(int(id)), "broker.rack": rack(id),
		"default.replication.factor": "3", "min.insync.replicas": "2", "offsets.topic.replication.factor": "3",
	}
	maps.Copy(o.Settings, c.o.Settings)
	maps.Copy(o.Settings, settings)
	if err := c.listen(ctx, id, &o); err != nil {
		return nil, err
	}
	c.coordinate(id, &o)
	b, err := New(o)
	if err != nil {
		return nil, err
	}
	b.id = id
	c.Brokers = append(c.Brokers, b)
	return b, nil
}

// listen gives a broker its addresses.
func (c *Cluster) listen(ctx context.Context, id int32, o *Options) error {
	var err error
	switch {
	case c.o.Kind == Container:
		if o.Kafka, err = freeAddress(); err != nil {
			return err
		}
		o.Alias = c.alias(id)
		o.Settings["listeners"] = "INTERNAL://0.0.0.0:9093,EXTERNAL://0.0.0.0:" + portOf(o.Kafka)
		o.Settings["advertised.listeners"] = "INTERNAL://" + o.Alias + ":9093,EXTERNAL://" + o.Kafka
		o.Settings["listener.security.protocol.map"] = "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"
		o.Settings["inter.broker.listener.name"] = "INTERNAL"
		o.Settings["http.listen"] = "0.0.0.0:9644"
		return nil
	case c.lab != nil:
		if err := c.lab.join(ctx, id); err != nil {
			return err
		}
		o.Namespace = c.lab.space(id)
		o.Kafka, o.HTTP = c.lab.host(labBrokers+int(id))+":9092", c.lab.host(labBrokers+int(id))+":9644"
	default:
		if o.Kafka, err = freeAddress(); err != nil {
			return err
		}
		if o.HTTP, err = freeAddress(); err != nil {
			return err
		}
	}
	o.Settings["listeners"], o.Settings["http.listen"] = "PLAINTEXT://"+o.Kafka, o.HTTP
	return nil
}

// coordinate tells a broker where etcd is.
func (c *Cluster) coordinate(id int32, o *Options) {
	switch {
	case c.Etcd != nil:
		o.Settings["etcd.endpoints"] = c.Etcd.Endpoint()
	case id > embeddedMembers:
		o.Settings["etcd.endpoints"] = strings.Join(c.members, ",")
	default:
		o.Settings["etcd.embedded"], o.Settings["etcd.peers"] = "true", strings.Join(c.peers, ",")
		if c.o.Kind != Container {
			o.Settings["etcd.listen.client.urls"] = c.members[id-1]
		}
	}
}

// Start starts all brokers at once and returns when they are ready.
func (c *Cluster) Start(ctx context.Context) error {
	var all errgroup.Group
	for _, b := range c.Brokers {
		all.Go(func() error { return b.Start(ctx) })
	}
	return all.Wait()
}

// Kafka is the bootstrap addresses.
func (c *Cluster) Kafka() []string {
	var list []string
	for _, b := range c.Brokers {
		list = append(list, b.Kafka())
	}
	return list
}

// Broker is the one with a node id.
func (c *Cluster) Broker(id int32) *Broker { return c.Brokers[id-1] }

// Kind says where the brokers run.
func (c *Cluster) Kind() Kind { return c.o.Kind }

// HasLinks reports whether Cut works.
func (c *Cluster) HasLinks() bool { return c.lab != nil }

// Ends of a link beside brokers' ids.
const (
	EtcdEnd  int32 = -1
	StoreEnd int32 = -2
)

func (c *Cluster) labHost(end int32) int {
	switch end {
	case EtcdEnd:
		return labEtcd
	case StoreEnd:
		return labStore
	}
	return labBrokers + int(end)
}

// Cut loses what a broker sends to the others named, which may be brokers'
// ids, EtcdEnd and StoreEnd; what they send still arrives. Heal ends it.
func (c *Cluster) Cut(ctx context.Context, from int32, to ...int32) error {
	c.cut[from] = true
	for _, end := range to {
		if err := c.lab.cut(ctx, from, c.labHost(end)); err != nil {
			return err
		}
	}
	return nil
}

// Isolate cuts a broker off from other brokers, from etcd and from the store,
// both ways, but not from clients. Heal ends it.
func (c *Cluster) Isolate(ctx context.Context, id int32) error {
	c.cut[id] = true
	if c.o.Kind == Container {
		return c.container(id).box.Disconnect(ctx, c.o.Back)
	}
	to := []int32{EtcdEnd, StoreEnd}
	for _, other := range c.Brokers {
		if other.ID() != id {
			to = append(to, other.ID())
			if err := c.Cut(ctx, other.ID(), id); err != nil {
				return err
			}
		}
	}
	return c.Cut(ctx, id, to...)
}

// Heal ends all cuts.
func (c *Cluster) Heal(ctx context.Context) error {
	for id := range c.cut {
		var err error
		if c.o.Kind == Container {
			err = c.container(id).box.Connect(ctx, c.o.Back, c.alias(id))
		} else {
			err = c.lab.heal(ctx, id)
		}
		if err != nil {
			return err
		}
		delete(c.cut, id)
	}
	return nil
}

func (c *Cluster) container(id int32) *dockerContainer { return c.Broker(id).run.(*dockerContainer) }

// Traffic is what a broker with links has received and sent so far, in bytes.
func (c *Cluster) Traffic(ctx context.Context, id int32) (received, sent int64, err error) {
	return c.lab.traffic(ctx, id)
}

// closeWithin bounds Close where the test's context is over.
const closeWithin = time.Minute

// Close ends the brokers and removes what was made for them but for Dir.
func (c *Cluster) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	var err error
	for _, b := range c.Brokers {
		if c.o.Kind == Container {
			err = errors.Join(err, b.Remove(ctx))
		} else {
			err = errors.Join(err, b.Kill())
		}
	}
	if c.Etcd != nil {
		err = errors.Join(err, c.Etcd.Stop())
	}
	if c.store != nil {
		err = errors.Join(err, c.store.close())
	}
	if c.lab != nil {
		err = errors.Join(err, c.lab.close(ctx))
	}
	return err
}

// CanLink says why links cannot be made here, if so.
func CanLink() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces take root")
	}
	l, err := newLab(context.Background())
	if err != nil {
		return err
	}
	return l.close(context.Background())
}
