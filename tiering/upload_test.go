package tiering

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestCommitThatCountsLateIsPublished: the swap is on its way to etcd, its caller gives up and reads the old pointer
// twice, and only then does it take effect.
func TestCommitThatCountsLateIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		md, err := metadata.Open(t.Context(), metadata.Options{KV: w.kv})
		if err != nil {
			t.Fatal(err)
		}
		var late metadata.RemotePointer
		arrive := func() {
			for key := range w.objects() {
				if !strings.Contains(key, "/manifest/") {
					continue
				}
				root, err := DecodeRoot(body(t, w.store, key))
				if err != nil {
					t.Error(err)
					return
				}
				late = metadata.RemotePointer{
					Manifest: strings.TrimPrefix(key, "c1/"), Sequence: root.Sequence, LeaderEpoch: root.LeaderEpoch,
					StartOffset: root.StartOffset, EndOffset: root.EndOffset,
				}
				_, err = md.SwapRemotePointer(t.Context(), w.tip(), metadata.RemotePointer{}, 0, late)
				if err != nil {
					t.Error(err)
				}
			}
		}
		var held, reads atomic.Int64
		var arrived atomic.Bool
		client := w.kv.Client(func(_ context.Context, c kv.Call) error {
			switch {
			case !strings.Contains(c.Key, "remote/"):
			case c.Kind == kv.CallTxn && !c.After && !arrived.Load():
				held.Add(1)
				return kv.ErrUnavailable
			case c.Kind == kv.CallRange && c.After && held.Load() > 0 && reads.Add(1) == 2:
				arrive()
				arrived.Store(true)
				time.Sleep(time.Millisecond) // virtual: the image shows it before this answer is here
			}
			return nil
		})
		b := w.mustStart(settings{config: smallLog(), kv: client, noLead: true})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all is sealed: one commit has it all
		b.m.Lead(w.tip(), b.epoch, b.log)
		time.Sleep(time.Minute) // virtual
		if late.Manifest == "" {
			t.Fatalf("%d swaps, %d reads: the late one never came", held.Load(), reads.Load())
		}
		if v := b.m.View(w.tip()); !v.Loaded || v.HighestOffset < late.EndOffset-1 {
			t.Fatalf("view %+v, committed up to %d", v, late.EndOffset)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if b.log.LocalLogStart() == 0 {
			t.Error("nothing was evicted")
		}
		w.nothingMissing()
	})
}
