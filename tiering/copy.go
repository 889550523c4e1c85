package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// candidates are the sealed segments that may be copied now, oldest first: wholly below the last stable offset
// (the next segment's base offset ≤ it, as in Kafka's candidateLogSegments).
func (m *Manager) candidates(l *leadership, sealed []segment.Sealed, now time.Time) []segment.Sealed {
	if len(sealed) == 0 {
		return nil
	}
	settings := m.o.Topic(l.topic)
	stable := l.log.LastStableOffset()
	behind := settings.unsealed(l) // bytes written after a segment
	for _, s := range sealed {
		behind += s.Size
	}
	for i, s := range sealed {
		behind -= s.Size
		if s.LastOffset >= stable || !settings.ripe(s, behind, now) {
			return sealed[:i]
		}
	}
	return sealed
}

// unsealed is the size of the active segment, when it matters.
func (t *TopicSettings) unsealed(l *leadership) int64 {
	if t.CopyLag == 0 || t.CopyLagBytes <= 0 {
		return 0
	}
	bytes := l.log.LocalBytes()
	for _, s := range l.log.Sealed(0) {
		bytes -= s.Size
	}
	return max(bytes, 0)
}

// ripe says whether a segment has waited long enough (KIP-1241): by the time since its newest record, or since it was
// sealed where its records come from the future; or because enough was written after it.
func (t *TopicSettings) ripe(s segment.Sealed, behind int64, now time.Time) bool {
	if t.CopyLag == 0 || t.CopyLagBytes >= 0 && behind >= t.CopyLagBytes {
		return true
	}
	newest := s.SealedAt
	if at := time.UnixMilli(s.MaxTimestamp); s.MaxTimestamp >= 0 && at.Before(newest) {
		newest = at
	}
	return t.CopyLag > 0 && now.Sub(newest) >= t.CopyLag
}

// waiting are the sealed segments that shall be in the tier, are not, and still count.
func (m *Manager) waiting(l *leadership, end int64) []segment.Sealed {
	if !l.tiered {
		return nil
	}
	sealed := l.log.Sealed(max(end, l.log.LogStart()))
	if len(sealed) > 0 && m.o.Topic(l.topic).CopyDisabled {
		return nil
	}
	return sealed
}

// copySealed copies a run of a partition's segments and commits them together. What was copied is committed even
// when a later one fails.
func (m *Manager) copySealed(ctx context.Context, p *partition, l *leadership) error {
	man, err := m.current(ctx, p, false)
	if err != nil {
		return err
	}
	p.catchUp(l, man)
	end := m.reuse(ctx, p, l, man)
	var failed error
	var bytes int64
	sealed := m.candidates(l, m.waiting(l, end), time.Now())
	if len(sealed) > 0 && sealed[0].BaseOffset > end && man.Root != nil && man.Root.Segments > 0 && l.log.LogStart() < end {
		// Going on behind the hole would mean to drop what is before it, which still counts.
		return fmt.Errorf("the tier ends at %d, the local log begins at %d: %w", end, sealed[0].BaseOffset, manifest.ErrDiverged)
	}
	for _, s := range sealed {
		if len(l.ready) >= batchSegments || bytes >= batchBytes {
			break
		}
		entry, err := m.copySegment(ctx, p, l, s, max(end, s.BaseOffset))
		if err != nil {
			failed = err
			break
		}
		l.ready = append(l.ready, entry)
		end = entry.LastOffset + 1
		bytes += entry.Bytes
	}
	if len(l.ready) == 0 {
		return failed
	}
	return errors.Join(m.commitReady(ctx, p, l, man), failed)
}

// reuse keeps entries of an earlier pass whose commit failed when they still continue the manifest, so that their
// bytes need not be copied again. It returns where the next copy starts.
func (m *Manager) reuse(ctx context.Context, p *partition, l *leadership, man bucket.Manifest) int64 {
	end := man.End()
	if len(l.ready) > 0 {
		gap := l.ready[0].BaseOffset - end
		// A gap is allowed where commitReady starts the manifest again: everything before is expired.
		if gap < 0 || gap > 0 && man.Root != nil && l.log.LogStart() < end || l.ready[len(l.ready)-1].LastOffset < l.log.LogStart() {
			m.discard(ctx, p, l)
		}
	}
	if n := len(l.ready); n > 0 {
		return l.ready[n-1].LastOffset + 1
	}
	return end
}

