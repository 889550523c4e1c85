package tiering

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

var errCrash = errors.New("crashed")

// crashPoint makes the n-th write-side operation of disk, etcd and bucket together, and all after it, fail.
// Operations of etcd and the bucket count twice: before they are applied, and before their answer arrives.
type crashPoint struct {
	mu      sync.Mutex
	at, n   int
	tripped bool
	what    string
}

func (c *crashPoint) step(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.n == c.at {
		c.tripped, c.what = true, what
	}
	if c.tripped {
		return errCrash
	}
	return nil
}

func (c *crashPoint) dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tripped
}

func (c *crashPoint) arm(w *world, s settings) settings {
	s.fs = vfs.WithFaults(w.fs, func(op vfs.Op) error {
		if op.N == 0 {
			return nil
		}
		return c.step(fmt.Sprint("disk ", op.Kind, " ", op.Path))
	})
	s.store = object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
		if op.Kind != object.OpPut && op.Kind != object.OpDelete {
			return nil
		}
		return c.step(fmt.Sprint("bucket ", op.Kind, " ", op.Key, " after ", op.After))
	})
	s.kv = w.kv.Client(func(_ context.Context, call kv.Call) error {
		if call.Kind != kv.CallTxn {
			return nil
		}
		time.Sleep(3 * time.Millisecond) // virtual: what acts on a commit too early has time to
		if err := c.step(fmt.Sprint("etcd ", call.Key, " after ", call.After)); err != nil {
			return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
		}
		return nil
	})
	return s
}

// workload is a life of a partition: seal, upload, commit, evict, expire, delete. acked follows what was acked.
// scale multiplies what is produced.
func workload(b *broker, c *crashPoint, acked *int64, scale int) {
	produce := func(n int) bool {
		for range n * scale {
			if b.produce(1) != nil {
				return false
			}
			*acked = b.log.HighWatermark()
		}
		return true
	}
	until := func(cond func() bool) bool {
		for range 20_000 {
			if c.dead() {
				return false
			}
			if cond() {
				return true
			}
			time.Sleep(5 * time.Millisecond) // virtual
		}
		b.t.Error("workload stands still")
		return false
	}
	evict := func() bool { return b.evict() == nil }
	stop := make(chan struct{})
	var evictor sync.WaitGroup
	defer evictor.Wait()
	defer close(stop)
	evictor.Go(func() { // as the replica manager does, whenever the view allows it
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = b.evict() // fails once the disk does
			}
		}
	})
	if !produce(90) || !until(b.isUploaded) || !evict() || !produce(50) || !until(b.isUploaded) {
		return
	}
	cfg := b.log.Config()
	cfg.RetentionBytes = 8 << 10
	b.log.SetConfig(cfg)
	if !until(func() bool { v := b.m.View(b.tip()); return b.log.LogStart() > 0 && v.StartOffset >= b.log.LogStart() }) {
		return
	}
	if !evict() || !produce(40) || !until(b.isUploaded) || !evict() {
		return
	}
	until(func() bool { // segments that left the manifest are deleted after the grace period
		root, err := b.m.Root(b.t.Context(), b.tip())
		if err != nil || root == nil {
			return false
		}
		for _, g := range root.Garbage {
			if g.Roots == nil {
				return false
			}
		}
		return true
	})
}

func crashSettings() settings {
	return settings{config: smallLog(), chunk: 1 << 10, o: Options{Grace: 500 * time.Millisecond, Stall: time.Second}}
}

// elect is what the controller does after a broker came back: the same leader with the next epoch.
func (w *world) elect() {
	w.t.Helper()
	md, err := metadata.Open(w.t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		w.t.Fatal(err)
	}
	from, _ := md.Image().PartitionByID(w.tip())
	to := from
	to.LeaderEpoch++
	if errs := md.AlterPartitions(w.t.Context(), []metadata.PartitionChange{{TopicIDPartition: w.tip(), From: from, To: to}}); errs[0] != nil {
		w.t.Fatal(errs[0])
	}
}

