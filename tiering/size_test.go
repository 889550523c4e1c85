package tiering

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	vastRecords = 10 // records of one segment, in one batch
	vastMark    = "-0-00000000-0000-0000-0000-000000000000"
)

// vastTier is a store with a manifest of any number of segments whose objects are made when they are asked for, and
// counts what is asked of it.
type vastTier struct {
	object.Store
	tip    metadata.TopicIDPartition
	leaves map[string][2]int64 // key: number of the first entry, and how many
	sample manifest.Entry      // sizes are those of every entry

	gets, getBytes, logGets, puts, putBytes atomic.Int64
}

func vastLog(base int64) []byte {
	bl := record.NewBuilder(record.BuilderOptions{})
	for i := range int64(vastRecords) {
		bl.Append(testTime(base+i), nil, make([]byte, 100))
	}
	b := record.Batch(bl.Build())
	b.SetBaseOffset(base)
	return b
}

func vastIndex(base int64) (b []byte, head int64, err error) {
	x := &index.Index{
		BaseOffset: base, LastOffset: base + vastRecords - 1, LogBytes: int64(len(vastLog(base))), LogCRC32C: manifest.CRC(base),
		MaxTimestamp: testTime(base + vastRecords - 1), Cuts: []index.Cut{{Offset: base, MaxTimestamp: testTime(base + vastRecords - 1)}},
		Epochs: manifest.Lineage{{}}, Snapshot: producer.NewManager(time.Hour, time.Hour).Snapshot(),
	}
	return x.Encode()
}

func (v *vastTier) entry(n int64) manifest.Entry {
	e := v.sample
	base := n * vastRecords
	e.BaseOffset, e.LastOffset, e.MaxTimestampOffset = base, base+vastRecords-1, base+vastRecords-1
	e.MaxTimestamp, e.CRC32C = testTime(e.LastOffset), manifest.CRC(base)
	e.Epochs = manifest.Lineage{{StartOffset: base}}
	e.Object = fmt.Sprintf("%020d%s", base, vastMark)
	return e
}

func (v *vastTier) entries(from, n int64) []manifest.Entry {
	all := make([]manifest.Entry, n)
	for i := range all {
		all[i] = v.entry(from + int64(i))
	}
	return all
}

// made returns what is not in the store.
func (v *vastTier) made(key string) ([]byte, error) {
	if leaf, ok := v.leaves[key]; ok {
		n := &manifest.Node{TopicID: v.tip.Topic, Partition: v.tip.Partition, Level: 1, Entries: v.entries(leaf[0], leaf[1])}
		b, _, err := n.Encode("x")
		return b, err
	}
	stem, ok := strings.CutSuffix(key[:len(key)-len(manifest.LogSuffix)], vastMark)
	if !ok {
		return nil, nil
	}
	base, err := strconv.ParseInt(stem[len(stem)-20:], 10, 64)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(key, manifest.LogSuffix) {
		return vastLog(base), nil
	}
	b, _, err := vastIndex(base)
	return b, err
}

func (v *vastTier) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	v.gets.Add(1)
	if strings.HasSuffix(key, manifest.LogSuffix) {
		v.logGets.Add(1)
	}
	b, err := v.made(key)
	var body io.ReadCloser
	switch {
	case err != nil:
		return nil, err
	case b == nil:
		body, err = v.Store.Get(ctx, key, off, n)
	case n < 0:
		body = io.NopCloser(bytes.NewReader(b[off:]))
	default:
		body = io.NopCloser(bytes.NewReader(b[off : off+n]))
	}
	if err != nil {
		return nil, err
	}
	return &countedBody{body, &v.getBytes}, nil
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

func (v *vastTier) Put(ctx context.Context, key string, body object.Body, o object.PutOptions) (object.Info, error) {
	v.puts.Add(1)
	v.putBytes.Add(body.Size())
	return v.Store.Put(ctx, key, body, o)
}

