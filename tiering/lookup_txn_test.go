package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestLongTransactionCostsNoIndexesOfOthers: one transaction holds the last stable offset back while others abort in
// segment after segment. What a reader before them must know lies in the indexes of the segments it reads and of
// those where a transaction that was open there ended; the rest the manifest rules out.
func TestLongTransactionCostsNoIndexesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var indexes atomic.Int64
		b := w.mustStart(settings{config: smallLog(), store: object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
			if op.Kind == object.OpGet && strings.HasSuffix(op.Key, manifest.IndexSuffix) {
				indexes.Add(1)
			}
			return nil
		})})
		if err := b.produce(20); err != nil {
			t.Fatal(err)
		}
		b.transaction(100, 0)
		to := b.log.LogEnd()
		for n := range int32(200) {
			b.transaction(101, n)
			if err := b.produce(3); err != nil {
				t.Fatal(err)
			}
			b.endTransaction(101, false)
		}
		b.endTransaction(100, false)
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if n := b.m.View(w.tip()).Segments; n < 40 {
			t.Fatalf("%d segments", n)
		}
		b.m.bucket.Memo = bucket.NewMemo(1<<20, b.m.tasks)
		indexes.Store(0)
		got, err := b.m.AbortedTransactions(t.Context(), w.tip(), 0, to)
		if err != nil || len(got) != 1 || got[0].ProducerID != 100 {
			t.Fatalf("%+v, %v", got, err)
		}
		// Its marker's segment: the head of the index, and the part with the transactions.
		if n := indexes.Load(); n > 2 {
			t.Errorf("%d reads of index objects to find one transaction", n)
		}
		want, err := b.log.AbortedTransactions(0, b.log.LogEnd())
		if err != nil {
			t.Fatal(err)
		}
		if got, err = b.m.AbortedTransactions(t.Context(), w.tip(), 0, b.log.LogEnd()); err != nil || len(got) != len(want) {
			t.Errorf("%d aborted transactions, the log has %d: %v", len(got), len(want), err)
		}
	})
}
