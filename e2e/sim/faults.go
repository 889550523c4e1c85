package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// kinds are all that may happen. Adding one leaves the others' steps as they
// were; changing a line changes what every seed means for that kind.
func kinds() []*kind {
	s := time.Second
	return []*kind{
		{"power loss", 16 * s, 80, 6 * s, withNode(powerLoss)},
		{"clean restart", 22 * s, 70, 3 * s, withNode(cleanRestart)},
		{"disk lost", 25 * s, 60, 4 * s, withNode(diskLost)},
		{"pause", 18 * s, 70, 8 * s, withNode(pause)},
		{"disk fails", 36 * s, 40, 3 * s, withNode(diskFails)},
		{"disk full", 36 * s, 40, 5 * s, withNode(diskFull)},
		{"slow disk", 18 * s, 50, 6 * s, slowDisk},
		{"brokers cut", 18 * s, 70, 7 * s, brokersCut},
		{"brokers half-open", 18 * s, 70, 7 * s, brokersHalfOpen},
		{"client cut", 14 * s, 60, 6 * s, clientCut},
		{"connections reset", 11 * s, 60, 0, connectionsReset},
		{"broker without etcd", 14 * s, 70, 8 * s, brokerWithoutEtcd},
		{"etcd away", 27 * s, 50, 10 * s, etcdAway},
		{"lease lost", 16 * s, 60, 0, leaseLost},
		{"store trouble", 16 * s, 70, 8 * s, storeTrouble},
		{"broker without store", 16 * s, 50, 8 * s, brokerWithoutStore},
		{"topic created", 13 * s, 60, 0, topicCreated},
		{"topic deleted", 22 * s, 60, 0, topicDeleted},
		{"reassignment", 11 * s, 70, 0, reassignment},
		{"leader election", 11 * s, 60, 0, leaderElection},
		{"settings changed", 13 * s, 60, 0, settingsChanged},
	}
}

// withNode does what needs a broker's life to itself, and leaves it out while
// another step has it.
func withNode(do func(ctx context.Context, n *node, s step)) func(ctx context.Context, w *world, s step) {
	return func(ctx context.Context, w *world, s step) {
		n := w.nodes[s.a%len(w.nodes)]
		select {
		case n.turn <- struct{}{}:
		default:
			w.note("%s of %s left out: busy", s.kind.name, n.host)
			return
		}
		defer func() { <-n.turn }()
		w.note("%s of %s for %v", s.kind.name, n.host, s.d)
		do(ctx, n, s)
	}
}

// powerLoss is sometimes silent: no machine says goodbye for another's power.
func powerLoss(ctx context.Context, n *node, s step) {
	silent := s.n%2 == 0
	if silent {
		n.w.cutOff(n.host, true)
	}
	n.crash([]int{0, 50, 100}[s.n/2%3])
	time.Sleep(s.d)
	if silent {
		n.w.cutOff(n.host, false)
	}
	n.start(ctx)
}

func cleanRestart(ctx context.Context, n *node, s step) {
	n.stop()
	time.Sleep(s.d)
	n.start(ctx)
}

// leaseEnd is how long after a broker's death its registration has surely ended.
const leaseEnd = 4 * time.Second

// diskLost takes a machine with its disk, if the promise covers that: what is in
// etcd decides, once nothing of the broker can change it any more and nobody
// takes it for living. (Before that, others may still leave the in-sync replicas
// to it alone: nobody keeps who was in sync then, as KIP-966 does.)
func diskLost(ctx context.Context, n *node, s step) {
	n.crash(50)
	for end := time.Now().Add(leaseEnd); time.Now().Before(end) || n.w.truth.lease(n.id) != 0; {
		time.Sleep(100 * time.Millisecond)
	}
	n.w.losing <- struct{}{} // one decides at a time
	var bare []metadata.BrokerID
	for _, other := range n.w.nodes {
		if other != n && other.bare.Load() {
			bare = append(bare, other.id)
		}
	}
	if n.bare.Load() || n.w.truth.mayLose(n.id, bare) {
		n.w.note("%s lost its disk", n.host)
		n.bare.Store(true)
		n.swap(vfs.NewMem())
	} else {
		n.w.note("%s keeps its disk: nobody else has all", n.host)
	}
	<-n.w.losing
	time.Sleep(s.d)
	n.start(ctx)
}

