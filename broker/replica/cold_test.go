package replica_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
)

// txnModel writes transactions of several producers and knows what readers of
// committed records must see.
type txnModel struct {
	t         *testing.T
	append    func(batch []byte, origin segment.Origin) int64
	committed map[int64]string
	open      map[int64]map[int64]string // by producer
	sequence  map[int64]int32
}

func newTxnModel(t *testing.T, append func(batch []byte, origin segment.Origin) int64) *txnModel {
	return &txnModel{t: t, append: append, committed: map[int64]string{}, open: map[int64]map[int64]string{}, sequence: map[int64]int32{}}
}

// write appends one record of a producer's transaction, or of none for producer 0.
func (x *txnModel) write(pid int64) {
	o, origin := record.BuilderOptions{}, segment.Client
	if pid != 0 {
		origin = segment.Coordinator // of clients, a coordinator has to know the transaction
		o = record.BuilderOptions{Producer: &record.Producer{ID: pid, BaseSequence: x.sequence[pid]}, Transactional: true}
		x.sequence[pid]++
	}
	value := fmt.Sprintf("%0100d", len(x.sequence)+rand.IntN(1e9))
	bl := record.NewBuilder(o)
	bl.Append(time.Now().UnixMilli(), nil, []byte(value))
	at := x.append(bl.Build(), origin)
	switch {
	case pid == 0:
		x.committed[at] = value
	case x.open[pid] == nil:
		x.open[pid] = map[int64]string{at: value}
	default:
		x.open[pid][at] = value
	}
}

func (x *txnModel) end(pid int64, commit bool) {
	if x.open[pid] == nil {
		return
	}
	x.append(record.NewEndTxnBatch(pid, 0, record.EndTxnMarker{Commit: commit}, time.Now().UnixMilli()), segment.Coordinator)
	if commit {
		maps.Copy(x.committed, x.open[pid])
	}
	delete(x.open, pid)
}

