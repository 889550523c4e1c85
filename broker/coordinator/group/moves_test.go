package group

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

// moves is three brokers' coordinators of one replicated partition, whose
// leadership moves all the time, and clients that use it.
type moves struct {
	t    *testing.T
	seed uint64
	log  *memlog.Replicas
	at   []*Coordinator

	mu        sync.Mutex
	owners    map[int32]map[string]string // by generation and partition: the member
	synced    int
	attempted int64 // the offset of the last commit that was sent
	acked     int64 // of the last that was acknowledged
	fetched   int
	failures  []string
}

func (m *moves) fail(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures = append(m.failures, fmt.Sprintf(format, args...))
}

// pause takes some of the virtual time, drawn from the caller's generator.
func pause(ctx context.Context, rng *rand.Rand, most time.Duration) bool {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
		return true
	case <-ctx.Done():
		return false
	}
}

// some is the coordinator a client asks: mostly the leader's.
func (m *moves) some(rng *rand.Rand) *Coordinator {
	if rng.IntN(3) == 0 {
		return m.at[rng.IntN(len(m.at))]
	}
	return m.at[m.log.Leader()]
}

// lead moves leadership until ctx ends.
func (m *moves) lead(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, rng, 8*time.Second) {
		from := m.log.Leader()
		if !m.log.Elect(rng.IntN(len(m.at)), rng.IntN(2) == 0) {
			continue
		}
		// Who is told first, and how late the old leader is, is chance.
		for _, i := range rng.Perm(len(m.at)) {
			if wait := 400 * time.Millisecond; !pause(ctx, rng, wait) || i == from && rng.IntN(2) == 0 && !pause(ctx, rng, 10*wait) {
				break
			}
			m.tell(i)
		}
		m.tell(from)
	}
	for i := range m.at {
		m.tell(i)
	}
}

// tell does what the replica manager does: a deposed coordinator ends before its
// log follows another leader.
func (m *moves) tell(i int) {
	epoch, began := m.log.Tell(i)
	if began {
		m.at[i].Load(0, epoch)
	} else if m.log.Leader() != i {
		m.at[i].Unload(0, epoch)
	}
}

func (m *moves) replicate(ctx context.Context, rng *rand.Rand, i int) {
	for pause(ctx, rng, 100*time.Millisecond) {
		m.log.Replicate(i)
	}
}

// commit commits 1, 2, 3 and so on, each until it is acknowledged.
func (m *moves) commit(ctx context.Context, rng *rand.Rand) {
	for n := int64(1); ; n++ {
		m.mu.Lock()
		m.attempted = n
		m.mu.Unlock()
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 9, "plain", -1
		rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
		rt.Topic, rp.Offset = "t", n
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		for m.some(rng).OffsetCommit(ctx, Client{}, req).Topics[0].Partitions[0].ErrorCode != 0 {
			if !pause(ctx, rng, 200*time.Millisecond) {
				return
			}
		}
		m.mu.Lock()
		m.acked = n
		m.mu.Unlock()
		if !pause(ctx, rng, 300*time.Millisecond) {
			return
		}
	}
}

// fetch checks that committed offsets never go back, whoever is asked.
func (m *moves) fetch(ctx context.Context, rng *rand.Rand) {
	seen := int64(0)
	for pause(ctx, rng, 200*time.Millisecond) {
		m.mu.Lock()
		least := max(m.acked, seen)
		m.mu.Unlock()
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 8
		g, rt := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = "t", []int32{0}
		g.Group, g.Topics = "plain", append(g.Topics, rt)
		req.Groups = append(req.Groups, g)
		got := m.some(rng).OffsetFetch(ctx, Client{}, req).Groups[0]
		if got.ErrorCode != 0 {
			continue
		}
		m.mu.Lock()
		m.fetched++
		most := m.attempted
		m.mu.Unlock()
		if n := max(got.Topics[0].Partitions[0].Offset, 0); n < least || n > most {
			m.fail("fetched offset %d: %d was acknowledged or seen before, %d the last that was sent", n, least, most)
		} else {
			seen = n
		}
	}
}

// consume is a member of the group, and joins again and again.
func (m *moves) consume(ctx context.Context, rng *rand.Rand, name string) {
	id := ""
	for pause(ctx, rng, 500*time.Millisecond) {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.MemberID, join.ProtocolType = 9, "g", id, "consumer"
		join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 6000, 3000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = "range"
		join.Protocols = append(join.Protocols, p)
		c := m.some(rng)
		joined := c.JoinGroup(ctx, Client{ID: name}, join)
		switch joined.ErrorCode {
		case 0, kerr.MemberIDRequired.Code:
			id = joined.MemberID
		case codeUnknownMember:
			id = ""
		}
		if joined.ErrorCode != 0 {
			continue
		}
		if rng.IntN(4) == 0 && !pause(ctx, rng, 2*time.Second) {
			return
		}
		for tries := 0; tries < 3; tries++ {
			if got := c.SyncGroup(ctx, Client{ID: name}, syncRequest(joined)); got.ErrorCode == 0 {
				m.owns(joined.Generation, id, string(got.MemberAssignment))
				m.beat(ctx, rng, joined)
				break
			}
			c = m.some(rng) // as clients do: they look for the coordinator and ask it again
			if !pause(ctx, rng, 300*time.Millisecond) {
				return
			}
		}
	}
}

