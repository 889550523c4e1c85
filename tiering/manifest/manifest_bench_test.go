package manifest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkManifest is invariant 11: what start-up, seeks and a commit cost does not grow with the entries. The
// tail is what a root has inline; a full one is the most a commit writes.
func BenchmarkManifest(b *testing.B) {
	for _, n := range []int{10, 500, 999, 1_000_000, 1_000_500} {
		f := newForest()
		f.bulk(b, n)
		memo := map[string]*Node{}
		cached := Tree{Root: f.root, Load: func(ctx context.Context, ref Ref) (node *Node, err error) {
			if node = memo[ref.Object]; node == nil {
				node, err = f.load(ctx, ref)
				memo[ref.Object] = node
			}
			return node, err
		}}
		encoded, err := f.root.Encode()
		if err != nil {
			b.Fatal(err)
		}
		end := f.root.EndOffset
		name := func(what string) string { return fmt.Sprintf("%s/entries=%d", what, n) }
		b.Run(name("start-up"), func(b *testing.B) {
			b.ReportMetric(float64(len(encoded)), "root-bytes")
			for b.Loop() {
				if _, err := DecodeRoot(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
		rng := rand.New(rand.NewPCG(1, 1))
		b.Run(name("seek-offset-cold"), func(b *testing.B) {
			f.loads = 0
			for b.Loop() {
				clear(f.known)
				if _, err := f.tree().Find(b.Context(), rng.Int64N(end)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(f.loads)/float64(b.N), "loads/op")
		})
		b.Run(name("seek-offset-warm"), func(b *testing.B) {
			for b.Loop() {
				if _, err := cached.Find(b.Context(), end/2+rng.Int64N(5)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name("seek-time-warm"), func(b *testing.B) {
			for b.Loop() {
				if e, err := cached.FindTime(b.Context(), end/2+rng.Int64N(5), 0); err != nil || e == nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name("commit"), func(b *testing.B) {
			for b.Loop() {
				e := NewEdit(f.root, f.load, time.UnixMilli(1), time.Hour)
				if err := e.Add(b.Context(), testEntry(end)); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Next.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// bulk adds n entries in one edit.
func (f *forest) bulk(t testing.TB, n int) {
	f.commit(t, time.UnixMilli(1), func(e *Edit) {
		entry := testEntry(0)
		for range n {
			next := e.Next.EndOffset
			entry.BaseOffset, entry.LastOffset, entry.MaxTimestamp, entry.MaxTimestampOffset = next, next+9, next+9, next+9
			entry.Epochs = Lineage{{Epoch: 0, StartOffset: next}}
			entry.Object = fmt.Sprintf("%020d-0-01234567-89ab-cdef-0123-456789abcdef", next)
			if err := e.Add(t.Context(), entry); err != nil {
				t.Fatal(err)
			}
		}
	})
}