func pause(_ context.Context, n *node, s step) {
	n.pause()
	time.Sleep(s.d)
	n.resume()
	n.w.note("%s goes on", n.host)
}

// diskFails makes one sync fail, which is final until the broker starts again.
func diskFails(ctx context.Context, n *node, s step) {
	n.failSync.Store(true)
	time.Sleep(s.d + 2*time.Second)
	n.failSync.Store(false)
	if n.diskFailed.Load() {
		n.crash([]int{0, 50}[s.n%2])
		n.start(ctx)
	}
}

func diskFull(ctx context.Context, n *node, s step) {
	n.fill(int64(s.n%5) << 14)
	time.Sleep(s.d)
	n.fill(0)
	n.stop()
	n.start(ctx)
}

func slowDisk(_ context.Context, w *world, s step) {
	n := w.nodes[s.a%len(w.nodes)]
	w.note("%s has a slow disk for %v", n.host, s.d)
	n.slow.set("slow", s.d)
}

// two are two different brokers.
func (w *world) two(s step) (a, b *node) {
	i := s.a % len(w.nodes)
	j := (i + 1 + s.b%(len(w.nodes)-1)) % len(w.nodes)
	return w.nodes[i], w.nodes[j]
}

func brokersCut(_ context.Context, w *world, s step) {
	a, b := w.two(s)
	w.note("%s and %s do not reach each other for %v", a.host, b.host, s.d)
	w.cut(a.host, b.host, true)
	w.cut(b.host, a.host, true)
	time.Sleep(s.d)
	w.cut(a.host, b.host, false)
	w.cut(b.host, a.host, false)
}

func brokersHalfOpen(_ context.Context, w *world, s step) {
	a, b := w.two(s)
	w.note("%s does not reach %s for %v", a.host, b.host, s.d)
	w.cut(a.host, b.host, true)
	time.Sleep(s.d)
	w.cut(a.host, b.host, false)
}

// clientCut cuts one or both directions between a client and a broker.
func clientCut(_ context.Context, w *world, s step) {
	n, c := w.nodes[s.a%len(w.nodes)], clientHosts[s.b%len(clientHosts)]
	w.note("%s and %s do not reach each other for %v, directions %d", n.host, c, s.d, s.n%3)
	there, back := s.n%3 != 0, s.n%3 != 1
	for _, on := range []bool{true, false} {
		if there {
			w.cut(c, n.host, on)
		}
		if back {
			w.cut(n.host, c, on)
		}
		if on {
			time.Sleep(s.d)
		}
	}
}

func connectionsReset(_ context.Context, w *world, s step) {
	a, b := w.two(s)
	w.network.Reset(a.host, b.host)
	for _, c := range clientHosts {
		w.network.Reset(a.host, c)
	}
}

var storeModes = []string{"refuse", "hang", "deaf", "slow"}

func brokerWithoutEtcd(_ context.Context, w *world, s step) {
	n := w.nodes[s.a%len(w.nodes)]
	mode := storeModes[s.b%3]
	w.note("etcd does not answer %s for %v: %s", n.host, s.d, mode)
	n.etcd.set(mode, s.d)
}

func etcdAway(_ context.Context, w *world, s step) {
	mode := storeModes[s.b%3]
	w.note("etcd answers nobody for %v: %s", s.d, mode)
	w.etcd.set(mode, s.d)
}

func leaseLost(ctx context.Context, w *world, s step) {
	n := w.nodes[s.a%len(w.nodes)]
	id := w.truth.lease(n.id)
	if id == 0 {
		return
	}
	w.note("%s loses its lease", n.host)
	if err := w.kv.Revoke(ctx, id); err != nil {
		w.note("lease of %s: %v", n.host, err)
	}
}

func storeTrouble(_ context.Context, w *world, s step) {
	mode := storeModes[s.b%len(storeModes)]
	w.note("the object store answers nobody for %v: %s", s.d, mode)
	w.store.set(mode, s.d)
}

