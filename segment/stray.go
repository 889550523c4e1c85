package segment

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// SetAside gives the directories of partitions that are not open other names,
// durably, and returns them: <topic>-<partition>.<uuid>-stray, as Kafka does with what
// belongs to no topic of the cluster. The partitions' names are free then, and what
// is in the directories stays.
func (d *Dir) SetAside(tps []metadata.TopicPartition) (paths []string, err error) {
	return d.evict(tps, strayDirSuffix)
}

// DeleteStrays deletes the directories of partitions that are not open, without
// opening them: what is in them may be damaged.
func (d *Dir) DeleteStrays(tps []metadata.TopicPartition) error {
	paths, err := d.evict(tps, deletedDirSuffix)
	d.mu.Lock()
	for _, path := range paths {
		d.doomed = append(d.doomed, doomedDir{path: path, at: time.Now()})
	}
	d.mu.Unlock()
	d.wakeRemovals()
	return err
}

// StrayEpoch returns the latest leader epoch that the lineage of a partition which
// is not open has on disk, NoEpoch if it has none.
func (d *Dir) StrayEpoch(tp metadata.TopicPartition) (int32, error) {
	epochs, err := readEpochs(d.fs, filepath.Join(d.path, tp.String()))
	if err != nil || len(epochs) == 0 {
		return NoEpoch, err
	}
	return epochs[len(epochs)-1].Epoch, nil
}

// evict renames the directories of partitions, takes the partitions out of the
// checkpoints, and returns the new paths. Nobody opens one of them meanwhile. After
// an error some may have been renamed.
func (d *Dir) evict(tps []metadata.TopicPartition, suffix string) ([]string, error) {
	if len(tps) == 0 {
		return nil, nil
	}
	if err := d.Offline(); err != nil {
		return nil, err
	}
	var gone []metadata.TopicPartition
	var paths []string
	var errs error
	for _, tp := range tps {
		path := filepath.Join(d.path, besideName(tp, uniqueName(), suffix))
		if err := d.claim(tp, nil); err != nil {
			errs = errors.Join(errs, fmt.Errorf("rename %s: %w", tp, err))
			continue
		}
		defer d.unclaim(tp)
		switch err := d.fs.Rename(filepath.Join(d.path, tp.String()), path); {
		case err == nil:
			gone, paths = append(gone, tp), append(paths, path)
		case missing(err): // an attempt before came so far
			gone = append(gone, tp)
		default:
			errs = errors.Join(errs, d.fail(fmt.Errorf("%s: rename: %w", tp, err)))
		}
	}
	if len(gone) == 0 {
		return nil, errs
	}
	if err := vfs.SyncNames(d.fs, d.path); err != nil {
		return nil, errors.Join(errs, d.fail(fmt.Errorf("rename: %w", err)))
	}
	return paths, errors.Join(errs, d.forget(gone...))
}

// claim keeps others from opening a partition, which must not be open; l is the log
// that is to be opened, if one is.
func (d *Dir) claim(tp metadata.TopicPartition, l *Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, claimed := d.opening[tp]
	switch {
	case d.closed:
		return ErrClosed
	case d.logs[tp] != nil || claimed:
		return errOpen
	}
	d.opening[tp] = l
	return nil
}

func (d *Dir) unclaim(tp metadata.TopicPartition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.opening, tp)
}
