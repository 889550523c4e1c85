package api_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokers starts three brokers of one cluster.
func brokers(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t).start(nil)
	for id := 2; id <= 3; id++ {
		n := newCluster(t)
		n.network, n.kv, n.objects = c.network, c.kv, c.objects
		n.start(map[string]string{"node.id": fmt.Sprint(id), "listeners": text("PLAINTEXT://broker-%d:9092", id)})
	}
	c.until("all brokers are known", func(k *conn) bool {
		return len(do[*kmsg.MetadataResponse](k, askTopic(12, "t", false)).Brokers) == 3
	})
	return c
}

// moveLeader makes another replica the preferred leader of a partition, and the
// leader, and says whether it did: one that is not in sync cannot lead.
func (k *conn) moveLeader(topic string, partition int32) bool {
	k.t.Helper()
	_, rt := k.metadataOf(topic)
	was := rt.Partitions[partition]
	r := was.Replicas
	code(k.t, "reorder replicas", k.reassign(reassignRequest(1, topic, partition, append(r[1:len(r):len(r)], r[0]))).ErrorCode, nil)
	e := do[*kmsg.ElectLeadersResponse](k, electRequest(2, 0, topic, partition)).Topics[0].Partitions[0]
	if e.ErrorCode != kerr.PreferredLeaderNotAvailable.Code && e.ErrorCode != kerr.ElectionNotNeeded.Code {
		code(k.t, "elect", e.ErrorCode, nil)
	}
	_, rt = k.metadataOf(topic)
	return rt.Partitions[partition].Leader != was.Leader
}

// TestGroupSurvivesCoordinatorMoves has real clients share a group while its
// coordinator moves from broker to broker: they see no error, everything is
// consumed, and what they committed at the end is there. (Not in a bubble: the
// client's own locks would hang it.)
func TestGroupSurvivesCoordinatorMoves(t *testing.T) {
	const rounds, batch = 10, 30
	c := brokers(t)
	k := c.dial()
	code(t, "create", k.assigned("t", []int32{1, 2, 3}, []int32{2, 3, 1}, []int32{3, 1, 2}).ErrorCode, nil)
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address), kgo.Dialer(c.network.Dial))...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	ctx, cancel := context.WithCancel(t.Context())
	var consumers sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[string]int)
	for range 2 {
		cl := client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond))
		consumers.Go(func() {
			defer cl.Close()
			for {
				fs := cl.PollFetches(ctx)
				for _, err := range fs.Errors() {
					if !errors.Is(err.Err, context.Canceled) {
						t.Errorf("poll: %v", err)
					}
				}
				mu.Lock()
				fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				mu.Unlock()
				if ctx.Err() != nil {
					return
				}
			}
		})
	}
	p := client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer p.Close()
	moves := 0
	for round := range rounds {
		for i := range batch {
			if err := p.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: fmt.Append(nil, round*batch+i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		c.until("everything is consumed", func(*conn) bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) == (round+1)*batch
		})
		for n := range int32(2) { // the group's partition is one of them
			if k.moveLeader("__consumer_offsets", n) {
				moves++
			}
		}
	}
	if moves < rounds {
		t.Errorf("coordinators moved %d times: too few to say anything", moves)
	}
	// A client that closes commits what it consumed.
	cancel()
	consumers.Wait()
	same(t, "sum of the committed offsets", committed(t, p, "g", "t", 3), rounds*batch)
}

// committed is the sum of a group's offsets.
func committed(t *testing.T, cl *kgo.Client, group, topic string, partitions int32) (sum int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	g, rt := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroupTopic()
	g.Group, rt.Topic = group, topic
	for n := range partitions {
		rt.Partitions = append(rt.Partitions, n)
	}
	g.Topics = append(g.Topics, rt)
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	code(t, "offset fetch", resp.Groups[0].ErrorCode, nil)
	for _, p := range resp.Groups[0].Topics[0].Partitions {
		code(t, "offset fetch", p.ErrorCode, nil)
		sum += p.Offset
	}
	return sum
}
