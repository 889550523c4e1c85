package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// content is a partition's batches by base offset.
type content map[int64]record.Batch

// verify reads everything from everybody once all is whole, and compares.
func (w *world) verify(ctx context.Context) error {
	var askers []*asker
	for _, n := range w.nodes {
		a, err := w.asker(n)
		if err != nil {
			return err
		}
		defer a.cl.Close()
		askers = append(askers, a)
	}
	final := make(map[place]item)
	for _, name := range append(w.h.topics(), offsetsTopic) {
		for n := range w.truth.partitionsOf(name) {
			whole, err := w.verifyPartition(ctx, askers, name, n)
			if err != nil {
				return fmt.Errorf("%s-%d: %w", name, n, err)
			}
			w.verifyTier(ctx, name, n, whole)
			if name != offsetsTopic {
				w.collect(name, n, whole, final)
			}
		}
	}
	w.h.end(final)
	return w.verifyGroup(ctx)
}

// verifyPartition reads a partition from its beginning to its end from every
// broker, and returns what the leader has.
func (w *world) verifyPartition(ctx context.Context, askers []*asker, name string, n int32) (content, error) {
	p, pointer, _ := w.truth.led(name, n)
	i := slices.IndexFunc(askers, func(a *asker) bool { return a.n.id == p.Leader })
	if i < 0 {
		return nil, errors.New("no leader")
	}
	end, err := askers[i].end(ctx, name, n)
	if err != nil {
		return nil, fmt.Errorf("end: %w", err)
	}
	whole, err := askers[i].all(ctx, name, n, end)
	if err != nil {
		return nil, err
	}
	for _, a := range askers {
		if a == askers[i] {
			continue
		}
		upTo := end
		if !slices.Contains(p.Replicas, a.n.id) {
			upTo = pointer.EndOffset // the tier is all that such a broker has
		}
		has, err := a.all(ctx, name, n, upTo)
		if err != nil {
			return nil, err
		}
		w.compare(fmt.Sprintf("%s-%d of %s", name, n, a.n.host), has, askers[i].n.host, whole)
	}
	return whole, nil
}

// readTime is how long it may take to read a partition.
const readTime = time.Minute

// all reads a partition up to an offset.
func (a *asker) all(ctx context.Context, name string, n int32, upTo int64) (content, error) {
	got := make(content)
	var last error
	for at, begin := int64(0), time.Now(); at < upTo; {
		if time.Since(begin) > readTime {
			return nil, fmt.Errorf("%s does not show offset %d of %d after %v: %w", a.n.host, at, upTo, readTime, last)
		}
		answer, err := a.fetch(ctx, name, n, at, 1<<20)
		if err == nil && len(answer.batches) == 0 {
			err = fmt.Errorf("nothing, elsewhere %v", answer.elsewhere)
		}
		if last = err; err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		for _, b := range answer.batches {
			got[b.BaseOffset()] = b
			at = b.NextOffset()
		}
	}
	return got, nil
}

// compare complains of batches that differ from those of another source.
func (w *world) compare(who string, has content, other string, want content) {
	for _, base := range slices.Sorted(maps.Keys(has)) {
		if b, ok := want[base]; !ok {
			w.h.fail("%s has a batch at %d, %s has none there", who, base, other)
		} else if !bytes.Equal(b, has[base]) {
			w.h.fail("%s has other bytes than %s in the batch at %d: epochs %d and %d, last offsets %d and %d", who, other, base,
				has[base].LeaderEpoch(), b.LeaderEpoch(), has[base].LastOffset(), b.LastOffset())
		}
	}
}

// collect adds the records of a partition to final.
func (w *world) collect(name string, n int32, whole content, final map[place]item) {
	for base, b := range whole {
		err := b.Each(record.NewDecompressor(maxValue), func(rec record.Record) error {
			r, _ := parseRecord(rec.Value)
			final[place{name, n, rec.Offset}] = r
			return nil
		})
		if err != nil {
			w.h.fail("%s-%d: batch at %d: %v", name, n, base, err)
		}
	}
}

// verifyTier walks the manifest: it has no gap, ends where the pointer says, and
// its objects hold the partition's bytes.
func (w *world) verifyTier(ctx context.Context, name string, n int32, whole content) {
	_, pointer, _ := w.truth.led(name, n)
	if pointer.Manifest == "" {
		return
	}
	who := fmt.Sprintf("the tier of %s-%d", name, n)
	key := w.truth.clusterID() + "/" + pointer.Manifest
	root, err := manifest.DecodeRoot(w.object(ctx, key))
	if err != nil {
		w.h.fail("%s: %v", who, err)
		return
	}
	dir := path.Dir(path.Dir(key))
	next := root.StartOffset
	entry := func(e *manifest.Entry) {
		if e.BaseOffset != next {
			w.h.fail("%s has a gap: offset %d follows %d", who, e.BaseOffset, next-1)
		}
		next = e.LastOffset + 1
		batches, err := w.parse(who, name, n, w.object(ctx, path.Join(dir, "segments", e.Object+".log")))
		if err != nil || len(batches) == 0 || batches[0].BaseOffset() != e.BaseOffset || batches[len(batches)-1].LastOffset() != e.LastOffset {
			w.h.fail("%s: object %s does not hold offsets %d to %d: %d batches, %v", who, e.Object, e.BaseOffset, e.LastOffset, len(batches), err)
		}
		has := make(content)
		for _, b := range batches {
			has[b.BaseOffset()] = b
		}
		w.compare(who, has, "its leader", whole)
	}
	w.walk(ctx, dir, root.Refs, entry)
	for i := range root.Tail {
		entry(&root.Tail[i])
	}
	if next != pointer.EndOffset || root.StartOffset != pointer.StartOffset {
		w.h.fail("%s covers %d to %d, its pointer says %d to %d", who, root.StartOffset, next, pointer.StartOffset, pointer.EndOffset)
	}
}

