package segment

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// SetAside gives the directory of a partition that is not open another name,
// durably, and returns it: <topic>-<partition>.<uuid>-stray, as Kafka does with what
// belongs to no topic of the cluster. The partition's name is free then, and what
// is in the directory stays.
func (d *Dir) SetAside(tp metadata.TopicPartition) (path string, err error) {
	path = filepath.Join(d.path, strayDirName(tp, uniqueName()))
	return path, d.evict(tp, path)
}

// DeleteStray deletes the directory of a partition that is not open, without
// opening it: what is in it may be damaged.
func (d *Dir) DeleteStray(tp metadata.TopicPartition) error {
	path := filepath.Join(d.path, deletedDirName(tp, uniqueName()))
	if err := d.evict(tp, path); err != nil {
		return err
	}
	d.mu.Lock()
	d.doomed = append(d.doomed, doomedDir{path: path, at: time.Now()})
	d.mu.Unlock()
	d.wakeRemovals()
	return nil
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

// evict renames the directory of a partition and takes the partition out of the
// checkpoints. Nobody opens it meanwhile.
func (d *Dir) evict(tp metadata.TopicPartition, path string) error {
	if err := d.Offline(); err != nil {
		return err
	}
	if err := d.claim(tp); err != nil {
		return fmt.Errorf("rename %s: %w", tp, err)
	}
	defer d.unclaim(tp)
	if err := d.fs.Rename(filepath.Join(d.path, tp.String()), path); err != nil && !missing(err) {
		return d.fail(fmt.Errorf("%s: rename: %w", tp, err))
	}
	if err := d.fs.SyncDir(d.path); err != nil {
		return d.failFinal(fmt.Errorf("%s: rename: %w", tp, err))
	}
	return d.forget(tp)
}

// claim keeps others from opening a partition, which must not be open.
func (d *Dir) claim(tp metadata.TopicPartition) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return ErrClosed
	case d.logs[tp] != nil || d.opening[tp]:
		return errOpen
	}
	d.opening[tp] = true
	return nil
}

func (d *Dir) unclaim(tp metadata.TopicPartition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.opening, tp)
}
