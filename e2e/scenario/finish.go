package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// finishWithin bounds what is left to do once nothing is broken any more.
const finishWithin = 2 * time.Minute

// Finish ends the load on a healed cluster and checks: every record is acked;
// each acked record is at its offset, once, in the order it was sent; no offset
// showed two values, to the group or at the end; the group reads to the end and
// its offsets never went back; no client was told of an error.
func (l *Load) Finish(ctx context.Context, t testing.TB) {
	t.Helper()
	l.stop()
	l.producing.Wait()
	flushing, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	if err := l.producer.Flush(flushing); err != nil {
		t.Errorf("records that are never acked: %v", err)
	}
	l.awaitGroup(ctx, t)
	l.leave()
	l.consuming.Wait()
	l.checkLog(ctx, t)
	l.report(t)
	t.Logf("%d records acked in %d partitions, %d times the group's offsets had to be asked for again", l.Acked(), len(l.parts), l.away)
}

// awaitGroup waits until the group has committed the end of each partition.
func (l *Load) awaitGroup(ctx context.Context, t testing.TB) {
	t.Helper()
	cl, err := l.client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	await(ctx, t, finishWithin, func() error {
		offsets, err := adm.FetchOffsets(ctx, loadGroup)
		if err != nil {
			return err
		}
		for _, p := range l.parts {
			p.mu.Lock()
			last := int64(-1)
			for _, offset := range p.acked {
				last = max(last, offset)
			}
			p.mu.Unlock()
			if o, ok := offsets.Lookup(p.topic, p.partition); last >= 0 && (!ok || o.At <= last) {
				return fmt.Errorf("the group has committed %d of %s-%d, whose last offset is %d", o.At, p.topic, p.partition, last)
			}
		}
		return nil
	})
}

// checkLog reads all partitions from their start with a new client.
func (l *Load) checkLog(ctx context.Context, t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	at := make(map[string]map[int32]kgo.Offset)
	left := 0
	for _, p := range l.parts {
		if at[p.topic] == nil {
			at[p.topic] = make(map[int32]kgo.Offset)
		}
		if len(p.acked) > 0 {
			at[p.topic][p.partition] = kgo.NoResetOffset().AtStart()
			left++
		}
	}
	cl, err := l.client(kgo.ConsumePartitions(at), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	readers := make(map[*partitionLedger]*finalReading)
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			for _, p := range l.parts {
				if r := readers[p]; len(p.acked) > 0 && (r == nil || !r.done) {
					t.Errorf("%s-%d was not read to its end: %+v", p.topic, p.partition, r)
				}
			}
			t.Fatalf("final reading: %v", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := l.index[r.Topic][r.Partition]
			f := readers[p]
			if f == nil {
				f = &finalReading{last: -1, place: make([]int64, len(p.acked)), end: p.end()}
				for i := range f.place {
					f.place[i] = -1
				}
				readers[p] = f
			}
			l.see(p, r)
			f.record(t, p, r)
			if !f.done && r.Offset >= f.end-1 {
				f.done = true
				left--
			}
		})
	}
	for p, f := range readers {
		f.compare(t, p)
	}
}

// end is the offset after the last acked record.
func (p *partitionLedger) end() (end int64) {
	for _, offset := range p.acked {
		end = max(end, offset+1)
	}
	return end
}

// finalReading is what the last reader saw of a partition.
type finalReading struct {
	next  int64   // offset
	last  int64   // number
	place []int64 // offset by number
	end   int64
	done  bool
}

func (f *finalReading) record(t testing.TB, p *partitionLedger, r *kgo.Record) {
	number := binary.BigEndian.Uint64(r.Value)
	if r.Offset != f.next {
		t.Errorf("%s-%d: offset %d after %d", p.topic, p.partition, r.Offset, f.next-1)
	}
	f.next = r.Offset + 1
	if number >= uint64(len(f.place)) {
		t.Errorf("%s-%d: offset %d shows record %d, which was never sent", p.topic, p.partition, r.Offset, number)
		return
	}
	if had := f.place[number]; had >= 0 {
		t.Errorf("%s-%d: record %d is at offsets %d and %d", p.topic, p.partition, number, had, r.Offset)
	} else if int64(number) <= f.last {
		t.Errorf("%s-%d: record %d at offset %d comes after record %d", p.topic, p.partition, number, r.Offset, f.last)
	}
	f.place[number], f.last = r.Offset, int64(number)
}

func (f *finalReading) compare(t testing.TB, p *partitionLedger) {
	lost := 0
	for number, offset := range p.acked {
		switch at := f.place[number]; {
		case offset < 0:
			t.Errorf("%s-%d: record %d was never acked", p.topic, p.partition, number)
		case at < 0:
			lost++
			if lost == 1 {
				t.Errorf("%s-%d: record %d was acked at offset %d and is lost", p.topic, p.partition, number, offset)
			}
		case at != offset:
			t.Errorf("%s-%d: record %d was acked at offset %d and is at %d", p.topic, p.partition, number, offset, at)
		}
	}
	if lost > 1 {
		t.Errorf("%s-%d: %d acked records are lost", p.topic, p.partition, lost)
	}
}