func brokerWithoutStore(_ context.Context, w *world, s step) {
	n := w.nodes[s.a%len(w.nodes)]
	mode := storeModes[s.b%len(storeModes)]
	w.note("the object store does not answer %s for %v: %s", n.host, s.d, mode)
	n.store.set(mode, s.d)
}

// adminTimeout bounds what an operator waits for.
const adminTimeout = 8 * time.Second

func topicCreated(ctx context.Context, w *world, s step) {
	name := fmt.Sprintf("other-%d", s.at.Milliseconds())
	w.note("create topic %s", name)
	if err := w.createTopic(ctx, name, 2); err != nil {
		w.note("create topic %s: %v", name, err)
		return
	}
	w.h.mu.Lock()
	w.others = append(w.others, name)
	w.h.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	w.produceSome(bounded, name, uint32(s.at.Milliseconds())+1000, 20)
}

func topicDeleted(ctx context.Context, w *world, s step) {
	w.h.mu.Lock()
	var name string
	if len(w.others) > 0 {
		name, w.others = w.others[0], w.others[1:]
	}
	w.h.mu.Unlock()
	if name == "" {
		return
	}
	w.note("delete topic %s", name)
	w.h.forget(name)
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	if _, err := w.admin.DeleteTopic(ctx, name); err != nil {
		w.note("delete topic %s: %v", name, err)
	}
}

// target is one of the partitions that everybody uses.
func (w *world) target(n int) (string, int32) {
	if n %= partitions + 2; n >= partitions {
		return offsetsTopic, int32(n - partitions)
	}
	return topic, int32(n)
}

func reassignment(ctx context.Context, w *world, s step) {
	name, n := w.target(s.a)
	var to []int32
	for i := range w.replicating {
		to = append(to, int32((s.b+i)%w.replicating+1))
	}
	if s.n%2 == 0 {
		to[0], to[1] = to[1], to[0]
	}
	to = to[:replicas]
	if s.n%7 == 0 {
		to = nil // cancel
	}
	w.note("reassign %s-%d to %v", name, n, to)
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign(name, n, to)
	resp, err := w.admin.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		w.note("reassign %s-%d: %v", name, n, err)
	}
}

func leaderElection(ctx context.Context, w *world, s step) {
	name, n := w.target(s.a)
	w.note("elect the preferred leader of %s-%d", name, n)
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	set := make(kadm.TopicsSet)
	set.Add(name, n)
	if _, err := w.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
		w.note("elect %s-%d: %v", name, n, err)
	}
}

func settingsChanged(ctx context.Context, w *world, s step) {
	choices := []struct{ name, value string }{
		{"log.segment.bytes", "1048576"}, {"log.segment.bytes", "2097152"}, {"leader.replication.throttled.rate", "100000"},
		{"leader.replication.throttled.rate", "100000000"}, {"log.local.retention.bytes", "4096"}, {"remote.copy.max.age.ms", "2000"},
	}
	c := choices[s.n%uint64(len(choices))]
	w.note("set %s to %s", c.name, c.value)
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: c.name, Value: &c.value}}
	if _, err := w.admin.AlterBrokerConfigs(ctx, set); err != nil {
		w.note("set %s: %v", c.name, err)
	}
}

// latency is that of every link. Without any, two that send each other back and
// forth would do so for ever at one moment of virtual time.
const latency = time.Millisecond

// cut makes, or ends, one reason for a link to carry nothing.
func (w *world) cut(from, to string, on bool) {
	w.linkMu.Lock()
	defer w.linkMu.Unlock()
	l := [2]string{from, to}
	if on {
		w.cuts[l]++
	} else {
		w.cuts[l]--
	}
	w.network.SetFault(from, to, wire.Fault{Cut: w.cuts[l] > 0, Delay: latency})
}

// cutOff cuts a host off from all others, or ends that.
func (w *world) cutOff(host string, on bool) {
	for _, other := range w.hosts() {
		if other != host {
			w.cut(host, other, on)
			w.cut(other, host, on)
		}
	}
}
