package read

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// txnLoads is how many transaction indexes one reader loads at a time.
const txnLoads = 8

// AbortedTransactions returns those that touch offsets in [from, to) as far as the tier knows them. The entry of a
// transaction lies with its abort marker, so the search goes on behind to until an entry of the manifest says that
// all up to to is decided. It reads the transaction indexes of the segments that hold the range, and behind it only
// those with a transaction that began before its end: at most one for each producer that had one open there. What is
// local only may add more; callers join both.
func (r *Reader) AbortedTransactions(ctx context.Context, tip metadata.TopicIDPartition, from, to int64) (out []segment.AbortedTxn, err error) {
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		out, err = r.aborted(ctx, man, from, to)
		return err
	})
	return out, err
}

func (r *Reader) aborted(ctx context.Context, man bucket.Manifest, from, to int64) ([]segment.AbortedTxn, error) {
	var need []*manifest.Entry
	for entry, err := range man.Walk(ctx, from, func(r manifest.Ref) bool { return !r.Aborted }) {
		if err != nil {
			return nil, err
		}
		if !entry.Aborted {
			continue
		}
		if entry.AbortedFrom < to {
			need = append(need, entry)
		}
		stable := entry.AbortedStable
		if stable == 0 { // of a manifest that does not say it
			txns, err := r.txnIndex(ctx, man, entry)
			if err != nil {
				return nil, err
			}
			if len(txns) > 0 {
				stable = txns[len(txns)-1].LastStableOffset
			}
		}
		if stable >= to {
			break
		}
	}
	indexes := make([][]segment.AbortedTxn, len(need))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(txnLoads)
	for i, entry := range need {
		g.Go(func() (err error) {
			indexes[i], err = r.txnIndex(gctx, man, entry)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []segment.AbortedTxn
	for _, txns := range indexes {
		for _, t := range txns {
			if t.LastOffset >= from && t.FirstOffset < to {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// txnIndex returns a segment's aborted transactions; kept, since every read_committed fetch of it asks.
func (r *Reader) txnIndex(ctx context.Context, man bucket.Manifest, entry *manifest.Entry) ([]segment.AbortedTxn, error) {
	key := manifest.SegmentKey(man.Dir, entry.Object, manifest.IndexSuffix) + "#txn"
	return bucket.Load(ctx, r.bucket.Memo, key, func(ctx context.Context) ([]segment.AbortedTxn, int64, error) {
		seg, err := r.segment(ctx, man.Dir, entry)
		if err != nil {
			return nil, 0, err
		}
		b, err := r.bucket.Section(ctx, man.Dir, seg, index.SectionTxn)
		if err != nil {
			return nil, 0, err
		}
		txns := []segment.AbortedTxn{}
		for t := range index.AbortedTxns(b) {
			txns = append(txns, segment.AbortedTxn(t))
		}
		return txns, int64(len(txns))*32 + 128, nil
	})
}

// LastStableOffset is up to where the tier alone says how transactions ended: the first offset of the oldest one still
// open at its end, or its end. A segment is copied once what it holds is decided, but the marker that decides it may
// lie behind it, in the local log.
func (r *Reader) LastStableOffset(ctx context.Context, tip metadata.TopicIDPartition) (stable int64, err error) {
	err = r.lookup(ctx, tip, func(man bucket.Manifest) error {
		stable = man.Root.EndOffset
		if man.Root.Segments == 0 {
			return nil
		}
		entry, err := man.Find(ctx, man.Root.HighestOffset())
		if err != nil {
			return err
		}
		open, err := r.openAtEnd(ctx, man, entry)
		stable = min(stable, open)
		return err
	})
	return stable, err
}

// openAtEnd is the first offset of the oldest transaction that is open at a segment's end, behind it for none.
func (r *Reader) openAtEnd(ctx context.Context, man bucket.Manifest, entry *manifest.Entry) (int64, error) {
	key := manifest.SegmentKey(man.Dir, entry.Object, manifest.IndexSuffix)
	return bucket.Load(ctx, r.bucket.Memo, key+"#open", func(ctx context.Context) (int64, int64, error) {
		seg, err := r.segment(ctx, man.Dir, entry)
		if err != nil {
			return 0, 0, err
		}
		b, err := r.bucket.Section(ctx, man.Dir, seg, index.SectionSnapshot)
		if err != nil {
			return 0, 0, err
		}
		producers, err := producer.LoadSnapshot(b)
		if err != nil {
			return 0, 0, &bucket.ObjectError{Op: "read index", Object: key, Err: fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)}
		}
		first := entry.LastOffset + 1
		for i := range producers {
			if open := producers[i].TxnFirstOffset; open >= 0 {
				first = min(first, open)
			}
		}
		return first, 64, nil
	})
}
