package tiering

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// append writes one batch as the leader and makes it committed.
func (b *broker) append(batch []byte, origin segment.Origin) {
	b.t.Helper()
	info, err := b.log.AppendAsLeader(batch, segment.AppendOptions{LeaderEpoch: b.epoch, Origin: origin, Now: time.Now()})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Sync(); err != nil {
		b.t.Fatal(err)
	}
	b.log.SetHighWatermark(info.LastOffset + 1)
}

func (b *broker) transaction(pid int64, sequence int32) {
	bl := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: pid, BaseSequence: sequence}, Transactional: true})
	bl.Append(time.Now().UnixMilli(), []byte("k"), testValue(b.log.LogEnd()))
	b.append(bl.Build(), segment.Client)
}

func (b *broker) endTransaction(pid int64, commit bool) {
	bl := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: pid, BaseSequence: -1}, Transactional: true, Control: true})
	marker := record.EndTxnMarker{Commit: commit}
	bl.Append(time.Now().UnixMilli(), marker.Key(), marker.Value())
	b.append(bl.Build(), segment.Coordinator)
}

func TestAbortedTransactionsAreTheSameFromTheTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(settings{config: smallLog()})
		sequences := map[int64]int32{}
		for round := range 60 {
			pid := int64(100 + round%3)
			for range 1 + round%4 {
				b.transaction(pid, sequences[pid])
				sequences[pid]++
				if err := b.produce(2); err != nil {
					t.Fatal(err)
				}
			}
			b.endTransaction(pid, round%5 != 0)
		}
		if err := b.produce(40); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		end := b.m.View(w.tip()).HighestOffset + 1
		n := 0
		for from := int64(0); from < end-40; from += 7 {
			for _, to := range []int64{from + 1, from + 30, end - 30} {
				want, err := b.log.AbortedTransactions(from, to)
				if err != nil {
					t.Fatal(err)
				}
				got, err := b.m.AbortedTransactions(t.Context(), w.tip(), from, to)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
					t.Fatalf("from %d to %d (-log +tier):\n%s", from, to, diff)
				}
				n += len(got)
			}
		}
		if n == 0 {
			t.Fatal("no transaction was aborted")
		}
	})
}

func TestTimestampsAreTheSameFromTheTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := smallLog()
		b := w.mustStart(settings{config: cfg})
		// Times go up and down, several records share one, and batches are compressed.
		for i := range int64(150) {
			bl := record.NewBuilder(record.BuilderOptions{Compression: record.Compression(i % 5)})
			for k := range 1 + i%3 {
				bl.Append(1000*((i*37)%100)+k/2, nil, testValue(b.log.LogEnd()+k))
			}
			b.append(bl.Build(), segment.Client)
		}
		b.uploaded()
		end := b.m.View(w.tip()).HighestOffset + 1
		for ts := int64(0); ts < 110_000; ts += 777 {
			want, wantOK, err := b.log.OffsetForTimestamp(ts)
			if err != nil {
				t.Fatal(err)
			}
			got, ok, err := b.m.OffsetForTimestamp(t.Context(), w.tip(), ts, 0)
			if err != nil {
				t.Fatal(err)
			}
			if wantOK && want.Offset >= end {
				wantOK = false
			}
			if ok != wantOK || ok && got != want {
				t.Fatalf("time %d: log %+v, %v; tier %+v, %v", ts, want, wantOK, got, ok)
			}
		}
		want, _, err := b.log.MaxTimestamp()
		if err != nil {
			t.Fatal(err)
		}
		if got, ok, err := b.m.MaxTimestamp(t.Context(), w.tip(), 0); err != nil || !ok || got != want {
			t.Errorf("highest timestamp: log %+v, tier %+v, %v, %v", want, got, ok, err)
		}
	})
}

func TestSequentialReaderFindsTheNextSegmentsInTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var gets, slow atomic.Int64
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			if op.Kind == object.OpGet && slow.Load() > 0 {
				gets.Add(1)
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), store: store, chunk: 2 << 10})
		if err := b.produce(800); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		slow.Store(1)
		var waits []time.Duration
		for at := int64(0); at < b.log.LocalLogStart(); {
			start := time.Now()
			_, next, err := b.readAt(t.Context(), at, 2<<10)
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, time.Since(start))
			time.Sleep(10 * time.Millisecond) // what the consumer does with it
			at = next
		}
		waited := slices.DeleteFunc(slices.Clone(waits), func(d time.Duration) bool { return d == 0 })
		if len(waits) < 40 || len(waited) > len(waits)/4 {
			t.Errorf("%d of %d reads waited: %v", len(waited), len(waits), waits)
		}
	})
}

func TestOneLargeBatchIsReadWhole(t *testing.T) {
	w := newWorld(t)
	cfg := smallLog()
	cfg.SegmentBytes = 64 << 10
	b := w.mustStart(settings{config: cfg, chunk: 1 << 10})
	if err := b.produce(5); err != nil {
		t.Fatal(err)
	}
	bl := record.NewBuilder(record.BuilderOptions{})
	for range 100 {
		bl.Append(time.Now().UnixMilli(), nil, testValue(1))
	}
	large := bl.Build()
	at := b.log.LogEnd()
	b.append(large, segment.Client)
	if err := b.produce(400); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	for _, offset := range []int64{at, at + 50, at + 99} {
		d, err := b.m.Read(t.Context(), w.tip(), offset, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 1, MinOne: true})
		if err != nil || d.Len() != int64(len(large)) || d.NextOffset() != at+100 {
			t.Fatalf("read at %d: %+v, %v", offset, d, err)
		}
		d.Release()
	}
	for _, o := range []segment.ReadOptions{{UpTo: math.MaxInt64, MaxBytes: 1}, {UpTo: at + 99, MaxBytes: 1 << 20, MinOne: true}, {UpTo: at, MaxBytes: 1 << 20, MinOne: true}} {
		d, err := b.m.Read(t.Context(), w.tip(), at, o)
		if err != nil || d.Len() != 0 || d.NextOffset() != at {
			t.Errorf("read with %+v: %+v, %v", o, d, err)
		}
		d.Release()
	}
}