// named returns the keys the committed manifest names: root, nodes, segments.
func (w *world) named() (map[string]bool, *manifest.Root) {
	w.t.Helper()
	md, err := metadata.Open(w.t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		w.t.Fatal(err)
	}
	pointer, ok, err := md.RemotePointer(w.t.Context(), w.tip())
	if err != nil {
		w.t.Fatal(err)
	}
	names := map[string]bool{}
	if !ok {
		return names, nil
	}
	root, err := manifest.DecodeRoot(body(w.t, w.store, "c1/"+pointer.Manifest))
	if err != nil {
		w.t.Fatal(err)
	}
	if root.StartOffset != pointer.StartOffset || root.EndOffset != pointer.EndOffset {
		w.t.Fatalf("pointer %+v names a root of %d to %d", pointer, root.StartOffset, root.EndOffset)
	}
	dir, err := manifest.DirOf(pointer.Manifest)
	if err != nil {
		w.t.Fatal(err)
	}
	names["c1/"+pointer.Manifest] = true
	tr := manifest.Tree{Root: root, Load: func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
		names["c1/"+manifest.NodeKey(dir, ref.Object)] = true
		return manifest.DecodeNode(body(w.t, w.store, "c1/"+manifest.NodeKey(dir, ref.Object)), ref)
	}}
	for e, err := range tr.Walk(w.t.Context(), 0, nil) {
		if err != nil {
			w.t.Fatal(err)
		}
		names["c1/"+manifest.SegmentKey(dir, e.Object, manifest.LogSuffix)] = true
		names["c1/"+manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)] = true
	}
	return names, root
}

// nothingMissing checks that the bucket has whatever the manifest names.
func (w *world) nothingMissing() map[string]bool {
	w.t.Helper()
	names, _ := w.named()
	have := w.objects()
	for key := range names {
		if _, ok := have[key]; !ok {
			w.t.Errorf("the manifest names %s, the bucket does not have it", key)
		}
	}
	return names
}

// tiny makes a segment of nearly every batch, so that leaves are sealed, joined, trimmed and dropped.
func tiny() settings {
	s := crashSettings()
	s.config.SegmentBytes = 400
	return s
}

// TestNoCrashLosesAnAckedRecordOrANamedObject is invariants 1, 4 and 5: the process dies, the machine too, at
// every write-side operation of seal, upload, commit, evict, expire and delete.
func TestNoCrashLosesAnAckedRecordOrANamedObject(t *testing.T) {
	for _, c := range []struct {
		name    string
		s       settings
		scale   int
		samples int
	}{{"few segments", crashSettings(), 1, 120}, {"sealed leaves", tiny(), 4, 12}} {
		t.Run(c.name, func(t *testing.T) {
			total := 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := &crashPoint{}
				b, err := w.start(p.arm(w, c.s))
				if err != nil {
					t.Fatal(err)
				}
				var acked int64
				workload(b, p, &acked, c.scale)
				b.close()
				total = p.n
			})
			seed := uint64(time.Now().UnixNano())
			t.Logf("%d operations, seed %d", total, seed)
			if testing.Short() {
				c.samples /= 6
			}
			step := max(total/c.samples, 1)
			for n, at := 0, 1+int(seed%uint64(step)); at <= total; n, at = n+1, at+step {
				keep := []int{0, 50, 100}[n%3]
				crashAt(t, c.s, c.scale, at, keep, seed)
				if t.Failed() {
					t.Fatalf("crash at operation %d of %d, %d %% of unsynced kept, seed %d", at, total, keep, seed)
				}
			}
		})
	}
}

func crashAt(t *testing.T, s settings, scale, at, keep int, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := &crashPoint{at: at}
		var acked, start int64
		crash := func() { w.fs = w.fs.Crash(rand.New(rand.NewSource(int64(seed)+int64(at))), keep) }
		if b, err := w.start(c.arm(w, s)); err == nil {
			workload(b, c, &acked, scale)
			crash()
			b.close()
			start = b.log.LogStart()
		} else {
			crash()
		}
		t.Logf("crashed at %q, %d acked, log start %d", c.what, acked, start)
		w.nothingMissing()
		w.elect()
		b := w.mustStart(s)
		b.log.SetHighWatermark(b.log.LogEnd())
		if b.log.LogEnd() < acked {
			t.Fatalf("acked up to %d, log ends at %d", acked, b.log.LogEnd())
		}
		settle(t, "the view is loaded", func() bool { return b.m.View(w.tip()).Loaded })
		if b.log.LogStart() > start {
			t.Errorf("log start went from %d to %d", start, b.log.LogStart())
		}
		if _, err := b.readAll(t.Context(), max(start, b.log.LogStart()), 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		w.nothingMissing()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // virtual: beyond every grace period
		if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
			t.Fatal(err)
		}
		names := w.nothingMissing()
		orphans := 0
		for key := range w.objects() {
			if !names[key] && !strings.HasSuffix(key, "/topic.json") {
				orphans++
			}
		}
		// What one crash can leave: the segments of one batch, a new node and what it joins, a root or two.
		if most := 2*16 + manifest.LeafEntries/manifest.TailEntries + 6; orphans > most {
			t.Errorf("%d orphans, want at most %d", orphans, most)
		}
		b.close()
		b.dir = nil
	})
}
