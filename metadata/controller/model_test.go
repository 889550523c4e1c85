package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// replicas is what the model knows of one partition besides its record: how much
// each replica has on disk, and how much was acked.
type replicas struct {
	acked  int
	has    map[metadata.BrokerID]int
	target []metadata.BrokerID // what the last reassignment wants, or what is to be without it
}

// fleetModel is a cluster of five brokers over a Store in memory that live, die
// and lose disks, while leaders and a controller decide, now and then from an
// image that is out of date.
type fleetModel struct {
	mem      *kv.Mem
	store    *metadata.Store
	sessions map[metadata.BrokerID]*metadata.Session
	disks    map[metadata.BrokerID]int
	runs     int
	unclean  map[string]bool
	parts    map[metadata.TopicIDPartition]*replicas
	last     *metadata.Image // as the last check saw it
	late     *metadata.Image // some image before it
	lostDisk bool            // since the last check
	term     *metadata.Term
	termOf   *metadata.Session
}

const modelBrokers = 5

func (m *fleetModel) broker(t *rapid.T) metadata.BrokerID {
	return metadata.BrokerID(rapid.IntRange(1, modelBrokers).Draw(t, "broker"))
}

func (m *fleetModel) start(t *rapid.T, id metadata.BrokerID) {
	m.runs++
	s, err := m.store.RegisterBroker(t.Context(), metadata.Registration{
		ID: id, DirectoryID: fmt.Sprintf("disk-%d-%d", id, m.disks[id]), Incarnation: fmt.Sprint(m.runs), LeaseTTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	if old := m.sessions[id]; old != nil {
		old.Abandon()
	}
	m.sessions[id] = s
}

func (m *fleetModel) die(t *rapid.T) {
	id := m.broker(t)
	if s := m.sessions[id]; s != nil {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(m.sessions, id)
		m.settle(t)
	}
}

// settle lets the image show what no operation of the store waited for.
func (m *fleetModel) settle(t *rapid.T) {
	wake, stop := m.store.Watch()
	defer stop()
	for len(m.store.Image().Brokers()) != len(m.sessions) {
		select {
		case <-wake:
		case <-t.Context().Done():
			t.Fatal("the image does not show who lives")
		}
	}
}

// comeUp also restarts a broker that lives.
func (m *fleetModel) comeUp(t *rapid.T) { m.start(t, m.broker(t)) }

func (m *fleetModel) loseDisk(t *rapid.T) {
	id := m.broker(t)
	if s := m.sessions[id]; s != nil {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(m.sessions, id)
		m.settle(t)
	}
	m.disks[id]++
	for _, r := range m.parts {
		delete(r.has, id)
	}
	m.lostDisk = true
	m.start(t, id)
}

func (m *fleetModel) drain(t *rapid.T) {
	if s := m.sessions[m.broker(t)]; s != nil {
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// image is the latest one, or one that is out of date.
func (m *fleetModel) image(t *rapid.T) *metadata.Image {
	if rapid.IntRange(0, 3).Draw(t, "late") == 0 {
		return m.late
	}
	return m.store.Image()
}

func (m *fleetModel) remember(*rapid.T) { m.late = m.store.Image() }

// partition draws one partition of an image.
func (m *fleetModel) partition(t *rapid.T, im *metadata.Image) (*metadata.Topic, int32) {
	topics := im.Topics()
	topic := topics[rapid.IntRange(0, len(topics)-1).Draw(t, "topic")]
	return topic, int32(rapid.IntRange(0, len(topic.Partitions)-1).Draw(t, "partition"))
}

// made writes changes; those that come too late must say so.
func (m *fleetModel) made(t *rapid.T, changes []metadata.PartitionChange, write func(context.Context, []metadata.PartitionChange) []error) []bool {
	out := make([]bool, len(changes))
	for i, err := range write(t.Context(), changes) {
		if err != nil && !errors.Is(err, metadata.ErrConflict) {
			t.Fatalf("%+v: %v", changes[i], err)
		}
		out[i] = err == nil
	}
	return out
}

// plan is the controller's step, also of one that was deposed.
func (m *fleetModel) plan(t *rapid.T) {
	im := m.image(t)
	changes := Plan(im, func(topic string) bool { return m.unclean[topic] }, im.Topics()...)
	if m.termOf != m.sessions[1] && m.termOf != m.sessions[2] { // the campaigners
		before := m.revision(t)
		for i, err := range m.term.AlterPartitions(t.Context(), changes) {
			if err != nil && !errors.Is(err, metadata.ErrFenced) && !errors.Is(err, metadata.ErrConflict) { // nil: it is as it wants it
				t.Fatalf("a deposed controller with %+v: %v", changes[i], err)
			}
		}
		if now := m.revision(t); now != before {
			t.Fatalf("a deposed controller changed something: revision %d, was %d", now, before)
		}
		if !m.campaign(t) {
			return
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "prefer") == 0 {
		changes = Prefer(im)
	}
	for i, done := range m.made(t, changes, m.term.AlterPartitions) {
		c := changes[i]
		if done && c.From.Reassigning() && !c.To.Reassigning() && len(without(c.To.Replicas, c.To.ISR)) > 0 {
			t.Fatalf("a reassignment ended before all of its target was in sync: from %+v to %+v", c.From, c.To)
		}
	}
}

func (m *fleetModel) revision(t *rapid.T) int64 {
	resp, err := m.mem.Range(t.Context(), kv.RangeRequest{Key: "any"})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Revision
}

func (m *fleetModel) campaign(t *rapid.T) bool {
	for _, id := range []metadata.BrokerID{1, 2} {
		if s := m.sessions[id]; s != nil {
			term, err := m.store.Campaign(t.Context(), s)
			if err != nil || term == nil {
				t.Fatalf("no term: %v", err)
			}
			m.term, m.termOf = term, s
			return true
		}
	}
	return false
}

// leader returns the session under which a partition is led, nil if nobody can.
func (m *fleetModel) leader(p metadata.Partition) *metadata.Session {
	if s := m.sessions[p.Leader]; s != nil && s.Epoch == p.LeaderBrokerEpoch {
		return s
	}
	return nil
}

// ack appends to a partition: what is acked is on all in-sync replicas.
func (m *fleetModel) ack(t *rapid.T) {
	topic, n := m.partition(t, m.store.Image())
	p := topic.Partitions[n]
	for _, id := range p.ISR {
		if m.sessions[id] == nil || m.leader(p) == nil || p.Recovering {
			return
		}
	}
	if len(p.ISR) > 0 {
		r := m.parts[metadata.TopicIDPartition{Topic: topic.ID, Partition: n}]
		r.acked++
		for _, id := range p.ISR {
			r.has[id] = r.acked
		}
	}
}

// isr is a leader's step: a follower joins or leaves, or the leader has recovered.
func (m *fleetModel) isr(t *rapid.T) {
	im := m.image(t)
	topic, n := m.partition(t, im)
	m.alterISR(t, im, topic, n, m.broker(t))
}

func (m *fleetModel) alterISR(t *rapid.T, im *metadata.Image, topic *metadata.Topic, n int32, id metadata.BrokerID) bool {
	p := topic.Partitions[n]
	follower, live := im.Broker(id)
	to := p
	c := change(topic, int(n), to)
	switch {
	case m.leader(p) == nil:
		return false
	case p.Recovering:
		c.To.Recovering = false
	case slices.Contains(p.ISR, id) && id != p.Leader:
		c.To.ISR = without(p.ISR, []metadata.BrokerID{id})
	case slices.Contains(p.Replicas, id) && live && !follower.Draining && id != p.Leader:
		c.To.ISR = append(slices.Clone(p.ISR), id)
		c.Joins = map[metadata.BrokerID]int64{id: follower.Epoch}
	default:
		return false
	}
	r := m.parts[c.TopicIDPartition]
	done := m.made(t, []metadata.PartitionChange{c}, m.store.AlterPartitions)[0]
	if done && c.Joins != nil {
		if s := m.sessions[id]; s == nil || s.Epoch != follower.Epoch {
			t.Fatalf("broker %d joined under a registration that is gone", id)
		}
		r.has[id] = r.has[p.Leader]
	}
	return done
}

func (m *fleetModel) reassign(t *rapid.T) {
	im := m.image(t)
	topic, n := m.partition(t, im)
	p := topic.Partitions[n]
	var target []metadata.BrokerID
	if !p.Reassigning() || rapid.IntRange(0, 2).Draw(t, "cancel") > 0 {
		all := []metadata.BrokerID{1, 2, 3, 4, 5}
		target = rapid.Permutation(all).Draw(t, "target")[:rapid.IntRange(1, 4).Draw(t, "factor")]
	}
	c, err := Reassign(im, topic, n, target)
	if err != nil {
		if !errors.Is(err, ErrInvalidReplicas) {
			t.Fatal(err)
		}
		return
	}
	if m.made(t, []metadata.PartitionChange{c}, m.store.AlterPartitions)[0] && !c.To.Equal(c.From) {
		if target == nil {
			target = without(p.Replicas, p.Adding)
		}
		m.parts[c.TopicIDPartition].target = target
	}
}

func (m *fleetModel) elect(t *rapid.T) {
	im := m.image(t)
	topic, n := m.partition(t, im)
	c, err := Elect(im, topic, n, rapid.IntRange(0, 9).Draw(t, "unclean") == 0)
	if err == nil {
		m.made(t, []metadata.PartitionChange{c}, m.store.AlterPartitions)
	}
}

func (m *fleetModel) allow(t *rapid.T) { m.unclean["t1"] = !m.unclean["t1"] }

// check holds what must hold at any time against what was at the last check.
func (m *fleetModel) check(t *rapid.T) {
	now := m.store.Image()
	for _, topic := range now.Topics() {
		for n, p := range topic.Partitions {
			tip := metadata.TopicIDPartition{Topic: topic.ID, Partition: int32(n)}
			before, _ := m.last.PartitionByID(tip)
			m.checkPartition(t, before, p, m.parts[tip])
		}
	}
	m.last, m.lostDisk = now, false
}

func (m *fleetModel) checkPartition(t *rapid.T, before, p metadata.Partition, r *replicas) {
	bad := func(what string) { t.Fatalf("%s:\n   was %+v\nis now %+v\n%+v", what, before, p, *r) }
	if p.Recovering && !before.Recovering || p.Recovering && p.Leader != before.Leader {
		r.acked = r.has[p.Leader] // an unclean election: this is what there is
	}
	moved := p.Leader != before.Leader || p.LeaderBrokerEpoch != before.LeaderBrokerEpoch
	switch {
	case p.Leader != metadata.NoBroker && !slices.Contains(p.ISR, p.Leader):
		bad("the leader is not in sync")
	case len(without(p.ISR, p.Replicas)) > 0:
		bad("an in-sync replica is none")
	case len(without(p.Adding, p.Replicas)) > 0 || len(without(p.Removing, p.Replicas)) > 0:
		bad("what is added or removed is no replica")
	case moved && p.LeaderEpoch <= before.LeaderEpoch, p.LeaderEpoch < before.LeaderEpoch:
		bad("the leader epoch did not grow")
	case !p.Equal(before) && p.Epoch <= before.Epoch:
		bad("the partition epoch did not grow")
	case len(p.ISR) == 0 && len(before.ISR) > 0 && !m.lostDisk:
		bad("the last in-sync replica was forgotten")
	case !slices.Equal(without(p.Replicas, p.Removing), r.target):
		bad("the replicas are not the target")
	}
	for _, id := range p.ISR {
		if r.has[id] < r.acked {
			bad(fmt.Sprintf("broker %d is in sync and does not have what was acked", id))
		}
	}
}

// finish lets all come back and expects the cluster to come to rest as it should be.
func (m *fleetModel) finish(t *rapid.T) {
	for id := range metadata.BrokerID(modelBrokers) {
		m.start(t, id+1)
	}
	if !m.campaign(t) {
		t.Fatal("nobody to campaign")
	}
	for busy := true; busy; {
		busy = false
		im := m.store.Image()
		changes := Plan(im, nil, im.Topics()...)
		for _, done := range m.made(t, changes, m.term.AlterPartitions) {
			busy = busy || done
		}
		im = m.store.Image()
		for _, topic := range im.Topics() {
			for n, p := range topic.Partitions {
				for _, id := range p.Replicas {
					if latest, _ := m.store.Image().TopicByID(topic.ID); !slices.Contains(latest.Partitions[n].ISR, id) && m.alterISR(t, m.store.Image(), latest, int32(n), id) {
						busy = true
					}
				}
			}
		}
		m.check(t)
	}
	for _, topic := range m.store.Image().Topics() {
		for n, p := range topic.Partitions {
			tip := metadata.TopicIDPartition{Topic: topic.ID, Partition: int32(n)}
			switch {
			case len(p.ISR) == 0:
				if p.Leader != metadata.NoBroker {
					t.Fatalf("%s-%d: led without anybody in sync: %+v", topic.Name, n, p)
				}
			case p.Leader == metadata.NoBroker || p.Reassigning() || len(p.ISR) != len(p.Replicas) || !slices.Equal(p.Replicas, m.parts[tip].target):
				t.Fatalf("%s-%d is %+v, want led and in sync on %v", topic.Name, n, p, m.parts[tip].target)
			}
		}
	}
}

func TestDecisionsNeverLoseWhatWasAcked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := kv.NewMemWith(kv.MemOptions{MaxTxnOps: rapid.IntRange(5, 10).Draw(t, "transaction size")})
		store, err := metadata.Open(t.Context(), metadata.Options{KV: mem})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		m := &fleetModel{
			mem: mem, store: store, sessions: map[metadata.BrokerID]*metadata.Session{}, disks: map[metadata.BrokerID]int{},
			unclean: map[string]bool{}, parts: map[metadata.TopicIDPartition]*replicas{},
		}
		defer func() {
			for _, s := range m.sessions {
				s.Abandon()
			}
			cancel()
			<-done
		}()
		for id := range metadata.BrokerID(modelBrokers) {
			m.start(t, id+1)
		}
		for name, assignments := range map[string][][]metadata.BrokerID{
			"t0": {ids(1, 2, 3), ids(2, 3), ids(4)}, "t1": {ids(3, 4, 5), ids(1, 5), ids(5, 1, 2, 4)},
		} {
			topic, err := store.CreateTopic(t.Context(), metadata.TopicSpec{Name: name, Assignments: assignments})
			if err != nil {
				t.Fatal(err)
			}
			for n, target := range assignments {
				m.parts[metadata.TopicIDPartition{Topic: topic.ID, Partition: int32(n)}] = &replicas{has: map[metadata.BrokerID]int{}, target: target}
			}
		}
		m.last, m.late = store.Image(), store.Image()
		m.campaign(t)
		t.Repeat(map[string]func(*rapid.T){
			"": m.check, "die": m.die, "come up": m.comeUp, "lose disk": m.loseDisk, "drain": m.drain, "remember": m.remember,
			"plan": m.plan, "plan again": m.plan, "isr": m.isr, "isr again": m.isr, "ack": m.ack, "reassign": m.reassign, "elect": m.elect, "allow": m.allow,
		})
		m.finish(t)
	})
}