func (w *world) walk(ctx context.Context, dir string, refs []manifest.Ref, entry func(e *manifest.Entry)) {
	for _, ref := range refs {
		node, err := manifest.DecodeNode(w.object(ctx, path.Join(dir, "manifest", ref.Object+".json")), ref)
		if err != nil {
			w.h.fail("manifest node %s: %v", ref.Object, err)
			continue
		}
		w.walk(ctx, dir, node.Refs, entry)
		for i := range node.Entries {
			entry(&node.Entries[i])
		}
	}
}

// object is the bytes of an object, nil if it is not there.
func (w *world) object(ctx context.Context, key string) []byte {
	body, err := w.objects.Get(ctx, key, 0, -1)
	if err != nil {
		w.h.fail("object %s: %v", key, err)
		return nil
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		w.h.fail("object %s: %v", key, err)
	}
	return b
}

// verifyGroup asks for the group once its members are gone: it holds a place
// within each partition.
func (w *world) verifyGroup(ctx context.Context) error {
	offsets, err := w.admin.FetchOffsets(ctx, groupName)
	if err != nil {
		return fmt.Errorf("committed offsets: %w", err)
	}
	ends, err := w.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("ends: %w", err)
	}
	for n := range int32(partitions) {
		of := committedOf(topic, n)
		o, _ := offsets.Lookup(topic, n)
		end, _ := ends.Lookup(topic, n)
		w.h.atLeast("the operator", of, w.h.floor(of), o.At)
		if o.At > end.Offset {
			w.h.fail("%s is %d, the partition ends at %d", of, o.At, end.Offset)
		}
	}
	return nil
}

// verifyDisks compares what lies on the disks of stopped brokers, byte by byte.
func (w *world) verifyDisks() error {
	found := make(map[string]map[string]content) // partition, host
	for _, n := range w.nodes {
		dirs, err := n.disk.List("/data")
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			name, _, _ := cutLast(dir, "-")
			if p, _, ok := w.truth.led(name, partitionOf(dir)); !ok || !slices.Contains(p.Replicas, n.id) {
				continue
			}
			has, err := w.onDisk(n, name, partitionOf(dir), path.Join("/data", dir))
			if err != nil {
				return fmt.Errorf("%s on the disk of %s: %w", dir, n.host, err)
			}
			for host, other := range found[dir] {
				w.compareCommon(dir, n.host, has, host, other)
			}
			if found[dir] == nil {
				found[dir] = make(map[string]content)
			}
			found[dir][n.host] = has
		}
	}
	return nil
}

// compareCommon compares where both have something, which retention may make
// begin at different offsets.
func (w *world) compareCommon(dir, host string, has content, otherHost string, other content) {
	if len(has) == 0 || len(other) == 0 {
		return
	}
	from := max(slices.Min(slices.Collect(maps.Keys(has))), slices.Min(slices.Collect(maps.Keys(other))))
	before := func(base int64, _ record.Batch) bool { return base < from }
	has, other = maps.Clone(has), maps.Clone(other)
	maps.DeleteFunc(has, before)
	maps.DeleteFunc(other, before)
	w.compare(dir+" on the disk of "+host, has, "that of "+otherHost, other)
	w.compare(dir+" on the disk of "+otherHost, other, "that of "+host, has)
}

func (w *world) onDisk(n *node, name string, partition int32, dir string) (content, error) {
	files, err := n.disk.List(dir)
	if err != nil {
		return nil, err
	}
	has := make(content)
	for _, f := range files {
		if !strings.HasSuffix(f, ".log") {
			continue
		}
		b, err := vfs.ReadFile(n.disk, path.Join(dir, f), 1<<30)
		if err != nil {
			return nil, err
		}
		batches, err := w.parse("the disk of "+n.host, name, partition, b)
		if err != nil {
			return nil, err
		}
		for _, b := range batches {
			has[b.BaseOffset()] = b
		}
	}
	return has, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// partitionOf is the number in a directory's name, -1 if it is no partition's.
func partitionOf(dir string) int32 {
	var n int32
	_, number, ok := cutLast(dir, "-")
	if _, err := fmt.Sscan(number, &n); !ok || err != nil {
		return -1
	}
	return n
}
