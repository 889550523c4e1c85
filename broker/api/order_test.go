package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// longPoll is a fetch that waits a second for records that do not come.
func longPoll(topic string) *kmsg.FetchRequest {
	req := fetchRequest(topic, 0, 0)
	req.MaxWaitMillis = 1000
	return req
}

// deleteAllRequest deletes the records up to the high watermark.
func deleteAllRequest(topic string) *kmsg.DeleteRecordsRequest {
	req := at(kmsg.NewPtrDeleteRecordsRequest(), 2)
	req.TimeoutMillis = 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = -1
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

// offsetFetchRequest asks for the committed offset of partition 0.
func offsetFetchRequest(group, topic string) *kmsg.OffsetFetchRequest {
	req := at(kmsg.NewPtrOffsetFetchRequest(), 7)
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, rt)
	return req
}

// TestInvariant14RequestsMeanWhatTheyMeantWhenTheyArrived sends requests that wait behind a long poll, each with one
// behind it that would change what it means.
func TestInvariant14RequestsMeanWhatTheyMeantWhenTheyArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s := c.dial()
		s.coordinate()
		for _, topic := range []string{"quiet", "deleted", "listed", "committed"} {
			s.topic(topic, 1)
		}
		s.produce("deleted", 0, "old")
		s.produce("listed", 0, "old")

		requests := []kmsg.Request{
			longPoll("quiet"),
			deleteAllRequest("deleted"),
			produceRequest("deleted", 0, batch("new")),
			listRequest(7, "listed", 0, -1),
			produceRequest("listed", 0, batch("new")),
			listRequest(7, "listed", 0, -1),
			commitRequest(7, "g", "committed", metadata.TopicID{}, map[int32]int64{0: 5}),
			offsetFetchRequest("g", "committed"),
			commitRequest(7, "g", "committed", metadata.TopicID{}, map[int32]int64{0: 6}),
			offsetFetchRequest("g", "committed"),
		}
		for _, req := range requests {
			s.send(req)
		}
		var answers []kmsg.Response
		for _, req := range requests {
			answers = append(answers, s.receive(req))
		}
		listed := func(i int) int64 { return answers[i].(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset }
		committed := func(i int) int64 { return answers[i].(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0].Offset }
		same(t, "log start after the deletion", answers[1].(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].LowWatermark, 1)
		same(t, "offset of the record behind the deletion", produced(answers[2].(*kmsg.ProduceResponse)).BaseOffset, 1)
		got := do[*kmsg.FetchResponse](s, fetchRequest("deleted", 0, 1)).Topics[0].Partitions[0]
		code(t, "fetch what was produced behind the deletion", got.ErrorCode, nil)
		same(t, "records", text("%v", values(t, got.RecordBatches, 1)), "[new]")
		same(t, "latest offset before the record", listed(3), 1)
		same(t, "latest offset behind the record", listed(5), 2)
		same(t, "offset behind the first commit", committed(7), 5)
		same(t, "offset behind the second commit", committed(9), 6)
	})
}

// TestProduceIsAppendedWhileWhatIsBeforeItWaits: only Produce and Fetch are pipelined, but they are.
func TestProduceIsAppendedWhileWhatIsBeforeItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s, other := c.dial(), c.dial()
		s.topic("quiet", 1)
		s.topic("t", 1)
		began := time.Now()
		requests := []kmsg.Request{longPoll("quiet"), produceRequest("t", 0, batch("a")), produceRequest("t", 0, batch("b"))}
		for _, req := range requests {
			s.send(req)
		}
		for other.listOffset("t", 0, -1).Offset < 2 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("appended after %v, behind a poll of a second", took)
		}
		for _, req := range requests {
			s.receive(req)
		}
	})
}