// newVastTier commits a manifest of n segments to a world that has none, by the code that commits any.
func newVastTier(t testing.TB, w *world, n int64) *vastTier {
	v := &vastTier{Store: w.store, tip: w.tip(), leaves: map[string][2]int64{}}
	index, head, err := vastIndex(0)
	if err != nil {
		t.Fatal(err)
	}
	v.sample = manifest.Entry{Bytes: int64(len(vastLog(0))), IndexBytes: int64(len(index)), IndexHead: head, Created: 1}
	dir := manifest.PartitionDir(w.topic.Name, v.tip)
	e := manifest.NewEdit(manifest.NewRoot(w.topic.Name, v.tip, 0), nil, time.UnixMilli(1), time.Hour)
	e.Load = func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
		return &manifest.Node{Level: 1, Entries: v.entries(ref.BaseOffset/vastRecords, ref.Segments)}, nil
	}
	put := func(key string, b []byte) {
		if _, err := w.store.Put(t.Context(), "c1/"+key, object.Bytes(b), object.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	keep := func() { // the leaves are not kept: a million entries are hundreds of megabytes
		for _, node := range e.Nodes {
			if key := manifest.NodeKey(dir, node.Name); node.Node.Level == 1 {
				v.leaves["c1/"+key] = [2]int64{node.Ref.BaseOffset / vastRecords, node.Ref.Segments}
			} else {
				put(key, node.Body)
			}
		}
		e.Nodes = nil
	}
	for ; n-e.Next.Segments > manifest.LeafEntries; keep() { // whole leaves, as sealTail leaves them in the end
		if err := v.addLeaf(t.Context(), e, n); err != nil {
			t.Fatal(err)
		}
	}
	for e.Next.Segments < n {
		if err := e.Add(t.Context(), v.entry(e.Next.Segments)); err != nil {
			t.Fatal(err)
		}
	}
	keep()
	e.Next.Sequence = 1
	b, err := e.Next.Encode()
	if err != nil {
		t.Fatal(err)
	}
	pointer := metadata.RemotePointer{Manifest: manifest.NodeKey(dir, manifest.RootName(0, 1)), Sequence: 1, EndOffset: n * vastRecords}
	put(pointer.Manifest, b)
	md, err := metadata.Open(t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := md.SwapRemotePointer(t.Context(), v.tip, metadata.RemotePointer{}, 0, pointer); err != nil {
		t.Fatal(err)
	}
	return v
}

// addLeaf appends a leaf of a manifest of n entries. To encode a million entries takes a minute with the race detector,
// so leaves that nobody will look into have a reference only.
func (v *vastTier) addLeaf(ctx context.Context, e *manifest.Edit, n int64) error {
	r := &e.Next
	from := r.Segments
	first, last := v.entry(from), v.entry(from+manifest.LeafEntries-1)
	r.Segments += manifest.LeafEntries
	r.Bytes += manifest.LeafEntries * v.sample.Bytes
	r.EndOffset, r.Epochs = last.LastOffset+1, manifest.Lineage{{}}
	for _, looked := range []int64{0, n / 2, n / 5} {
		if looked/manifest.LeafEntries == from/manifest.LeafEntries {
			r.Tail = v.entries(from, manifest.LeafEntries)
			return e.SealTail(ctx)
		}
	}
	r.Refs = append(r.Refs, manifest.Ref{
		Level: 1, Object: manifest.NewNodeName(first.BaseOffset), Size: 1, BaseOffset: first.BaseOffset, LastOffset: last.LastOffset,
		MaxTimestamp: last.MaxTimestamp, Bytes: manifest.LeafEntries * v.sample.Bytes, Segments: manifest.LeafEntries,
	})
	return e.PackLevels()
}

// spent is what an operation cost.
type spent struct {
	Gets, GetBytes, LogGets, Puts, PutBytes int64
	Allocated                               int64
}

func (v *vastTier) spend(t testing.TB, fn func() error) spent {
	t.Helper()
	now := func() spent {
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		return spent{v.gets.Load(), v.getBytes.Load(), v.logGets.Load(), v.puts.Load(), v.putBytes.Load(), int64(mem.TotalAlloc)}
	}
	before := now()
	if err := fn(); err != nil {
		t.Fatal(err)
	}
	s := now()
	return spent{
		s.Gets - before.Gets, s.GetBytes - before.GetBytes, s.LogGets - before.LogGets, s.Puts - before.Puts,
		s.PutBytes - before.PutBytes, s.Allocated - before.Allocated,
	}
}

// leads opens a broker over a tier of n segments, which its local log continues.
func (v *vastTier) leads(t testing.TB, w *world, n int64) (*broker, *partition) {
	b := w.mustStart(settings{config: smallLog(), store: v, noRun: true, noLead: true, o: Options{Grace: time.Hour}})
	t.Cleanup(b.m.tasks.Close)
	if err := b.log.TruncateFullyAndStartAt(n*vastRecords, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.log.AssignEpoch(b.epoch, n*vastRecords); err != nil {
		t.Fatal(err)
	}
	b.log.SetHighWatermark(n * vastRecords)
	b.m.Lead(w.tip(), b.epoch, b.log)
	return b, b.m.partition(w.tip())
}

// vastCosts does once what a broker does with a partition.
func vastCosts(t testing.TB, n int64) map[string]spent {
	w := newWorld(t)
	v := newVastTier(t, w, n)
	b, p := v.leads(t, w, n)
	costs := map[string]spent{}
	do := func(what string, fn func() error) { costs[what] = v.spend(t, fn) }
	do("start-up", func() error { return b.m.loadView(t.Context(), p, p.leader) })
	if view := b.m.View(v.tip); !view.Loaded || view.Segments != n {
		t.Fatalf("view of %d segments: %+v", n, view)
	}
	read := func(entry int64) error {
		d, err := b.m.Read(t.Context(), v.tip, entry*vastRecords+5, segment.ReadOptions{UpTo: math.MaxInt64, MaxBytes: 1, MinOne: true})
		if err != nil {
			return err
		}
		defer d.Release()
		if d.NextOffset() != (entry+1)*vastRecords {
			return fmt.Errorf("entry %d: read up to %d", entry, d.NextOffset())
		}
		return nil
	}
	do("seek by offset, cold", func() error { return read(n / 2) })
	do("seek by offset, again", func() error { return read(n/2 + 3) })
	byTime := func(entry int64) error {
		want := entry*vastRecords + 5
		got, ok, err := b.m.OffsetForTimestamp(t.Context(), v.tip, testTime(want)-3, 0)
		if err == nil && (!ok || got.Offset != want) {
			err = fmt.Errorf("time of offset %d: %+v, %v", want, got, ok)
		}
		return err
	}
	do("seek by time, cold", func() error { return byTime(n / 5) })
	do("seek by time, again", func() error { return byTime(n/5 + 1) })
	do("highest timestamp", func() error {
		got, ok, err := b.m.MaxTimestamp(t.Context(), v.tip, 0)
		if err == nil && (!ok || got.Offset != n*vastRecords-1) {
			err = fmt.Errorf("%+v, %v", got, ok)
		}
		return err
	})
	for _, what := range []string{"first commit", "commit"} { // the first one finds the tail full or not
		for before := b.log.Segments(); b.log.Segments() == before; {
			if err := b.produce(1); err != nil {
				t.Fatal(err)
			}
		}
		before := b.m.View(v.tip)
		settle(t, "a sealed segment", func() bool { return len(b.log.Sealed(before.HighestOffset+1)) == 1 })
		do(what, func() error { return b.m.copySealed(t.Context(), p, p.leader) })
		if got := b.m.View(v.tip).Segments; got != before.Segments+1 {
			t.Fatalf("%d segments after the commit, %d before", got, before.Segments)
		}
	}
	for i, what := range []string{"first retention", "retention"} {
		if err := b.log.SetLogStart(int64(i+1) * vastRecords); err != nil {
			t.Fatal(err)
		}
		do(what, func() error { return b.m.keep(t.Context(), p, p.leader, time.Now()) })
		if got := b.m.View(v.tip).StartOffset; got != int64(i+1)*vastRecords {
			t.Fatalf("the tier starts at %d", got)
		}
	}
	return costs
}

// TestCostDoesNotGrowWithWhatIsRetained is invariant 11 of the tier: with a million segments everything asks for the
// same objects as with ten, but for the two nodes of the manifest on the way to what nobody looked at lately, and the
// ten parts that become a leaf once in a thousand commits.
func TestCostDoesNotGrowWithWhatIsRetained(t *testing.T) {
	few, many := vastCosts(t, 10), vastCosts(t, 1_000_000)
	for what, a := range few {
		b := many[what]
		t.Logf("%-22s %+v\n%22s %+v", what, a, "", b)
		nodes, nodeBytes, rootBytes := int64(0), int64(0), int64(96<<10)
		if strings.Contains(what, "cold") || strings.Contains(what, "first") {
			nodes, nodeBytes = 2, 512<<10
		}
		if what == "first commit" {
			nodes = 9
		}
		switch {
		case b.Gets > a.Gets+nodes || b.GetBytes > a.GetBytes+nodeBytes+rootBytes || b.LogGets > a.LogGets:
			t.Errorf("%s: GETs of %+v, with ten segments %+v", what, b, a)
		case b.Puts > a.Puts+min(nodes, 1) || b.PutBytes > a.PutBytes+rootBytes+nodeBytes:
			t.Errorf("%s: PUTs of %+v, with ten segments %+v", what, b, a)
		case b.Allocated > a.Allocated+16<<20:
			t.Errorf("%s: allocated %d bytes, with ten segments %d", what, b.Allocated, a.Allocated)
		}
	}
}
