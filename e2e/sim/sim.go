package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	topic        = "sim"
	offsetsTopic = "__consumer_offsets"
	partitions   = 3
	replicas     = 3
	groupName    = "group"
)

// clientHosts are the hosts whose links to brokers may be cut. The hosts of the
// operator and of the check are not among them.
var clientHosts = []string{"producer-1", "producer-2", "member-1", "member-2", "reader", "racked", "replay"}

// world is one simulated cluster.
type world struct {
	seed        uint64
	begin       time.Time
	network     *wire.MemoryNetwork
	kv          *kv.Mem
	objects     *object.Mem
	etcd, store trouble // for everybody
	log         *slog.Logger
	nodes       []*node
	replicating int // nodes that hold partitions, the first ones
	h           *history
	truth       *truth
	admin       *kadm.Client
	losing      chan struct{} // the turn of who decides about a lost disk
	steps       sync.WaitGroup
	others      []string // topics that come and go; guarded by h.mu

	linkMu sync.Mutex
	cuts   map[[2]string]int // reasons why a link carries nothing

	noteMu sync.Mutex
	notes  []string
}

// newWorld is a cluster of three or four brokers, as the seed says.
func newWorld(seed uint64, log *slog.Logger) *world {
	w := &world{
		seed: seed, begin: time.Now(), network: wire.NewMemoryNetwork(), kv: kv.NewMem(), objects: object.NewMem(), log: log,
		replicating: 3, h: newHistory(), losing: make(chan struct{}, 1), cuts: make(map[[2]string]int),
	}
	w.truth = newTruth(w.h)
	if seed%4 == 0 {
		w.replicating = 4
	}
	for i := range w.replicating {
		w.nodes = append(w.nodes, newNode(w, i+1, config.RoleBroker))
	}
	if seed%4 == 2 {
		w.nodes = append(w.nodes, newNode(w, w.replicating+1, config.RoleReplay))
	}
	hosts := w.hosts()
	for _, from := range hosts {
		for _, to := range hosts {
			w.network.SetFault(from, to, wire.Fault{Delay: latency})
		}
	}
	return w
}

func (w *world) hosts() []string {
	hosts := slices.Clone(clientHosts)
	for _, n := range w.nodes {
		hosts = append(hosts, n.host)
	}
	return append(hosts, adminHost)
}

const adminHost = "operator"

// note writes down what happened, for a run that failed.
func (w *world) note(format string, args ...any) {
	w.noteMu.Lock()
	defer w.noteMu.Unlock()
	w.notes = append(w.notes, fmt.Sprintf("%8.3fs ", time.Since(w.begin).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) journal() string {
	w.noteMu.Lock()
	defer w.noteMu.Unlock()
	return strings.Join(w.notes, "\n")
}

// client is a client on a host, less patient than the defaults: a run is short.
func (w *world) client(host string, opts ...kgo.Opt) (*kgo.Client, error) {
	var seeds []string
	for _, n := range w.nodes {
		seeds = append(seeds, n.addr())
	}
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID(host), kgo.Dialer(impatient(w.network.Host(host).Dial)),
		kgo.RequestTimeoutOverhead(2 * time.Second), kgo.ProduceRequestTimeout(2 * time.Second), kgo.FetchMaxWait(300 * time.Millisecond), kgo.FetchMinBytes(8 << 10),
		kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
		kgo.MetadataMinAge(200 * time.Millisecond), kgo.MetadataMaxAge(3 * time.Second),
	}, opts...)...)
}

// dialTimeout is how long clients wait for a connection.
const dialTimeout = 2 * time.Second

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// impatient gives up after dialTimeout, which franz-go leaves to its dialler.
func impatient(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// start runs all brokers and waits until they can be asked.
func (w *world) start(ctx context.Context) error {
	go w.truth.follow(ctx, w.kv.Client(nil))
	for _, n := range w.nodes {
		n.start(ctx)
	}
	cl, err := w.client(adminHost)
	if err != nil {
		return err
	}
	w.admin = kadm.NewClient(cl)
	if err := w.healed(ctx); err != nil {
		return err
	}
	return w.createTopic(ctx, topic, partitions)
}

// run lets a cluster work while the steps happen to it, heals it and looks at
// what is left.
func (w *world) run(ctx context.Context, steps []step, length time.Duration) error {
	if err := w.start(ctx); err != nil {
		w.stop()
		return fmt.Errorf("start: %w", err)
	}
	err := w.work(ctx, steps, length)
	if err == nil {
		w.note("clients have ended, everything is read")
		err = w.verify(ctx)
	}
	w.note("all stop: %v", err)
	w.stop()
	if err == nil {
		err = w.verifyDisks()
	}
	return err
}

// work runs the clients until the cluster is whole again after all steps.
func (w *world) work(ctx context.Context, steps []step, length time.Duration) error {
	producing, silent := context.WithCancel(ctx)
	defer silent()
	reading, deaf := context.WithCancel(ctx)
	defer deaf()
	producers := together(
		func() error { return w.produce(producing, 1, 30*time.Millisecond) },
		func() error { return w.produce(producing, 2, 70*time.Millisecond) },
	)
	readers := []func() error{
		func() error { return w.read(reading, "reader", 9*time.Second) },
		func() error { return w.read(reading, "racked", 7*time.Second, kgo.Rack(w.nodes[1].rack())) },
		func() error { return w.read(reading, "replay", 5*time.Second, kgo.ClientID("replay-1")) },
		func() error { return w.join(reading, 1) },
		func() error { return w.join(reading, 2) },
	}
	for _, n := range w.nodes {
		readers = append(readers, func() error { return w.look(reading, n) })
	}
	read := together(readers...)
	w.follow(ctx, steps, length)
	w.heal()
	healed := w.healed(ctx)
	w.note("whole again: %v", healed)
	time.Sleep(2 * time.Second) // clients go on for a while
	silent()
	produced := producers()
	deaf()
	w.note("producers have ended: %v", produced)
	return errors.Join(healed, produced, read())
}

// together runs all and returns how to wait for them.
func together(work ...func() error) (wait func() error) {
	errs := make([]error, len(work))
	var wg sync.WaitGroup
	for i, do := range work {
		wg.Go(func() { errs[i] = do() })
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}

// ids are the brokers that must be there in the end.
func (w *world) ids() (ids []metadata.BrokerID) {
	for _, n := range w.nodes {
		ids = append(ids, n.id)
	}
	return ids
}

// healTime is how long a cluster without faults may take to be whole.
const healTime = time.Minute

// healed waits until the cluster is whole.
func (w *world) healed(ctx context.Context) error {
	for end := time.Now().Add(healTime); ; {
		left := w.truth.unhealed(w.ids())
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("not whole %v after all faults healed:\n%s", healTime, strings.Join(left, "\n"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// heal ends what is still wrong.
func (w *world) heal() {
	w.note("all faults end")
	w.etcd.set("", 0)
	w.store.set("", 0)
	for _, n := range w.nodes {
		n.etcd.set("", 0)
		n.store.set("", 0)
		n.slow.set("", 0)
	}
}

// createTopic makes a topic of small segments that leave the disks soon, so
// that most reads are cold and followers start from the tier.
func (w *world) createTopic(ctx context.Context, name string, partitions int32) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	small, one := "8192", "1"
	_, err := w.admin.CreateTopic(ctx, partitions, replicas, map[string]*string{"internal.segment.bytes": &small, "local.retention.bytes": &one}, name)
	return err
}

// stop stops all brokers.
func (w *world) stop() {
	w.admin.Close()
	var wg sync.WaitGroup
	for _, n := range w.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}