// commitReady appends what was copied to the manifest.
func (m *Manager) commitReady(ctx context.Context, p *partition, l *leadership, man bucket.Manifest) error {
	if err := m.topicFile(ctx, l.topic, p.tip); err != nil {
		return err
	}
	now := time.Now()
	root := man.Root
	if root == nil {
		root = manifest.NewRoot(l.topic, p.tip, l.ready[0].BaseOffset)
	}
	e := manifest.NewEdit(root, man.Load, now, m.o.Grace)
	e.Forget(manifest.SweptItems(root.Garbage, l.swept))
	if l.ready[0].BaseOffset > e.Next.EndOffset && e.Next.Segments > 0 {
		// The log start has passed the tier's end (DeleteRecords, or total retention while the store was away):
		// everything there is expired, and the manifest starts again.
		if _, err := e.DropBefore(ctx, l.ready[0].BaseOffset); err != nil {
			return err
		}
	}
	for _, entry := range l.ready {
		if err := e.Add(ctx, entry); err != nil {
			return err
		}
	}
	e.Next.LogStartOffset = max(e.Next.LogStartOffset, l.log.LogStart())
	if err := m.commit(ctx, p, l, man, e); err != nil {
		return err
	}
	for i := range l.ready {
		m.log.Info("COPY_SEGMENT_FINISHED", "topic", l.topic, "partition", p.tip.Partition, "epoch", l.epoch,
			"offset", l.ready[i].BaseOffset, "last", l.ready[i].LastOffset, "bytes", l.ready[i].Bytes, "object", l.ready[i].Object)
	}
	l.ready, l.named = nil, false
	return nil
}

// discard deletes copies that will never be committed, best effort; when a root may name them they are left to
// the collector of orphans.
func (m *Manager) discard(ctx context.Context, p *partition, l *leadership) {
	ready, namedBefore := l.ready, l.named
	l.ready, l.named = nil, false
	if namedBefore || len(ready) == 0 {
		return
	}
	stems := make([]string, len(ready))
	for i := range ready {
		stems[i] = ready[i].Object
	}
	m.removePairs(ctx, manifest.PartitionDir(l.topic, p.tip), stems)
}

const (
	removeLimit = 10 * time.Second
	stopLimit   = time.Second // removeLimit while stopping
)

