package tiering

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// errNoSource says that the local log cannot give what is lost.
var errNoSource = errors.New("the local log no longer has it")

// repair puts a segment's bad objects back from the local log of the leader, and says in the problem what became of it.
func (m *Manager) repair(ctx context.Context, problem *Problem, tip metadata.TopicIDPartition, e Entry, d damage) {
	m.mu.Lock()
	p := m.partitions[tip]
	m.mu.Unlock()
	var l *leadership
	if p != nil {
		p.mu.Lock()
		l = p.leader
		p.mu.Unlock()
	}
	if l == nil {
		problem.Action = "left: only the partition's leader can repair it"
		if state, ok := m.o.Metadata.Image().PartitionByID(tip); ok && state.Leader != metadata.NoBroker {
			problem.Action += fmt.Sprintf(", broker %d", state.Leader)
		}
		return
	}
	var stem string
	err := m.do(ctx, p, l, func(ctx context.Context, man manifest) (next manifest, err error) {
		stem, next, err = m.replaceObjects(ctx, p, l, man, e, d)
		return next, err
	})
	if err != nil {
		problem.Action = "not repaired: " + err.Error()
		return
	}
	problem.Repaired, problem.Action = true, "copied again from the local log as "+stem
	m.log.Info("segment copied again", "topic", l.topic, "partition", p.tip.Partition, "offset", e.BaseOffset, "last", e.LastOffset, "object", stem)
}

// replaceObjects uploads a segment's pair of objects under a new name and has the manifest name that. It is a job of
// the partition's pass. Bytes other than those that were committed never replace them.
func (m *Manager) replaceObjects(ctx context.Context, p *partition, l *leadership, man manifest, old Entry, d damage) (string, manifest, error) {
	if man.root == nil {
		return "", man, ErrOffsetOutOfRange
	}
	if now, err := man.find(ctx, old.BaseOffset); err != nil || now.Object != old.Object {
		return "", man, errors.Join(err, fmt.Errorf("the manifest no longer names %s", old.Object))
	}
	next := old
	next.Object, next.Created = newStem(old.BaseOffset, l.epoch), time.Now().UnixMilli()
	body, release, err := m.logSource(ctx, man.dir, l, &old, d)
	if err != nil {
		return "", man, err
	}
	defer release()
	index, err := m.indexSource(ctx, man.dir, l, &next, old.Object, d)
	if err != nil {
		return "", man, err
	}
	dir := partitionDir(l.topic, p.tip)
	if err = m.putVerified(ctx, segmentKey(dir, next.Object, logSuffix), body, uint32(next.CRC32C)); err == nil {
		err = m.putVerified(ctx, segmentKey(dir, next.Object, indexSuffix), object.Bytes(index), uint32(next.IndexCRC32C))
	}
	if err != nil {
		m.removePairs(ctx, dir, []string{next.Object})
		return "", man, err
	}
	e := editOf(man.root, man.load, time.Now(), m.o.Grace)
	e.forget(sweptItems(man.root.Garbage, l.swept))
	if err := e.replace(ctx, old, next); err != nil {
		m.removePairs(ctx, dir, []string{next.Object})
		return "", man, err
	}
	if err := m.commit(ctx, p, l, man, e); err != nil {
		return "", man, err
	}
	m.memo.drop(segmentKey(man.dir, old.Object, indexSuffix))
	man, err = m.current(ctx, p, false)
	return next.Object, man, err
}

// logSource returns the bytes of a segment: the local log's when the object is bad, else the object's own.
func (m *Manager) logSource(ctx context.Context, dir string, l *leadership, e *Entry, d damage) (object.Body, func(), error) {
	if !d.log {
		return &storeBody{m: m, ctx: ctx, key: segmentKey(dir, e.Object, logSuffix), size: e.Bytes}, func() {}, nil
	}
	body, release, err := gather(l.log, e)
	if err != nil {
		release()
		return nil, nil, err
	}
	return body, release, nil
}

// indexSource returns the index object and notes what it is in next: a new one when the old is bad, else the old.
func (m *Manager) indexSource(ctx context.Context, dir string, l *leadership, next *Entry, old string, d damage) ([]byte, error) {
	if !d.index {
		b, err := m.getAll(ctx, segmentKey(dir, old, indexSuffix), next.IndexBytes)
		if err == nil && crc32.Checksum(b, castagnoli) != uint32(next.IndexCRC32C) {
			err = fmt.Errorf("index object: %w", ErrCorrupt)
		}
		return b, err
	}
	for _, s := range l.log.Sealed(next.LastOffset) {
		if s.LastOffset != next.LastOffset || s.BaseOffset > next.BaseOffset {
			break
		}
		seg, err := l.log.OpenSealed(s.BaseOffset)
		if err != nil {
			return nil, err
		}
		defer seg.Release()
		entry, index, _, err := describe(seg, s, next.BaseOffset)
		if err != nil {
			return nil, err
		}
		if entry.CRC32C != next.CRC32C || entry.Bytes != next.Bytes {
			return nil, fmt.Errorf("the local segment has other bytes, checksum %08x, want %08x: %w", uint32(entry.CRC32C), uint32(next.CRC32C), errNoSource)
		}
		next.IndexBytes, next.IndexHead, next.IndexCRC32C, next.Aborted = entry.IndexBytes, entry.IndexHead, entry.IndexCRC32C, entry.Aborted
		next.AbortedFrom, next.AbortedStable = entry.AbortedFrom, entry.AbortedStable
		return index, nil
	}
	return nil, fmt.Errorf("no local segment ends at offset %d, so its index cannot be made again: %w", next.LastOffset, errNoSource)
}

