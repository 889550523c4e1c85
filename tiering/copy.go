package tiering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// waiting are the sealed segments that shall be in the tier, are not, and still count.
func (m *Manager) waiting(l *leadership, end int64) []segment.Sealed {
	if !l.tiered {
		return nil
	}
	sealed := l.Log.Sealed(max(end, l.Log.LogStart()))
	if len(sealed) > 0 && m.o.Topic(l.Topic).CopyDisabled {
		return nil
	}
	return sealed
}

// copySealed copies a run of a partition's segments and commits them together. What was copied is committed even
// when a later one fails.
func (m *Manager) copySealed(ctx context.Context, p *partition, l *leadership) error {
	if l.unseen != nil {
		if err := m.loadView(ctx, p, l); err != nil || l.unseen != nil {
			return errors.Join(err, l.unseen)
		}
	}
	man, err := m.current(ctx, p, false)
	if err != nil {
		return err
	}
	p.catchUp(l, man)
	end := m.uploader.Reuse(ctx, &l.Leader, &l.batch, man)
	sealed := m.o.Topic(l.Topic).Candidates(l.Log, m.waiting(l, end), time.Now())
	if len(sealed) > 0 && sealed[0].BaseOffset > end && man.Root != nil && man.Root.Segments > 0 && l.Log.LogStart() < end {
		// Going on behind the hole would mean to drop what is before it, which still counts.
		return fmt.Errorf("the tier ends at %d, the local log begins at %d: %w", end, sealed[0].BaseOffset, manifest.ErrDiverged)
	}
	failed := m.uploader.Fill(ctx, &l.Leader, &l.batch, sealed, end)
	if l.batch.Empty() {
		return failed
	}
	return errors.Join(m.commitBatch(ctx, p, l, man), failed)
}

// commitBatch makes what was copied part of the manifest.
func (m *Manager) commitBatch(ctx context.Context, p *partition, l *leadership, man bucket.Manifest) error {
	if err := m.topics.Ensure(ctx, l.Topic, p.tip); err != nil {
		if errors.Is(err, metadata.ErrUnknownTopic) {
			err = fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
		return err
	}
	e, err := l.batch.Edit(ctx, &l.Leader, man, l.swept, time.Now(), m.o.Grace)
	if err != nil {
		return err
	}
	if err := m.commit(ctx, p, l, man, e); err != nil {
		return err
	}
	m.uploader.Committed(&l.Leader, &l.batch)
	return nil
}

// replaceObjects has a segment's pair of objects uploaded again and the manifest name that. It is a job of the
// partition's pass.
func (m *Manager) replaceObjects(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, old manifest.Entry, d bucket.Damage) (string, bucket.Manifest, error) {
	if man.Root == nil {
		return "", man, manifest.ErrOffsetOutOfRange
	}
	if now, err := man.Find(ctx, old.BaseOffset); err != nil || now.Object != old.Object {
		return "", man, errors.Join(err, fmt.Errorf("the manifest no longer names %s", old.Object))
	}
	next, err := m.uploader.Again(ctx, &l.Leader, man.Dir, old, d)
	if err != nil {
		return "", man, err
	}
	e := manifest.NewEdit(man.Root, man.Load, time.Now(), m.o.Grace)
	e.Forget(manifest.SweptItems(man.Root.Garbage, l.swept))
	if err := e.Replace(ctx, old, next); err != nil {
		m.uploader.Discard(ctx, l.Dir(), []string{next.Object})
		return "", man, err
	}
	if err := m.commit(ctx, p, l, man, e); err != nil {
		return "", man, err
	}
	m.bucket.Memo.Drop(manifest.SegmentKey(man.Dir, old.Object, manifest.IndexSuffix))
	man, err = m.current(ctx, p, false)
	return next.Object, man, err
}
