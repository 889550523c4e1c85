package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
)

// maxValue bounds what a batch may become when it is decompressed.
const maxValue = 16 << 20

// asker asks one broker directly, whoever leads.
type asker struct {
	w  *world
	n  *node
	cl *kgo.Client
}

func (w *world) asker(n *node) (*asker, error) {
	cl, err := w.client(adminHost, kgo.SeedBrokers(n.addr()), kgo.RequestRetries(0))
	return &asker{w, n, cl}, err
}

func (a *asker) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	return a.cl.SeedBrokers()[0].Request(ctx, req)
}

// answer is what a broker said to one fetch.
type answer struct {
	batches   []record.Batch // whole and intact
	elsewhere bool           // it names another broker to read from
}

// fetch asks for a partition from offset on, and notes what the records are.
func (a *asker) fetch(ctx context.Context, name string, n int32, offset int64, most int32) (answer, error) {
	id, err := metadata.ParseTopicID(a.w.truth.id(name))
	if err != nil {
		return answer{}, err
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = n, offset, most, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = name, id, []kmsg.FetchRequestTopicPartition{p}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MaxBytes, req.Topics = 200, 1<<20, []kmsg.FetchRequestTopic{t}
	resp, err := a.ask(ctx, req)
	if err != nil {
		return answer{}, err
	}
	got := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return answer{}, err
	}
	if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return answer{}, fmt.Errorf("asked for %s-%d, got %d topics", name, n, len(got.Topics))
	}
	part := got.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return answer{}, err
	}
	batches, err := a.w.parse(a.n.host+" directly", name, n, part.RecordBatches)
	if err != nil {
		a.w.h.fail("%s answered a fetch of %s-%d at %d with bytes that are no batches: %v", a.n.host, name, n, offset, err)
	}
	if len(batches) > 0 && (batches[0].BaseOffset() > offset || batches[0].LastOffset() < offset) {
		a.w.h.fail("%s answered a fetch of %s-%d at %d with offsets %d to %d", a.n.host, name, n, offset, batches[0].BaseOffset(), batches[0].LastOffset())
	}
	return answer{batches, part.PreferredReadReplica >= 0}, nil
}

// parse splits bytes into whole batches, without a gap, and notes the records.
func (w *world) parse(who, name string, n int32, b []byte) (batches []record.Batch, err error) {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if errors.Is(err, record.ErrTorn) {
			break // the end of an answer may be half a batch
		}
		if err == nil {
			err = batch.Verify()
		}
		if err != nil {
			return batches, err
		}
		if len(batches) > 0 && batches[len(batches)-1].NextOffset() != batch.BaseOffset() {
			return batches, fmt.Errorf("offset %d follows %d", batch.BaseOffset(), batches[len(batches)-1].LastOffset())
		}
		if name != offsetsTopic {
			err = batch.Each(record.NewDecompressor(maxValue), func(rec record.Record) error {
				r, ok := parseRecord(rec.Value)
				if !ok {
					return fmt.Errorf("%d bytes at offset %d that nobody wrote", len(rec.Value), rec.Offset)
				}
				w.h.saw(who, place{name, n, rec.Offset}, r)
				return nil
			})
			if err != nil {
				return batches, err
			}
		}
		batches, b = append(batches, batch), rest
	}
	return batches, nil
}

// end asks for the end of a partition as who knows of no leader epoch.
func (a *asker) end(ctx context.Context, name string, n int32) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.Timestamp = n, -1, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = name, []kmsg.ListOffsetsRequestTopicPartition{p}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Topics = []kmsg.ListOffsetsRequestTopic{t}
	resp, err := a.ask(ctx, req)
	if err != nil {
		return 0, err
	}
	got := resp.(*kmsg.ListOffsetsResponse)
	if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("asked for the end of %s-%d, got %d topics", name, n, len(got.Topics))
	}
	part := got.Topics[0].Partitions[0]
	return part.Offset, kerr.ErrorForCode(part.ErrorCode)
}

// look asks one broker again and again what it shows of any offset, and for the
// end, which never goes back, whoever thinks to lead: a new leader tells it only
// once it knows it (KIP-207), a deposed one not at all.
func (w *world) look(ctx context.Context, n *node) error {
	a, err := w.asker(n)
	if err != nil {
		return err
	}
	defer a.cl.Close()
	rng := rand.New(rand.NewPCG(w.seed, uint64(n.id)+100))
	for ctx.Err() == nil {
		part := int32(rng.IntN(partitions))
		of := fmt.Sprintf("end of %s-%d", topic, part)
		_, pointer, _ := w.truth.led(topic, part)
		floor := w.h.floor(of)
		if end, err := a.end(ctx, topic, part); err == nil {
			w.h.atLeast("who asked "+n.host, of, floor, end)
		}
		from := []int64{0, pointer.EndOffset, floor, rng.Int64N(floor + 1)}[rng.IntN(4)]
		_, _ = a.fetch(ctx, topic, part, from, 16<<10) // it may be down, or know nothing of it: what it shows counts
		select {
		case <-time.After(time.Duration(200+rng.IntN(600)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}