// gather finds the bytes of an entry in the sealed segments of a log, whatever their borders. What it returns is what
// was committed: size and checksum are compared. release must be called also after an error.
func gather(log *segment.Log, e *Entry) (object.Body, func(), error) {
	var open []*segment.SealedSegment
	release := func() {
		for _, s := range open {
			s.Release()
		}
	}
	var parts joined
	sum, size := uint32(0), int64(0)
	for _, s := range log.Sealed(e.BaseOffset) {
		if s.BaseOffset > e.LastOffset {
			break
		}
		seg, err := log.OpenSealed(s.BaseOffset)
		if err != nil {
			return nil, release, err
		}
		open = append(open, seg)
		start, end := int64(-1), int64(0)
		err = seg.Scan(func(b record.Batch, pos int64) error {
			if b.BaseOffset() < e.BaseOffset || b.LastOffset() > e.LastOffset {
				return nil
			}
			if start < 0 {
				start = pos
			}
			end = pos + int64(b.Size())
			sum = crc32.Update(sum, castagnoli, b)
			return nil
		})
		if err != nil {
			return nil, release, err
		}
		if start >= 0 {
			parts = append(parts, io.NewSectionReader(seg.LogFile(), start, end-start))
			size += end - start
		}
	}
	if size != e.Bytes || sum != uint32(e.CRC32C) {
		return nil, release, fmt.Errorf("%d bytes of offsets %d to %d are local, checksum %08x, want %d and %08x: %w",
			size, e.BaseOffset, e.LastOffset, sum, e.Bytes, uint32(e.CRC32C), errNoSource)
	}
	return parts, release, nil
}

// joined is a Body of several.
type joined []*io.SectionReader

// Size implements object.Body.
func (j joined) Size() int64 {
	var n int64
	for _, r := range j {
		n += r.Size()
	}
	return n
}

// ReadAt implements io.ReaderAt.
func (j joined) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for _, r := range j {
		if off >= r.Size() {
			off -= r.Size()
			continue
		}
		k, err := r.ReadAt(b[n:min(int64(len(b)), int64(n)+r.Size()-off)], off)
		n += k
		if err != nil && err != io.EOF || n == len(b) {
			return n, err
		}
		off = 0
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// storeBody is an object that is copied to another name.
type storeBody struct {
	m    *Manager
	ctx  context.Context // of the one copy that this body belongs to
	key  string
	size int64
}

// Size implements object.Body.
func (s *storeBody) Size() int64 { return s.size }

// ReadAt implements io.ReaderAt.
func (s *storeBody) ReadAt(b []byte, off int64) (int, error) {
	want := b[:min(int64(len(b)), s.size-off)]
	ctx, cancel := context.WithTimeout(s.ctx, s.m.o.Stall)
	defer cancel()
	n, err := object.ReadFull(ctx, s.m.o.Store, s.m.prefix+s.key, off, want)
	if err == nil && len(want) < len(b) {
		err = io.EOF
	}
	return n, err
}

// replace has the manifest name other objects for the offsets of one entry.
func (e *edit) replace(ctx context.Context, old, next Entry) error {
	r := &e.next
	if next.BaseOffset != old.BaseOffset || next.LastOffset != old.LastOffset || next.Bytes != old.Bytes || next.CRC32C != old.CRC32C {
		return fmt.Errorf("entry of offsets %d to %d replaced by other bytes: %w", old.BaseOffset, old.LastOffset, ErrDiverged)
	}
	if err := next.validate(); err != nil {
		return err
	}
	if !e.burySegment(old.Object) {
		return errors.New("the list of pending deletions is full, try again later")
	}
	for i := range r.Tail {
		if r.Tail[i].Object == old.Object {
			r.Tail[i] = next
			return nil
		}
	}
	for i := range r.Refs {
		if r.Refs[i].BaseOffset <= old.BaseOffset && old.LastOffset <= r.Refs[i].LastOffset {
			ref, err := e.replaceBelow(ctx, r.Refs[i], old, next)
			r.Refs[i] = ref
			return err
		}
	}
	return fmt.Errorf("no node holds offset %d: %w", old.BaseOffset, ErrOffsetOutOfRange)
}

// replaceBelow makes a node anew with the entry replaced, and all nodes between.
func (e *edit) replaceBelow(ctx context.Context, ref Ref, old, next Entry) (Ref, error) {
	was, err := e.node(ctx, ref)
	if err != nil {
		return ref, err
	}
	node := &Node{TopicID: was.TopicID, Partition: was.Partition, Level: was.Level, Entries: slices.Clone(was.Entries), Refs: slices.Clone(was.Refs)}
	found := false
	for i := range node.Entries {
		if node.Entries[i].Object == old.Object {
			node.Entries[i], found = next, true
		}
	}
	for i := range node.Refs {
		if node.Refs[i].BaseOffset <= old.BaseOffset && old.LastOffset <= node.Refs[i].LastOffset {
			if node.Refs[i], err = e.replaceBelow(ctx, node.Refs[i], old, next); err != nil {
				return ref, err
			}
			found = true
		}
	}
	if !found {
		return ref, fmt.Errorf("node %s does not name %s: %w", ref.Object, old.Object, ErrCorrupt)
	}
	name := newNodeName(node.base())
	body, made, err := node.encode(name)
	if err != nil {
		return ref, err
	}
	e.nodes = append(e.nodes, newNode{name: name, node: node, ref: made, body: body})
	// A pending deletion that reads the old node needs it; then it is left to the collector of orphans.
	pending := func(g *Garbage) bool { return g.Leaf != nil && g.Leaf.Ref.Object == ref.Object }
	if e.last(pending) < 0 && !e.buryNode(ref.Object) {
		return ref, errors.New("the list of pending deletions is full, try again later")
	}
	return made, nil
}
