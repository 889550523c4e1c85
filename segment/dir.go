package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// DirOptions are the options of OpenDir. FS and Path are required.
type DirOptions struct {
	FS     vfs.FS
	Path   string
	Logger *slog.Logger
	Meter  metric.Meter

	// CheckpointInterval is how often recovery points are brought up to date
	// (log.flush.offset.checkpoint.interval.ms, 60 s). Sealing a segment does it
	// too.
	CheckpointInterval time.Duration
	// HighWatermarkInterval is how often high watermarks are written
	// (replica.high.watermark.checkpoint.interval.ms, 5 s).
	HighWatermarkInterval time.Duration
	// OpenFiles bounds the descriptors kept open for files nobody uses.
	OpenFiles int
	// OnOffline is called once, from a goroutine of its own choosing, when an I/O
	// error takes the directory offline. It must not block.
	OnOffline func(error)
}

// Dir is one log directory, Kafka's LogManager of one log.dir. All methods are
// safe for concurrent use.
type Dir struct {
	fs        vfs.FS
	path      string
	log       *slog.Logger
	o         DirOptions
	metrics   *metrics
	files     *fileCache
	lock      io.Closer
	clean     bool // the last shutdown was
	committer *committer
	sealer    *sealer
	marks     *checkpoints
	offline   atomic.Pointer[offlineError]

	mu       sync.Mutex
	meta     *Meta
	found    []PartitionDir // replaced, not changed in place
	logs     map[metadata.TopicPartition]*Log
	opening  map[metadata.TopicPartition]*Log // nil: claimed by who opens nothing
	doomed   []doomedDir
	closed   bool
	wakeDoom chan struct{}
}

// PartitionDir is a partition found in the directory. TopicID is zero if the
// partition has no partition.metadata.
type PartitionDir struct {
	TopicPartition metadata.TopicPartition
	TopicID        metadata.TopicID
}

// doomedDir is a directory whose files go when the time has come.
type doomedDir struct {
	path string
	at   time.Time
}

const (
	lockFile  = ".lock"
	cleanFile = ".kafka_cleanshutdown"
)

// OpenDir locks a log directory, creates it if it is missing, and reads what it
// knows of its partitions. It starts nothing: see Run, OpenLog. ErrLocked means
// that another process has it.
func OpenDir(o DirOptions) (*Dir, error) {
	if o.FS == nil || o.Path == "" {
		return nil, errors.New("log directory: FS and Path are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	if o.CheckpointInterval <= 0 {
		o.CheckpointInterval = time.Minute
	}
	if o.HighWatermarkInterval <= 0 {
		o.HighWatermarkInterval = 5 * time.Second
	}
	if o.OpenFiles <= 0 {
		o.OpenFiles = defaultOpenFiles
	}
	d := &Dir{
		fs: o.FS, path: o.Path, log: o.Logger, o: o,
		files:    &fileCache{fs: o.FS, limit: o.OpenFiles},
		logs:     map[metadata.TopicPartition]*Log{},
		opening:  map[metadata.TopicPartition]*Log{},
		wakeDoom: make(chan struct{}, 1),
	}
	d.committer, d.sealer = newCommitter(d), newSealer(d)
	var err error
	if d.metrics, err = newMetrics(o.Meter, o.Path, d.Usage); err != nil {
		return nil, err
	}
	if err := makeDir(d.fs, o.Path); err != nil {
		return nil, fmt.Errorf("open log directory: %w", err)
	}
	if d.lock, err = d.fs.Lock(filepath.Join(o.Path, lockFile)); err != nil {
		return nil, fmt.Errorf("open log directory: %w", err)
	}
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open log directory %s: %w", o.Path, err), d.lock.Close())
	}
	return d, nil
}

