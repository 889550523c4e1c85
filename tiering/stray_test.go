package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// newestIsWhole checks that all that the newest root in the bucket names is there, and returns that root.
func (w *world) newestIsWhole() bucket.Root {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	topics, err := bucket.New(w.store, nil).Topics(ctx, "c1")
	if err != nil {
		w.t.Fatal(err)
	}
	root := topics[0].Roots[0]
	have := w.objects()
	dir := manifest.PartitionDir("orders", w.tip())
	tree := manifest.Tree{Root: root.Root, Load: func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
		return manifest.DecodeNode(body(w.t, w.store, "c1/"+manifest.NodeKey(dir, ref.Object)), ref)
	}}
	for e, err := range tree.Walk(ctx, 0, nil) {
		if err != nil {
			w.t.Fatal(err)
		}
		for _, key := range manifest.OwnKeys(dir, e.Object) {
			if _, ok := have["c1/"+key]; !ok {
				w.t.Errorf("the newest root in the bucket, %s, names %s, which is deleted", root.Key, key)
			}
		}
	}
	return root
}

// TestNewestRootInTheBucketIsWholeWhateverBecameOfItsCommit: who has the bucket alone takes it. A leadership that ends
// while a root is stored leaves one that was never committed; what it names outlives it.
func TestNewestRootInTheBucketIsWholeWhateverBecameOfItsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var refuse, hang atomic.Bool
		store := object.WithFaults(w.store, func(ctx context.Context, op object.Op) error {
			switch root := op.Kind == object.OpPut && strings.Contains(op.Key, "/"+manifest.ManifestDir+"00"); {
			case root && refuse.Load():
				return object.ErrUnavailable
			case root && hang.Load() && op.After:
				<-ctx.Done() // it is stored, and the answer does not come
				return ctx.Err()
			}
			return nil
		})
		o := sweepOptions(2 * time.Hour)
		b := w.mustStart(settings{config: smallLog(), store: store, o: o})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		refuse.Store(true)
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // the copies are that much older than the root that names them
		hang.Store(true)
		refuse.Store(false)
		time.Sleep(20 * time.Second)
		b.m.Resign(w.tip())
		time.Sleep(time.Minute)
		hang.Store(false)
		pointer, _, err := b.md.RemotePointer(t.Context(), w.tip())
		if err != nil {
			t.Fatal(err)
		}
		stray := w.newestIsWhole()
		if stray.Sequence <= pointer.Sequence {
			t.Fatalf("the newest root is %d, the committed one %d", stray.Sequence, pointer.Sequence)
		}
		// A leader that copies nothing finds the stray root, which is whole, and commits what it says.
		w.elect()
		b.close()
		b.dir = nil
		o.Topic = func(string) upload.TopicSettings { return upload.TopicSettings{CopyDisabled: true} }
		b = w.mustStart(settings{config: smallLog(), store: store, o: o})
		done := false
		for range 8 * 12 {
			time.Sleep(5 * time.Minute)
			if pointer, _, err = b.md.RemotePointer(t.Context(), w.tip()); err != nil {
				t.Fatal(err)
			}
			done = w.newestIsWhole().Sequence == pointer.Sequence && pointer.EndOffset >= stray.EndOffset
		}
		if v := b.m.View(w.tip()); !done || int64(w.segmentsInBucket()) != 2*v.Segments {
			t.Errorf("hours later the stray root is committed: %v; %d objects for %d segments", done, w.segmentsInBucket(), v.Segments)
		}
	})
}
