package controller

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPlans runs the scripts of testdata: events of a cluster, then what is
// planned for it. Regenerate with go test -run TestPlans -rewrite.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.td")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				datadriven.RunTest(t, file, c.command)
			})
		})
	}
}

// cluster is a Store over memory with brokers that come and go.
type cluster struct {
	t        *testing.T
	kv       *kv.Mem
	store    *metadata.Store
	sessions map[metadata.BrokerID]*metadata.Session
	runs     int
}

func newCluster(t *testing.T) *cluster {
	mem := kv.NewMem()
	store, err := metadata.Open(t.Context(), metadata.Options{KV: mem})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- store.Run(ctx) }()
	synctest.Wait()
	c := &cluster{t: t, kv: mem, store: store, sessions: map[metadata.BrokerID]*metadata.Session{}}
	t.Cleanup(func() {
		for _, s := range c.sessions {
			s.Abandon()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// up registers a broker; one that is up is restarted.
func (c *cluster) up(id metadata.BrokerID, rack string) *metadata.Session {
	c.t.Helper()
	return c.register(metadata.Registration{ID: id, Rack: rack, DirectoryID: fmt.Sprintf("dir-%d", id)})
}

func (c *cluster) register(r metadata.Registration) *metadata.Session {
	c.t.Helper()
	id := r.ID
	if old := c.sessions[id]; old != nil {
		old.Abandon()
	}
	c.runs++
	r.Incarnation = fmt.Sprintf("run-%d", c.runs)
	store, err := metadata.Open(c.t.Context(), metadata.Options{KV: c.kv}) // a process of its own
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := store.RegisterBroker(c.t.Context(), r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.sessions[id] = s
	if err := c.store.WaitRevision(c.t.Context(), s.Epoch); err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *cluster) down(id metadata.BrokerID) {
	c.t.Helper()
	if err := c.sessions[id].Close(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	delete(c.sessions, id)
	synctest.Wait()
}

func (c *cluster) create(name string, assignments ...[]metadata.BrokerID) *metadata.Topic {
	c.t.Helper()
	topic, err := c.store.CreateTopic(c.t.Context(), metadata.TopicSpec{Name: name, Assignments: assignments})
	if err != nil {
		c.t.Fatal(err)
	}
	return topic
}

func (c *cluster) partition(topic string, n int32) metadata.Partition {
	p, ok := c.store.Image().Partition(metadata.TopicPartition{Topic: topic, Partition: n})
	if !ok {
		c.t.Fatalf("no partition %s-%d", topic, n)
	}
	return p
}

// command is one step of a script.
func (c *cluster) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "up": // up <id> [rack=<rack>] [role=replay] [disk=<directory>]
		id := c.id(d)
		r := metadata.Registration{ID: id, DirectoryID: fmt.Sprintf("dir-%d", id)}
		optional(t, d, "rack", &r.Rack)
		optional(t, d, "role", &r.Role)
		optional(t, d, "disk", &r.DirectoryID)
		c.register(r)
	case "sleep":
		time.Sleep(time.Hour)
	case "show": // all partitions
		var lines []string
		for _, topic := range c.store.Image().Topics() {
			for n := range topic.Partitions {
				lines = append(lines, c.show(topic, int32(n)))
			}
		}
		return strings.Join(lines, "\n") + "\n"
	case "reassign": // reassign <topic> <p>, a line of replicas, none to cancel
		var target []metadata.BrokerID
		if d.Input != "" {
			target = parseIDs(t, d.Input)
		}
		topic, n := c.named(d)
		return c.decided(Reassign(c.store.Image(), topic, n, target))
	case "elect": // elect <topic> <p> [unclean]
		topic, n := c.named(d)
		return c.decided(Elect(c.store.Image(), topic, n, d.HasArg("unclean")))
	case "down":
		c.down(c.id(d))
	case "drain":
		if err := c.sessions[c.id(d)].Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	case "create": // a line of replicas per partition
		var assignments [][]metadata.BrokerID
		for line := range strings.Lines(d.Input) {
			assignments = append(assignments, parseIDs(t, line))
		}
		c.create(d.CmdArgs[0].Key, assignments...)
	case "isr": // isr <topic> <p> 1,2
		topic, n := c.named(d)
		to := topic.Partitions[n]
		to.ISR = parseIDs(t, d.Input)
		return c.alter([]metadata.PartitionChange{change(topic, int(n), to)})
	case "plan": // plan [unclean=<topic>]
		im, unclean := c.store.Image(), ""
		optional(t, d, "unclean", &unclean)
		return c.alter(Plan(im, func(topic string) bool { return topic == unclean }, im.Topics()...))
	case "prefer":
		return c.alter(Prefer(c.store.Image()))
	case "place":
		var partitions, replicas, start int
		d.ScanArgs(t, "partitions", &partitions)
		d.ScanArgs(t, "replicas", &replicas)
		optional(t, d, "start", &start)
		out, err := Place(c.store.Image().Brokers(), partitions, replicas, start)
		if err != nil {
			return err.Error() + "\n"
		}
		var b strings.Builder
		for _, ids := range out {
			fmt.Fprintln(&b, ids)
		}
		return b.String()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return ""
}

func (c *cluster) id(d *datadriven.TestData) metadata.BrokerID {
	var id metadata.BrokerID
	if _, err := fmt.Sscan(d.CmdArgs[0].Key, &id); err != nil {
		c.t.Fatal(err)
	}
	return id
}

func parseIDs(t *testing.T, s string) []metadata.BrokerID {
	var out []metadata.BrokerID
	for _, f := range strings.Fields(s) {
		var id metadata.BrokerID
		if _, err := fmt.Sscan(f, &id); err != nil {
			t.Fatal(err)
		}
		out = append(out, id)
	}
	return out
}

// alter writes the changes and prints what became of them.
func (c *cluster) alter(changes []metadata.PartitionChange) string {
	for i, err := range c.store.AlterPartitions(c.t.Context(), changes) {
		if err != nil {
			c.t.Fatalf("%s: %v", changes[i].TopicIDPartition, err)
		}
	}
	if len(changes) == 0 {
		return "nothing\n"
	}
	var lines []string
	for _, ch := range changes {
		topic, _ := c.store.Image().TopicByID(ch.Topic)
		lines = append(lines, c.show(topic, ch.Partition))
	}
	return strings.Join(lines, "\n") + "\n"
}

// decided writes what somebody asked for, or says why it cannot be.
func (c *cluster) decided(ch metadata.PartitionChange, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	if ch.To.Equal(ch.From) {
		return "nothing\n"
	}
	return c.alter([]metadata.PartitionChange{ch})
}

// named is the partition that a command names by topic and number.
func (c *cluster) named(d *datadriven.TestData) (*metadata.Topic, int32) {
	c.t.Helper()
	var n int32
	if _, err := fmt.Sscan(d.CmdArgs[1].Key, &n); err != nil {
		c.t.Fatal(err)
	}
	topic, ok := c.store.Image().Topic(d.CmdArgs[0].Key)
	if !ok {
		c.t.Fatalf("no topic %s", d.CmdArgs[0].Key)
	}
	return topic, n
}

func (c *cluster) show(topic *metadata.Topic, n int32) string {
	p := topic.Partitions[n]
	line := fmt.Sprintf("%s-%d leader=%d epoch=%d isr=%v", topic.Name, n, p.Leader, p.LeaderEpoch, p.ISR)
	if p.Reassigning() {
		line += fmt.Sprintf(" replicas=%v adding=%v removing=%v", p.Replicas, p.Adding, p.Removing)
	}
	if p.Recovering {
		line += " recovering"
	}
	if b, ok := c.store.Image().Broker(p.Leader); ok && b.Epoch != p.LeaderBrokerEpoch {
		line += " (of an old registration)"
	}
	return line
}

func TestPlaceNeedsEnoughBrokers(t *testing.T) {
	_, err := Place([]metadata.Broker{{ID: 1}}, 1, 2, 0)
	if !errors.Is(err, ErrTooFewBrokers) {
		t.Errorf("got %v, want ErrTooFewBrokers", err)
	}
	for _, c := range [][2]int{{0, 1}, {1, 0}} {
		if _, err := Place([]metadata.Broker{{ID: 1}}, c[0], c[1], 0); err == nil {
			t.Errorf("%d partitions with %d replicas: accepted", c[0], c[1])
		}
	}
}

func optional(t *testing.T, d *datadriven.TestData, key string, to any) {
	if d.HasArg(key) {
		d.ScanArgs(t, key, to)
	}
}