// readCommitted returns what a consumer makes of an answer, as Kafka's clients do:
// an aborted transaction begins at its first offset and ends with its marker.
func readCommitted(t *testing.T, r replica.FetchResult, offset int64, into map[int64]string) (next int64) {
	t.Helper()
	aborted := slices.Clone(r.Aborted)
	slices.SortFunc(aborted, func(a, b segment.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	b, err := r.Data.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := map[int64]bool{}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		b, next = rest, batch.NextOffset()
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			now[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch {
		case batch.IsControl():
			delete(now, batch.ProducerID())
			continue
		case batch.IsTransactional() && now[batch.ProducerID()]:
			continue
		}
		err = batch.Each(nil, func(r record.Record) error {
			if r.Offset >= offset {
				into[r.Offset] = string(r.Value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return next
}

// TestCommittedRecordsAreTheSameOverTierAndLocalLog writes random transactions,
// some over many segments with their markers where only the local log has them,
// and reads from everywhere with answers of every size.
func TestCommittedRecordsAreTheSameOverTierAndLocalLog(t *testing.T) {
	for seed := range uint64(4) {
		in(t, func(t *testing.T, b *bench) {
			rng := rand.New(rand.NewPCG(seed, 1))
			b.config.Log.LocalRetentionBytes = 20_000 // some 100 records
			p := b.topic("t")
			x := newTxnModel(t, func(batch []byte, origin segment.Origin) int64 {
				a, err := b.m.Append(tp("t"), batch, replica.AcksAll, origin, time.Now())
				b.must(err)
				b.must(a.Wait(t.Context()))
				return a.FirstOffset
			})
			for n := range 400 {
				pid := int64(rng.IntN(5))
				if n%20 == 0 {
					time.Sleep(time.Second) // segments are copied as soon as they are decided
				}
				switch k := rng.IntN(10); {
				case k == 0 && pid != 4 || k == 1 && n%97 == 0: // the fourth one's last for long
					x.end(pid, rng.IntN(3) > 0)
				default:
					x.write(pid)
				}
			}
			for pid := range int64(5) {
				x.end(pid, pid%2 == 1) // these markers are in the active segment: the tier has none of them
			}
			x.write(0)
			for tries := 0; p.Log().LocalLogStart() == 0 && tries < 100; tries++ {
				time.Sleep(time.Second)
			}
			synctest.Wait()
			local, end := p.Log().LocalLogStart(), p.Log().LastStableOffset()
			if local < 50 || end-local < 20 {
				t.Fatalf("seed %d: the local log begins at %d, stable up to %d: the test joins nothing", seed, local, end)
			}
			for round := range 30 {
				from := int64(0)
				if round > 2 {
					from = rng.Int64N(end)
				}
				got, want := map[int64]string{}, map[int64]string{}
				for at := from; at < end; {
					r := b.fetch(p, at, func(r *replica.FetchRequest) {
						r.ReadCommitted, r.MaxWait = true, time.Second
						r.Partitions[0].MaxBytes = 1 << (6 + round%12)
					})
					b.must(r.Err)
					if r.Data == nil {
						t.Fatalf("seed %d: nothing at %d of %d", seed, at, end)
					}
					at = readCommitted(t, r, at, got)
					r.Data.Release() // or this client has its share of the cold cache soon
				}
				for o, v := range x.committed {
					if o >= from && o < end {
						want[o] = v
					}
				}
				if !maps.Equal(got, want) {
					for o := from; o < end; o++ {
						if got[o] != want[o] {
							t.Fatalf("seed %d: from %d (local from %d): offset %d is %q, want %q", seed, from, local, o, got[o], want[o])
						}
					}
				}
			}
		})
	}
}

// TestATierWithoutTheMarkerShowsNoTransaction reads at a broker that has the tier
// alone: a transaction whose abort is known to its leader only is not shown there.
func TestATierWithoutTheMarkerShowsNoTransaction(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		tiered(f)
		f.nodes[1].role = metadata.RoleReplay
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		leader := f.leader("t")
		x := newTxnModel(t, func(batch []byte, origin segment.Origin) int64 {
			a, err := leader.m.Append(tp("t"), batch, replica.AcksAll, origin, time.Now())
			f.must(err)
			f.must(a.Wait(t.Context()))
			return a.FirstOffset
		})
		for range 30 {
			x.write(0)
		}
		x.write(1) // its marker comes in another segment than its only record
		for segments := leader.partition("t").Log().Segments(); leader.partition("t").Log().Segments() == segments; {
			x.write(0)
		}
		x.end(1, false)
		f.until("the record is in the tier", func() bool { return f.node(2).pointer("t").EndOffset > 30 })
		end := f.node(2).pointer("t").EndOffset
		got := map[int64]string{}
		at := int64(0)
		for tries := 0; at < end && tries < 100; tries++ {
			r, values := f.node(2).read("t", at, func(r *replica.FetchRequest) { r.ReadCommitted, r.MaxWait = true, time.Second })
			f.must(r.Err)
			if r.PreferredReplica != metadata.NoBroker {
				same(t, "sent to the leader at the first offset that is not decided there", at, 30)
				same(t, "sent to", r.PreferredReplica, 1)
				break
			}
			maps.Copy(got, values)
			for got[at] != "" {
				at++
			}
		}
		for o, v := range got {
			if x.committed[o] != v {
				t.Errorf("offset %d: %q of an aborted transaction is shown", o, v)
			}
		}
		same(t, "records", len(got), 30)
	})
}

// TestColdPartitionsOfAFetchAreReadTogether: eight take no longer than one, and
// are all in one answer.
func TestColdPartitionsOfAFetchAreReadTogether(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		var parts []*replica.Partition
		for n := range 9 {
			name := fmt.Sprintf("t%d", n)
			p := b.topic(name, 1)
			b.fill(name, 60)
			b.evict(p, 30)
			parts = append(parts, p)
		}
		b.getDelay.Store(int64(50 * time.Millisecond))
		took := func(of []*replica.Partition) time.Duration {
			req := &replica.FetchRequest{Replica: -1, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 5 * time.Second}
			for _, p := range of {
				req.Partitions = append(req.Partitions, replica.FetchPartition{ID: p.ID(), MaxBytes: 1 << 20, CurrentEpoch: -1, FetchedEpoch: -1})
			}
			began := time.Now()
			for i, r := range b.m.Fetch(t.Context(), req) {
				if r.Err != nil || r.Size() == 0 {
					t.Errorf("partition %d of %d: %d bytes, %v", i, len(of), r.Size(), r.Err)
				}
				if r.Data != nil {
					r.Data.Release()
				}
			}
			return time.Since(began)
		}
		one, eight := took(parts[:1]), took(parts[1:])
		if one < 50*time.Millisecond || eight > one+time.Millisecond {
			t.Errorf("one takes %v, eight %v", one, eight)
		}
	})
}
