package api

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// bytesData is remote data of given bytes.
type bytesData []byte

func (d bytesData) Len() int64                         { return int64(len(d)) }
func (d bytesData) WriteTo(w io.Writer) (int64, error) { n, err := w.Write(d); return int64(n), err }
func (d bytesData) AppendTo(b []byte) ([]byte, error)  { return append(b, d...), nil }
func (d bytesData) Release()                           {}
func (d bytesData) NextOffset() int64                  { return 0 }

func flatten(t *testing.T, r wire.Response) []byte {
	t.Helper()
	var b bytes.Buffer
	for i := range max(len(r.Buffers), len(r.Payloads)) {
		if i < len(r.Buffers) {
			b.Write(r.Buffers[i])
		}
		if i < len(r.Payloads) {
			if _, err := r.Payloads[i].WriteTo(&b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b.Bytes()
}

// TestFetchResponseIsWhatKmsgEncodes holds the hand-made encoder to kmsg's, byte
// for byte, in every version.
func TestFetchResponseIsWhatKmsgEncodes(t *testing.T) {
	id := metadata.NewTopicID()
	target := func(topic string, n int32) fetchTarget { return fetchTarget{id: id, topic: topic, partition: n} }
	rack := "r1"
	for version := int16(4); version <= 18; version++ {
		for _, committed := range []bool{false, true} {
			answers := []fetchAnswer{
				{fetchTarget: target("a", 0), FetchResult: replica.FetchResult{HighWatermark: 10, LastStable: 9, LogStart: 1, DivergingEpoch: -1, PreferredReplica: -1, Data: bytesData("first records")}},
				{fetchTarget: target("a", 1), code: 1, FetchResult: replica.NoFetchResult(nil)},
				{fetchTarget: target("a", 2), FetchResult: replica.FetchResult{HighWatermark: 7, DivergingEpoch: 3, DivergingEnd: 5, PreferredReplica: 6, Data: bytesData("more")}},
				{fetchTarget: fetchTarget{topic: "b"}, code: 6, FetchResult: replica.NoFetchResult(nil)},
			}
			if committed {
				answers[2].Aborted = []segment.AbortedTxn{{ProducerID: 4, FirstOffset: 2}}
			}
			e := fetchEncoder{version: version, sessionID: 77, committed: committed, answers: answers}
			if version >= 16 {
				answers[3].leader = &leaderHint{id: 3, epoch: 8}
				answers[2].leader = &leaderHint{id: 4, epoch: 9}
				e.nodes = []nodeEndpoint{{id: 3, host: "there", port: 9092}, {id: 4, host: "here", port: 1, rack: rack}}
			}
			got := flatten(t, e.response())
			if want := kmsgFetch(version, committed, answers, e.nodes).AppendTo(nil); !bytes.Equal(got, want) {
				t.Errorf("v%d committed %v: encoded\n%x\nkmsg\n%x", version, committed, got, want)
			}
			back := kmsg.NewPtrFetchResponse()
			back.Version = version
			if err := back.ReadFrom(got); err != nil {
				t.Errorf("v%d: %v", version, err)
			}
		}
	}
}

// kmsgFetch is the response that the answers of the test mean.
func kmsgFetch(version int16, committed bool, answers []fetchAnswer, nodes []nodeEndpoint) *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version, resp.SessionID = version, 77
	for i := range answers {
		f := &answers[i]
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != f.topic {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = f.topic, f.id
			resp.Topics = append(resp.Topics, rt)
		}
		rt := &resp.Topics[len(resp.Topics)-1]
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition, p.ErrorCode = f.partition, f.code
		p.HighWatermark, p.LastStableOffset, p.LogStartOffset = f.HighWatermark, f.LastStable, f.LogStart
		p.RecordBatches = []byte{}
		if f.Data != nil {
			p.RecordBatches = []byte(f.Data.(bytesData))
		}
		if committed {
			p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		}
		for _, a := range f.Aborted {
			ra := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			ra.ProducerID, ra.FirstOffset = a.ProducerID, a.FirstOffset
			p.AbortedTransactions = append(p.AbortedTransactions, ra)
		}
		p.PreferredReadReplica = int32(f.PreferredReplica)
		if f.DivergingEpoch >= 0 {
			p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = f.DivergingEpoch, f.DivergingEnd
		}
		if f.leader != nil {
			p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(f.leader.id), f.leader.epoch
		}
		rt.Partitions = append(rt.Partitions, p)
	}
	for _, n := range nodes {
		b := kmsg.NewFetchResponseBroker()
		b.NodeID, b.Host, b.Port = int32(n.id), n.host, n.port
		if n.rack != "" {
			b.Rack = &n.rack
		}
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}

// TestProduceResponseIsWhatKmsgEncodes does the same for Produce.
func TestProduceResponseIsWhatKmsgEncodes(t *testing.T) {
	id := metadata.NewTopicID()
	appended := replica.NotAppended()
	appended.FirstOffset, appended.LogAppendTime, appended.LogStart = 42, 1700000000000, 3
	for version := int16(3); version <= 13; version++ {
		e := produceEncoder{version: version, throttle: 0, topics: make([]kmsg.ProduceRequestTopic, 2)}
		e.topics[0].Topic, e.topics[0].TopicID, e.topics[0].Partitions = "a", id, make([]kmsg.ProduceRequestTopicPartition, 3)
		e.topics[1].Topic, e.topics[1].Partitions = "b", make([]kmsg.ProduceRequestTopicPartition, 1)
		e.parts = []produced{
			{partition: 0, appended: appended, index: -1},
			{partition: 1, appended: replica.NotAppended(), code: 87, message: "no good", index: 4},
			{partition: 2, appended: replica.NotAppended(), code: 6, index: -1},
			{partition: 7, appended: appended, index: -1},
		}
		if version >= 10 {
			e.parts[2].leader = &leaderHint{id: 3, epoch: 8}
			e.nodes = []nodeEndpoint{{id: 3, host: "there", port: 9092, rack: "r"}}
		}
		got := flatten(t, e.response())
		if want := kmsgProduce(version, &e).AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("v%d: encoded\n%x\nkmsg\n%x", version, got, want)
		}
		back := kmsg.NewPtrProduceResponse()
		back.Version = version
		if err := back.ReadFrom(got); err != nil {
			t.Errorf("v%d: %v", version, err)
		}
		if !e.response().Failed {
			t.Errorf("v%d: a response with errors does not count as failed", version)
		}
	}
}

func kmsgProduce(version int16, e *produceEncoder) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = version
	parts := e.parts
	for _, t := range e.topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for range t.Partitions {
			p := parts[0]
			parts = parts[1:]
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.partition, p.code
			rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = p.appended.FirstOffset, p.appended.LogAppendTime, p.appended.LogStart
			if p.message != "" {
				rp.ErrorMessage = &p.message
			}
			if p.index >= 0 {
				re := kmsg.NewProduceResponseTopicPartitionErrorRecord()
				re.RelativeOffset, re.ErrorMessage = p.index, &p.message
				rp.ErrorRecords = append(rp.ErrorRecords, re)
			}
			if p.leader != nil {
				rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = int32(p.leader.id), p.leader.epoch
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	for _, n := range e.nodes {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(n.id), n.host, n.port, &n.rack
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}

// TestSoftwareNamesAreKafkas lists what ApiVersions takes for a client's name.
func TestSoftwareNamesAreKafkas(t *testing.T) {
	got := map[string]bool{}
	for _, s := range []string{"", "a", "apache-kafka-java", "4.0.0", "-a", "a-", ".", "a b", "a_b", "ä", "a--b", "kgo"} {
		got[s] = softwareName(s)
	}
	want := map[string]bool{"": false, "a": true, "apache-kafka-java": true, "4.0.0": true, "-a": false, "a-": false,
		".": false, "a b": false, "a_b": false, "ä": false, "a--b": true, "kgo": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
