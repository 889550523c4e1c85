package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// member is a member of the group. It commits with its own requests: those of
// franz-go hold a lock that a rebalance waits for, and virtual time would stand
// still.
type member struct {
	w    *world
	host string
	cl   *kgo.Client
	late lateCommits

	mu    sync.Mutex
	given *assignment
}

// assignment is a generation in which a member was given something.
type assignment struct {
	id         string
	generation int32
}

// lateCommits notes commits that got no answer: they may be made any time later.
type lateCommits struct {
	mu    sync.Mutex
	doubt bool
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (l *lateCommits) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == int16(kmsg.OffsetCommit) && e2e.Err() != nil {
		l.mu.Lock()
		l.doubt = true
		l.mu.Unlock()
	}
}

func (l *lateCommits) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.doubt
	l.doubt = false
	return had
}

// join makes a member of the group: it notes what it is given and what it sees,
// commits that, and looks at what is committed.
func (w *world) join(ctx context.Context, number int) error {
	m := &member{w: w, host: fmt.Sprintf("member-%d", number)}
	var err error
	m.cl, err = w.client(m.host,
		kgo.ConsumeTopics(topic), kgo.ConsumerGroup(groupName), kgo.DisableAutoCommit(),
		// Without leader epochs (below) a broker is believed that says that an offset
		// is out of its range (KIP-320): see shown.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.Balancers(kgo.RoundRobinBalancer()), kgo.SessionTimeout(4*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.RebalanceTimeout(5*time.Second), kgo.WithHooks(&m.late), kgo.OnPartitionsAssigned(m.assigned),
		// As of Kafka 2.0 clients do not ask for the ends of leader epochs, for which
		// franz-go makes a rebalance wait under a lock.
		kgo.MaxVersions(kversion.V2_0_0()))
	if err != nil {
		return err
	}
	defer m.cl.Close()
	for ctx.Err() == nil {
		a := m.assignment()
		seen := make(map[place]int64)
		fetches := m.cl.PollRecords(ctx, 200)
		w.shown(m.host, fetches, func(at place, r item) {
			w.h.saw(m.host, at, r)
			seen[place{at.topic, at.partition, 0}] = at.offset + 1
		})
		// What was polled while it was given something else is another's.
		if a != nil && a == m.assignment() && len(seen) > 0 {
			m.commit(ctx, a, seen)
		}
		m.committed(ctx)
	}
	return nil
}

func (m *member) assigned(_ context.Context, cl *kgo.Client, given map[string][]int32) {
	id, generation := cl.GroupMetadata()
	for name, list := range given {
		for _, n := range list {
			m.w.h.owns(groupName, generation, place{name, n, 0}, id)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given = &assignment{id: id, generation: generation}
}

func (m *member) assignment() *assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given
}

func committedOf(name string, n int32) string {
	return fmt.Sprintf("committed offset of %s-%d", name, n)
}

// memberTimeout is how long a member waits for one answer about offsets.
const memberTimeout = 5 * time.Second

func (m *member) commit(ctx context.Context, a *assignment, seen map[place]int64) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = groupName, a.generation, a.id
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	floors := make(map[int32]int64)
	for at, next := range seen {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = at.partition, next
		t.Partitions = append(t.Partitions, p)
		floors[at.partition] = m.w.h.floor(committedOf(topic, at.partition))
	}
	req.Topics = append(req.Topics, t)
	m.late.take()
	resp, err := req.RequestWith(ctx, m.cl)
	made := make(map[int32]bool)
	if err == nil {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				made[p.Partition] = p.ErrorCode == 0
			}
		}
	}
	inDoubt := m.late.take() || err != nil
	for at, next := range seen {
		of := committedOf(topic, at.partition)
		if inDoubt {
			m.w.h.late(of, next)
		}
		if made[at.partition] {
			m.w.h.atLeast(m.host+" committing", of, floors[at.partition], next)
		}
	}
}

// committed asks for what is committed.
func (m *member) committed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	floors := make(map[int32]int64)
	for n := range int32(partitions) {
		floors[n] = m.w.h.floor(committedOf(topic, n))
	}
	offsets, err := kadm.NewClient(m.cl).FetchOffsets(ctx, groupName)
	if err != nil {
		return
	}
	for n := range int32(partitions) {
		of := committedOf(topic, n)
		o, ok := offsets.Lookup(topic, n)
		switch {
		case ok && o.Err == nil:
			m.w.h.atLeast(m.host, of, floors[n], o.At)
		case !ok && floors[n] > 0:
			m.w.h.fail("%s was told that there is no %s, which was %d", m.host, of, floors[n])
		}
	}
}
