package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// poll asks for partitions 0, 1, … of topic t and waits for up to 5 s.
func poll(minBytes int, offsets ...int64) *kmsg.FetchRequest {
	req := at(kmsg.NewPtrFetchRequest(), 12)
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis, req.SessionEpoch = 1<<20, int32(minBytes), 5000, -1
	for n, offset := range offsets {
		addFetch(req, "t", metadata.TopicID{}, int32(n), offset)
	}
	return req
}

// fetched prints what a fetch gave, by partition.
func fetched(t *testing.T, req *kmsg.FetchRequest, resp *kmsg.FetchResponse) string {
	var out []string
	for i, rt := range resp.Topics {
		for j, p := range rt.Partitions {
			if p.ErrorCode != 0 {
				out = append(out, codeName(p.ErrorCode))
			} else {
				out = append(out, fmt.Sprint(values(t, p.RecordBatches, req.Topics[i].Partitions[j].FetchOffset)))
			}
		}
	}
	return strings.Join(out, " ")
}

// TestLongPollsEndWhenTheyHaveWhatTheyWant checks each reason for which a fetch
// is answered, and that it is answered then and not later.
func TestLongPollsEndWhenTheyHaveWhatTheyWant(t *testing.T) {
	size := len(batch("x"))
	bounded := poll(1<<30, 1, 1)
	bounded.MaxBytes = int32(size)
	partly, wholly := poll(1, 1, 1), poll(1)
	addFetch(partly, "nowhere", metadata.TopicID{}, 0, 0)
	addFetch(wholly, "nowhere", metadata.TopicID{}, 0, 0)
	for _, q := range []struct {
		what string
		req  *kmsg.FetchRequest
		took time.Duration // partition 1 gets a record after 1 s and after 2 s
		got  string
	}{
		{"data is there", poll(1, 0, 1), 0, "[0] []"},
		{"data arrives", poll(1, 1, 1), time.Second, "[] [1]"},
		{"enough data arrives", poll(2*size, 1, 1), 2 * time.Second, "[] [1 2]"},
		{"never enough", poll(1<<19, 1, 1), 5 * time.Second, "[] [1 2]"},
		{"more wanted than may be given", bounded, time.Second, "[] [1]"},
		{"no data", poll(1, 1), 5 * time.Second, "[]"},
		{"nothing asked for", poll(1), 0, ""},
		{"no bytes wanted", poll(0, 1), 0, "[]"},
		{"an error", poll(1, 1, 99), 0, "[] OFFSET_OUT_OF_RANGE"},
		{"a topic that is gone does not make the client spin", partly, time.Second, "[] [1] UNKNOWN_TOPIC_OR_PARTITION"},
		{"nothing else is asked for", wholly, 0, "UNKNOWN_TOPIC_OR_PARTITION"},
	} {
		t.Run(q.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t).start(nil)
				s, writer := c.dial(), c.dial()
				s.topic("t", 2)
				s.produce("t", 0, "0")
				s.produce("t", 1, "0")
				var writing sync.WaitGroup
				began := time.Now()
				s.send(q.req)
				writing.Go(func() {
					for i := range 2 {
						time.Sleep(time.Second)
						writer.produce("t", 1, fmt.Sprint(i+1))
					}
				})
				resp := s.receive(q.req).(*kmsg.FetchResponse)
				same(t, "took", time.Since(began), q.took)
				same(t, "got", fetched(t, q.req, resp), q.got)
				writing.Wait()
			})
		})
	}
}

// TestNoWakeUpIsLost lets polls and appends race: each record must be with its
// reader at the instant it is acknowledged.
func TestNoWakeUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s, writer := c.dial(), c.dial()
		s.topic("t", 1)
		began := time.Now()
		var reading sync.WaitGroup
		reading.Go(func() {
			for offset := int64(0); offset < 200; {
				req := poll(1, offset)
				p := do[*kmsg.FetchResponse](s, req).Topics[0].Partitions[0]
				offset += int64(len(values(t, p.RecordBatches, offset)))
			}
		})
		for i := range 200 {
			writer.produce("t", 0, fmt.Sprint(i))
		}
		reading.Wait()
		same(t, "all of it took", time.Since(began), 0)
	})
}

// TestFirstPartitionGivesOneBatchHoweverLarge is KIP-74, and that limits hold otherwise.
func TestFirstPartitionGivesOneBatchHoweverLarge(t *testing.T) {
	s := newCluster(t).start(nil).dial()
	s.topic("t", 2)
	large := strings.Repeat("x", 5000)
	for n := range int32(2) {
		s.produce("t", n, large)
		s.produce("t", n, large)
	}
	size := len(batch(large))
	for _, q := range []struct {
		what            string
		max, partition  int
		batches, others int
	}{
		{"request limit below a batch", 100, 1 << 20, 1, 0},
		{"partition limit below a batch", 1 << 20, 100, 1, 0},
		{"no room at all", 0, 1 << 20, 1, 0},
		{"room for three", 3*size + 10, 1 << 20, 2, 1},
		{"room for one of each", 1 << 20, size + 10, 1, 1},
		{"room for all", 1 << 20, 1 << 20, 2, 2},
	} {
		req := poll(1, 0, 0)
		req.MaxBytes = int32(q.max)
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = int32(q.partition)
		}
		ps := do[*kmsg.FetchResponse](s, req).Topics[0].Partitions
		same(t, q.what, [2]int{len(ps[0].RecordBatches) / size, len(ps[1].RecordBatches) / size}, [2]int{q.batches, q.others})
	}
}

// TestConsumersSeeNothingAsReplicas refuses a client that says it is a follower
// and is none: it would see what is not committed.
func TestConsumersSeeNothingAsReplicas(t *testing.T) {
	s := newCluster(t).start(nil).dial()
	s.topic("t", 1)
	s.produce("t", 0, "0")
	for _, replica := range []int32{1, 7} {
		req := poll(1, 0)
		req.ReplicaID = replica
		same(t, fmt.Sprintf("replica %d", replica), fetched(t, req, do[*kmsg.FetchResponse](s, req)), "NOT_LEADER_FOR_PARTITION")
	}
}

// TestConsumersOfAnyAgeGetTheCodecThatIsStored reads a topic of compression.type=zstd
// with versions from before the codec. Kafka 4 gives them the batches as they are,
// since many clients of such versions read zstd all the same.
func TestConsumersOfAnyAgeGetTheCodecThatIsStored(t *testing.T) {
	k := newCluster(t).start(nil).dial()
	k.topic("t", 1, "compression.type=zstd")
	k.produce("t", 0, "a", "b")
	for version := int16(4); version <= 12; version++ {
		p := do[*kmsg.FetchResponse](k, at(fetchRequest("t", 0, 0), version)).Topics[0].Partitions[0]
		code(t, text("fetch v%d", version), p.ErrorCode, nil)
		same(t, "records", text("%v", values(t, p.RecordBatches, 0)), "[a b]")
	}
}