// makeDir creates a directory and its parents where they are missing, durably.
func makeDir(fsys vfs.FS, path string) error {
	path = filepath.Clean(path)
	var above []string
	for at := path; ; at = filepath.Dir(at) {
		if _, err := fsys.Stat(at); err == nil || filepath.Dir(at) == at {
			break
		} else if !missing(err) {
			return err
		}
		above = append(above, filepath.Dir(at))
	}
	if len(above) == 0 {
		return nil
	}
	if err := fsys.MkdirAll(path); err != nil {
		return err
	}
	for _, dir := range above {
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// load reads the directory's own files and the names in it.
func (d *Dir) load() error {
	names, err := d.fs.List(d.path)
	if err != nil {
		return err
	}
	if d.meta, err = readMeta(d.fs, d.path); err != nil {
		return err
	}
	if d.marks, err = readCheckpoints(d); err != nil {
		return err
	}
	for _, name := range names {
		tp, kind := parseDirName(name)
		switch kind {
		case partitionDir:
			d.found = append(d.found, PartitionDir{TopicPartition: tp})
		case deletedDir:
			d.doomed = append(d.doomed, doomedDir{path: filepath.Join(d.path, name)})
		}
	}
	d.found = slices.DeleteFunc(d.found, func(p PartitionDir) bool {
		info, err := d.fs.Stat(filepath.Join(d.path, p.TopicPartition.String()))
		return err != nil || !info.IsDir
	})
	if err := d.readTopicIDs(); err != nil {
		return err
	}
	return d.takeCleanMark(names)
}

// readTopicIDs reads partition.metadata of all partitions, several at a time.
func (d *Dir) readTopicIDs() error {
	var g errgroup.Group
	g.SetLimit(8)
	for i := range d.found {
		g.Go(func() (err error) {
			p := &d.found[i]
			p.TopicID, err = readTopicID(d.fs, filepath.Join(d.path, p.TopicPartition.String()))
			return err
		})
	}
	return g.Wait()
}

// takeCleanMark notes whether the last shutdown was clean and removes the mark,
// durably: what follows may crash.
func (d *Dir) takeCleanMark(names []string) error {
	if _, d.clean = slices.BinarySearch(names, cleanFile); !d.clean {
		return nil
	}
	if err := d.fs.Remove(filepath.Join(d.path, cleanFile)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

// Clean reports whether the last shutdown was clean.
func (d *Dir) Clean() bool { return d.clean }

// Partitions returns the partitions that were in the directory when it was opened
// and still are, by name.
func (d *Dir) Partitions() []PartitionDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.found)
}

// Logs returns the open logs, in no order.
func (d *Dir) Logs() []*Log {
	d.mu.Lock()
	defer d.mu.Unlock()
	logs := make([]*Log, 0, len(d.logs))
	for _, l := range d.logs {
		logs = append(logs, l)
	}
	return logs
}

// Usage returns the space on the directory's disk.
func (d *Dir) Usage() (vfs.Usage, error) { return d.fs.Usage(d.path) }

// Run owns the work in the background: the group commit, sealing, checkpoints and
// the removal of deleted partitions. It returns when all of it stopped, after ctx
// ended. The directory and its logs stay usable; Close ends them.
func (d *Dir) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return d.committer.run(ctx) })
	g.Go(func() error { return d.sealer.run(ctx) })
	g.Go(func() error { return d.runCheckpoints(ctx) })
	g.Go(func() error { return d.runRemovals(ctx) })
	return g.Wait()
}

// Offline returns nil while the directory is healthy. An I/O error, or a failed
// fsync, takes it offline for good: the error is ErrOffline and its cause.
func (d *Dir) Offline() error {
	if e := d.offline.Load(); e != nil {
		return e
	}
	return nil
}

// fail judges the error of one call of the file system: a full disk and a lack of
// descriptors heal and are returned as they are; anything else takes the directory
// offline.
func (d *Dir) fail(err error) error {
	if vfs.Heals(err) || errors.Is(err, ErrOffline) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrClosed) {
		return err
	}
	return d.failFinal(err)
}

// failFinal takes the directory offline.
func (d *Dir) failFinal(err error) error {
	e := &offlineError{dir: d.path, cause: err}
	if !d.offline.CompareAndSwap(nil, e) {
		return d.offline.Load()
	}
	d.log.Error("log directory offline", "dir", d.path, "err", err)
	d.metrics.offline.Store(true)
	if d.o.OnOffline != nil {
		d.o.OnOffline(e)
	}
	return e
}

// Close makes everything durable, writes the checkpoints and, if all of that
// worked, the mark of a clean shutdown; then it unlocks the directory. Run must
// have returned.
func (d *Dir) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(2 * syncWorkers)
	for _, l := range d.Logs() {
		g.Go(l.close)
	}
	err := g.Wait()
	if err == nil {
		err = d.Offline()
	}
	if err == nil {
		err = d.marks.write(markAll)
	}
	// What a deletion closed and left under its name was not made durable.
	if err == nil && !slices.ContainsFunc(d.Logs(), (*Log).halfDeleted) {
		err = vfs.WriteFileAtomic(d.fs, filepath.Join(d.path, cleanFile), []byte(`{"version":0,"brokerEpoch":-1}`))
	}
	d.files.closeAll()
	return errors.Join(err, d.lock.Close())
}

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
