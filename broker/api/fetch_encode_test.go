package api

import (
	"bytes"
	"io"
	"testing"

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

// TestFetchResponseReadsAsKafkas decodes every version with kmsg, and encodes
// it again to the same bytes.
func TestFetchResponseReadsAsKafkas(t *testing.T) {
	id := metadata.NewTopicID()
	part := func(topic string, n int32) *sessionPartition {
		return &sessionPartition{id: metadata.TopicIDPartition{Topic: id, Partition: n}, name: metadata.TopicPartition{Topic: topic, Partition: n}}
	}
	for version := int16(4); version <= 18; version++ {
		answers := []fetchAnswer{
			{part: part("a", 0), FetchResult: replica.FetchResult{HighWatermark: 10, LastStable: 9, LogStart: 1, DivergingEpoch: -1, Data: bytesData("first records")}},
			{part: part("a", 1), code: 1, FetchResult: replica.FetchResult{HighWatermark: -1, LastStable: -1, LogStart: -1, DivergingEpoch: -1}},
			{part: part("a", 2), FetchResult: replica.FetchResult{HighWatermark: 7, DivergingEpoch: 3, DivergingEnd: 5,
				Aborted: []segment.AbortedTxn{{ProducerID: 4, FirstOffset: 2}}, Data: bytesData("more")}},
		}
		e := fetchEncoder{version: version, sessionID: 77}
		got := flatten(t, e.response(answers))
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = version
		if err := resp.ReadFrom(got); err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		if version >= 7 && resp.SessionID != 77 {
			t.Errorf("v%d: session %d", version, resp.SessionID)
		}
		ps := resp.Topics[0].Partitions
		if len(resp.Topics) != 1 || len(ps) != 3 {
			t.Fatalf("v%d: %d topics, %d partitions", version, len(resp.Topics), len(ps))
		}
		if string(ps[0].RecordBatches) != "first records" || string(ps[2].RecordBatches) != "more" || ps[0].HighWatermark != 10 || ps[1].ErrorCode != 1 {
			t.Errorf("v%d: %+v", version, ps)
		}
		if len(ps[2].AbortedTransactions) != 1 || ps[2].AbortedTransactions[0].ProducerID != 4 {
			t.Errorf("v%d: aborted %+v", version, ps[2].AbortedTransactions)
		}
		if version >= 12 && (ps[2].DivergingEpoch.Epoch != 3 || ps[2].DivergingEpoch.EndOffset != 5 || ps[0].DivergingEpoch.Epoch != -1) {
			t.Errorf("v%d: diverging %+v", version, ps[2].DivergingEpoch)
		}
		for i := range ps { // what a nil and an empty list look like differs
			if ps[i].AbortedTransactions == nil {
				ps[i].AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
			}
		}
		if want := resp.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("v%d: encoded\n%x\nkmsg\n%x", version, got, want)
		}
	}
}