// removePairs deletes copies no manifest will ever name. It is best effort and bounded, also when ctx has ended:
// what stays is an orphan for the collector.
func (m *Manager) removePairs(ctx context.Context, dir string, stems []string) {
	limit := removeLimit
	if ctx.Err() != nil {
		limit = stopLimit // somebody waits for the end of this broker
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var keys []string
	for _, s := range stems {
		keys = append(keys, manifest.OwnKeys(dir, s)...)
	}
	if err := m.bucket.Remove(ctx, keys); err != nil {
		m.log.Debug("aborted copy is left to the collector", "object", keys[0], "err", err)
	}
}

// copySegment copies the part of a sealed segment from offset from on, and verifies it.
func (m *Manager) copySegment(ctx context.Context, p *partition, l *leadership, s segment.Sealed, from int64) (entry manifest.Entry, err error) {
	start := time.Now()
	ctx, span := m.o.Tracer.Start(ctx, "remote copy", trace.WithAttributes(attribute.String("topic", l.topic),
		attribute.Int("partition", int(p.tip.Partition)), attribute.Int64("offset", from), attribute.Int64("bytes", s.Size)))
	m.metrics.copyRequests.Add(ctx, 1)
	defer func() {
		if err != nil {
			m.metrics.copyErrors.Add(ctx, 1)
			span.SetStatus(codes.Error, err.Error())
		} else {
			m.metrics.copyBytes.Add(ctx, entry.Bytes)
			m.metrics.copySeconds.Record(ctx, time.Since(start).Seconds())
		}
		span.End()
	}()
	m.log.Debug("COPY_SEGMENT_STARTED", "topic", l.topic, "partition", p.tip.Partition, "epoch", l.epoch, "offset", from, "last", s.LastOffset)
	seg, err := l.log.OpenSealed(s.BaseOffset)
	if err != nil {
		return entry, fmt.Errorf("open segment %d: %w", s.BaseOffset, err)
	}
	defer seg.Release()
	entry, index, body, err := describe(seg, s, from)
	if err != nil {
		return entry, fmt.Errorf("segment %d: %w", s.BaseOffset, err)
	}
	entry.Created = start.UnixMilli()
	entry.Object = manifest.NewStem(entry.BaseOffset, l.epoch)
	dir := manifest.PartitionDir(l.topic, p.tip)
	if err = m.putVerified(ctx, manifest.SegmentKey(dir, entry.Object, manifest.LogSuffix), body, uint32(entry.CRC32C)); err == nil {
		err = m.putVerified(ctx, manifest.SegmentKey(dir, entry.Object, manifest.IndexSuffix), object.Bytes(index), uint32(entry.IndexCRC32C))
	}
	if err != nil {
		m.removePairs(ctx, dir, []string{entry.Object})
		return entry, err
	}
	return entry, nil
}

// lineageOf is a log's lineage in the words of the manifest.
func lineageOf(epochs []segment.EpochEntry) manifest.Lineage {
	out := make(manifest.Lineage, len(epochs))
	for i, e := range epochs {
		out[i] = manifest.EpochEntry(e)
	}
	return out
}

// describe builds what is stored of a sealed segment from offset from on: its entry, its index object, its bytes.
func describe(seg *segment.SealedSegment, s segment.Sealed, from int64) (manifest.Entry, []byte, object.Body, error) {
	sc := index.NewScan(from, s.LastOffset, s.Size)
	if err := seg.Scan(sc.Batch); err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	if err := sc.Finish(); err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	at, size := sc.Newest()
	top := make([]byte, size)
	if _, err := seg.LogFile().ReadAt(top, at); err != nil && err != io.EOF {
		return manifest.Entry{}, nil, nil, fmt.Errorf("read the batch with the highest timestamp: %w", err)
	}
	x := &index.Index{Epochs: lineageOf(seg.Epochs())}
	for _, part := range []struct {
		name string
		into *[]byte
		read func() ([]byte, error)
	}{
		{"producer snapshot", &x.Snapshot, seg.ProducerSnapshot}, {"offset index", &x.Offset, seg.OffsetIndex},
		{"time index", &x.Time, seg.TimeIndex}, {"transaction index", &x.Txn, seg.TxnIndex},
	} {
		var err error
		if *part.into, err = part.read(); err != nil {
			return manifest.Entry{}, nil, nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	entry, encoded, err := sc.Build(s.BaseOffset, x, top)
	if err != nil {
		return manifest.Entry{}, nil, nil, err
	}
	at, size = sc.Extent()
	return entry, encoded, io.NewSectionReader(seg.LogFile(), at, size), nil
}

// putVerified stores an object and believes it only when the store's answer, or a HEAD, has its size and, where
// the store knows one, its checksum.
func (m *Manager) putVerified(ctx context.Context, key string, body object.Body, crc uint32) error {
	var info object.Info
	err := m.putRetried(ctx, key, body, crc, &info)
	if err != nil {
		return bucket.Failed("copy", key, err)
	}
	if !info.HasCRC || info.Size != body.Size() {
		err = m.bucket.Retry(ctx, func(ctx context.Context) (err error) {
			info, err = m.bucket.Store.Head(ctx, m.bucket.Prefix+key)
			if errors.Is(err, object.ErrNotFound) { // some stores show an object a moment after they took it
				err = fmt.Errorf("%w: %w", object.ErrUnavailable, err)
			}
			return err
		})
		if err != nil {
			return bucket.Failed("verify", key, err)
		}
	}
	if info.Size != body.Size() || info.HasCRC && info.CRC32C != crc {
		return &bucket.ObjectError{Op: "verify", Object: key, Err: fmt.Errorf("%d bytes with checksum %08x, want %d and %08x: %w",
			info.Size, info.CRC32C, body.Size(), crc, manifest.ErrCorrupt)}
	}
	return nil
}

// putRetried is retry for a PUT, whose attempts may take as long as they make progress.
func (m *Manager) putRetried(ctx context.Context, key string, body object.Body, crc uint32, info *object.Info) error {
	for n := 0; ; n++ {
		attempt, progress, cancel := m.stallContext(ctx)
		var err error
		*info, err = m.bucket.Store.Put(attempt, m.bucket.Prefix+key, &limitedBody{Body: body, m: m, ctx: attempt, progress: progress},
			object.PutOptions{CRC32C: crc, HasCRC: true, Progress: progress})
		stalled := errors.Is(context.Cause(attempt), ErrStalled)
		cancel()
		if err != nil && stalled {
			err = fmt.Errorf("%w for %v: %w", ErrStalled, m.o.Stall, err)
		}
		if err == nil || n == bucket.Retries || ctx.Err() != nil || !stalled && !object.Retriable(err) {
			return err
		}
		if !bucket.Sleep(ctx, bucket.Backoff(n, m.o.RetryMin/4, m.o.RetryMax)) {
			return err
		}
	}
}

// stallContext returns a context that ends with ErrStalled when progress was not called for Options.Stall.
func (m *Manager) stallContext(ctx context.Context) (context.Context, func(int64), context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(m.o.Stall, func() { cancel(ErrStalled) })
	return ctx, func(int64) { timer.Reset(m.o.Stall) }, func() {
		timer.Stop()
		cancel(context.Canceled)
	}
}

// uploadRun is how much of a segment is read at a time for an upload, whatever a driver asks for at once: the disk and
// the quota are taken in small bites between which producers get their turn.
const uploadRun = 1 << 20

// limitedBody reads in runs, each taken out of the copy quota before it is read. Waiting for the quota is progress.
// It holds no bytes itself.
type limitedBody struct {
	object.Body
	m        *Manager
	ctx      context.Context // of the one upload that this body belongs to
	progress func(int64)
}

func (b *limitedBody) ReadAt(p []byte, off int64) (n int, err error) {
	run := min(uploadRun, max(int64(b.m.copyRate.Burst())/4, 1))
	for len(p) > 0 {
		k := min(int64(len(p)), run)
		waited, err := bucket.Take(b.ctx, b.m.copyRate, k)
		if err != nil {
			return n, err
		}
		if waited > 0 {
			b.m.metrics.copyThrottle.Add(b.ctx, waited.Seconds())
			b.progress(0)
		}
		got, err := b.Body.ReadAt(p[:k], off)
		n += got
		if err != nil || int64(got) < k {
			return n, err
		}
		p, off = p[k:], off+k
	}
	return n, nil
}