// syncRequest spreads five partitions over the members, if this one leads.
func syncRequest(joined *kmsg.JoinGroupResponse) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.Generation, req.MemberID = 5, "g", joined.Generation, joined.MemberID
	req.ProtocolType, req.Protocol = joined.ProtocolType, joined.Protocol
	if joined.LeaderID != joined.MemberID {
		return req
	}
	for i, member := range joined.Members {
		var parts []string
		for p := i; p < 5; p += len(joined.Members) {
			parts = append(parts, fmt.Sprint(p))
		}
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = member.MemberID, []byte(strings.Join(parts, ","))
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	return req
}

// owns notes what a member was told to consume.
func (m *moves) owns(generation int32, member, assignment string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced++
	if m.owners[generation] == nil {
		m.owners[generation] = make(map[string]string)
	}
	for p := range strings.SplitSeq(assignment, ",") {
		if other := m.owners[generation][p]; p != "" && other != "" && other != member {
			m.failures = append(m.failures, fmt.Sprintf("generation %d: partition %s belongs to %s and %s", generation, p, other, member))
		}
		m.owners[generation][p] = member
	}
}

// beat sends heartbeats until the member has to join again.
func (m *moves) beat(ctx context.Context, rng *rand.Rand, joined *kmsg.JoinGroupResponse) {
	for range rng.IntN(20) {
		if !pause(ctx, rng, time.Second) {
			return
		}
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.Generation, req.MemberID = 4, "g", joined.Generation, joined.MemberID
		switch m.some(rng).Heartbeat(ctx, Client{}, req).ErrorCode {
		case codeRebalance, codeIllegalGeneration, codeUnknownMember:
			return
		}
	}
}

// run lets everybody work for some minutes and then waits for the last of them.
func (m *moves) run() {
	ctx, cancel := context.WithCancel(m.t.Context())
	var clients, brokers sync.WaitGroup
	rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(m.seed, n)) }
	for i := range 3 {
		config := testConfig()
		config.InitialRebalanceDelay = 100 * time.Millisecond
		c, err := New(Options{Log: m.log.Log(i), Config: config})
		if err != nil {
			m.t.Fatal(err)
		}
		m.at = append(m.at, c)
		brokers.Go(func() {
			if err := c.Run(ctx); err != nil {
				m.t.Error(err)
			}
		})
	}
	m.log.Elect(0, false)
	m.tell(0)
	working, stop := context.WithTimeout(ctx, 3*time.Minute)
	defer stop()
	for i := range 3 {
		brokers.Go(func() { m.replicate(ctx, rng(uint64(i)), i) })
		clients.Go(func() { m.consume(working, rng(uint64(10+i)), fmt.Sprint("c", i)) })
		clients.Go(func() { m.fetch(working, rng(uint64(20+i))) })
	}
	clients.Go(func() { m.commit(working, rng(30)) })
	clients.Go(func() { m.lead(working, rng(31)) })
	clients.Wait()
	last, end := context.WithTimeout(ctx, time.Minute)
	reader := rng(40)
	m.fetch(last, reader) // everybody knows the leader now: what was acknowledged is there
	end()
	cancel()
	brokers.Wait()
}

// TestCoordinatorMovesHideNothing moves the leadership of the offsets topic at
// any moment, with leaders that are told late: committed offsets never go back,
// nothing is shown that a later leader does not have, and no two members own a
// partition in one generation.
func TestCoordinatorMovesHideNothing(t *testing.T) {
	synced, acked, fetched := 0, int64(0), 0
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			m := &moves{t: t, seed: seed, log: memlog.NewReplicas(3), owners: make(map[int32]map[string]string)}
			m.run()
			if len(m.failures) > 0 {
				slices.Sort(m.failures)
				t.Errorf("seed %d: %s", seed, strings.Join(slices.Compact(m.failures), "\n"))
			}
			synced, acked, fetched = synced+m.synced, acked+m.acked, fetched+m.fetched
		})
	}
	t.Logf("%d assignments, %d commits, %d fetches", synced, acked, fetched)
	if synced < 100 || acked < 1000 || fetched < 1000 {
		t.Errorf("%d assignments, %d commits, %d fetches: too few to say anything", synced, acked, fetched)
	}
}
