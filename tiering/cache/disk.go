package cache

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

const (
	diskFolder = "coldbrook-cache" // below DiskOptions.Dir
	lockFile   = "lock"
	tagFile    = "CACHEDIR.TAG"

	// touchAfter is how old a file's time may be before a use of the piece renews it: how exactly a restart knows
	// the order of use.
	touchAfter = time.Minute
	// stuckAfter is how long a read of a piece may take before the disk counts as out of order.
	stuckAfter = 2 * time.Second
	// After an error the disk is left alone for a while, twice as long after each further one.
	outageMin, outageMax = time.Second, 5 * time.Minute

	// loadShare is the part of the memory, a quarter, that may wait for reads of the disk.
	loadShare = 4

	maxOffers  = 64
	maxTouches = 1024
)

// The tag of https://bford.info/cachedir/: backups leave such a directory out.
const tagText = `Signature: 8a477f597d28d172789f06886806bc55
# Pieces of objects that a coldbrook broker read from its object store. It can be deleted
# while no broker uses it. Files of other names are not touched.
`

// DiskOptions of OpenDisk.
type DiskOptions struct {
	FS    vfs.FS // default: the operating system's
	Dir   string // required; the pieces are in a folder of their own in it
	Bytes int64  // bound of all files; default 10 GiB
	// Scope is put before the object names: what makes them unique among all users of Dir over time.
	Scope  string
	Logger *slog.Logger
}

// Disk is the second level of a Cache: pieces in files of one directory, bounded in bytes, which survive a
// restart. Whoever opens it gives it to New, and the cache's Run closes it.
type Disk struct {
	fs    vfs.FS
	dir   string
	scope string
	max   int64
	log   *slog.Logger
	lock  io.Closer
	wake  chan struct{} // buffered 1: the writer has something to do

	mu        sync.Mutex
	maxLoads  int // set by New
	loads     int // reads under way
	index     map[pieceID]*list.Element
	lru       *list.List // of *piece, newest first
	used      int64
	scanned   bool              // all files are in the index
	forgotten map[[16]byte]bool // objects invalidated before that
	doomed    []pieceID         // not in the index any more; the writer removes their files
	touches   []*piece          // the writer renews the times of their files
	writing   pieceID
	cancelled bool // what is being written was invalidated meanwhile
	reads     outage
	writes    outage
	stats     DiskStats
}

// piece is a file.
type piece struct {
	id      pieceID
	size    int64 // of the file
	touched time.Time
}

// outage says until when the disk is left alone.
type outage struct {
	what  string
	until time.Time
	wait  time.Duration // 0: all is well
}

// DiskStats counts since OpenDisk; the last group is the present.
type DiskStats struct {
	Hits, Misses            int64 // Misses: the store was asked
	ReadBytes, WrittenBytes int64
	Written, Evicted        int64 // pieces
	Bad                     int64 // files that did not hold what was written; removed
	Dropped                 int64 // pieces from the store that were not written
	Errors                  int64

	Pieces, UsedBytes int64
	Out               bool // left alone after an error, for reading, writing or both
}

// OpenDisk makes the directory, if it is missing, and takes its lock. It does not read what is there: that is
// done while the cache runs. Errors: vfs.ErrLocked when another cache uses it.
func OpenDisk(o DiskOptions) (*Disk, error) {
	if o.FS == nil {
		o.FS = vfs.NewOS()
	}
	if o.Bytes == 0 {
		o.Bytes = 10 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dir == "" || o.Bytes < 0 || len(o.Scope) > maxPieceName/2 {
		return nil, fmt.Errorf("disk cache of %d bytes in %q for %q", o.Bytes, o.Dir, o.Scope)
	}
	d := &Disk{
		fs: o.FS, dir: filepath.Join(o.Dir, diskFolder), scope: o.Scope, max: o.Bytes, log: o.Logger.With("dir", o.Dir),
		wake: make(chan struct{}, 1), index: map[pieceID]*list.Element{}, lru: list.New(), forgotten: map[[16]byte]bool{},
		reads: outage{what: "read"}, writes: outage{what: "write"},
	}
	if err := d.fs.MkdirAll(d.dir); err != nil {
		return nil, fmt.Errorf("disk cache in %s: %w", o.Dir, err)
	}
	var err error
	if d.lock, err = d.fs.Lock(d.path(lockFile)); err != nil {
		return nil, fmt.Errorf("disk cache in %s: %w", o.Dir, err)
	}
	if err := vfs.WriteFileAtomic(d.fs, d.path(tagFile), []byte(tagText)); err != nil {
		return nil, errors.Join(fmt.Errorf("disk cache in %s: %w", o.Dir, err), d.lock.Close())
	}
	return d, nil
}

func (d *Disk) path(base string) string { return filepath.Join(d.dir, base) }

func (d *Disk) name(k Key) string { return d.scope + "/" + k.Object }

// Stats returns the counters.
func (d *Disk) Stats() DiskStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Pieces, s.UsedBytes, s.Out = int64(d.lru.Len()), d.used, d.reads.wait > 0 || d.writes.wait > 0
	return s
}

// load fills dst with a piece that is here and as it was written. Whatever else it finds, the caller asks the
// store.
func (d *Disk) load(key Key, dst []byte) (n int, ok bool) {
	name := d.name(key)
	id := idOf(name, key.Chunk)
	if !d.mayHave(id, time.Now()) {
		return 0, false
	}
	defer d.loaded()
	// Nothing can end a read that hangs; those that come after it need not hang too.
	stuck := time.AfterFunc(stuckAfter, func() { d.failed(&d.reads, fmt.Errorf("no answer for %v", stuckAfter)) })
	n, size, err := d.read(id, name, key.Chunk, dst)
	stuck.Stop()
	if err == nil {
		d.hit(id, n, size)
		return n, true
	}
	d.missed(id, err)
	return 0, false
}

// mayHave says whether it is worth looking for a file; loaded must follow then. A read that hangs has its caller's
// memory for as long, so only a part of the memory is ever waiting for the disk, and only one piece of it for a disk
// that was out of order: the store has the others.
func (d *Disk) mayHave(id pieceID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, known := d.index[id]
	most := d.maxLoads
	if d.reads.wait > 0 {
		most = 1
	}
	if now.Before(d.reads.until) || d.loads >= most || !known && (d.scanned || d.forgotten[id.object]) {
		d.stats.Misses++
		return false
	}
	d.loads++
	return true
}

func (d *Disk) loaded() {
	d.mu.Lock()
	d.loads--
	d.mu.Unlock()
}

func (d *Disk) read(id pieceID, name string, chunk int64, dst []byte) (n int, size int64, err error) {
	f, err := d.fs.Open(d.path(id.file()))
	if err != nil {
		return 0, 0, err
	}
	n, err = readPiece(f, name, chunk, dst)
	size = pieceHeader + int64(n)
	vfs.DropCache(f, 0, size) // it is in the memory cache now
	return n, size, errors.Join(err, f.Close())
}

// hit notes a use.
func (d *Disk) hit(id pieceID, n int, size int64) {
	now := time.Now()
	d.mu.Lock()
	d.stats.Hits++
	d.stats.ReadBytes += int64(n)
	el := d.index[id]
	switch {
	case el != nil:
		d.lru.MoveToFront(el)
	case !d.scanned && !d.forgotten[id.object]:
		el = d.pushLocked(&piece{id: id, size: size})
	}
	if el != nil {
		if p := el.Value.(*piece); now.Sub(p.touched) > touchAfter && len(d.touches) < maxTouches {
			p.touched = now
			d.touches = append(d.touches, p)
			d.wakeWriter()
		}
	}
	d.mu.Unlock()
	d.worked(&d.reads, now)
}

// missed handles why a file could not be used.
func (d *Disk) missed(id pieceID, err error) {
	bad := errors.Is(err, errBadPiece)
	gone := errors.Is(err, fs.ErrNotExist)
	broken := !bad && !gone && !errors.Is(err, errOtherPiece)
	if bad {
		d.log.Warn("piece in the disk cache is bad, removed", "file", id.file(), "err", err)
	}
	// After an I/O error it goes too: the bad sector would be met again and again. Too few descriptors say nothing of it.
	if !gone && !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		rerr := d.fs.Remove(d.path(id.file()))
		if gone = rerr == nil || errors.Is(rerr, fs.ErrNotExist); !gone && !broken {
			err, broken = rerr, true
		}
	}
	d.mu.Lock()
	d.stats.Misses++
	if bad {
		d.stats.Bad++
	}
	if el := d.index[id]; el != nil && gone {
		d.removeLocked(el)
	}
	d.mu.Unlock()
	if broken {
		d.failed(&d.reads, err)
	}
}

// forget drops all pieces of an object. It does no I/O.
func (d *Disk) forget(object string) {
	id := idOf(d.scope+"/"+object, 0).object
	d.mu.Lock()
	defer d.mu.Unlock()
	for have, el := range d.index {
		if have.object == id {
			d.removeLocked(el)
			d.doomed = append(d.doomed, have)
		}
	}
	if !d.scanned {
		d.forgotten[id] = true
	}
	if d.writing.object == id {
		d.cancelled = true
	}
	d.wakeWriter()
}

func (d *Disk) pushLocked(p *piece) *list.Element {
	el := d.lru.PushFront(p)
	d.index[p.id] = el
	d.used += p.space()
	return el
}

func (d *Disk) removeLocked(el *list.Element) {
	p := el.Value.(*piece)
	d.lru.Remove(el)
	delete(d.index, p.id)
	d.used -= p.space()
}

// space is what a file takes, in whole pages.
func (p *piece) space() int64 { return fileSpace(p.size) }

func fileSpace(size int64) int64 { return (size + pageBytes - 1) / pageBytes * pageBytes }

func (d *Disk) wakeWriter() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// failed leaves the disk alone for a while.
func (d *Disk) failed(o *outage, err error) {
	now := time.Now()
	d.mu.Lock()
	d.stats.Errors++
	first := o.wait == 0
	if !now.Before(o.until) {
		o.wait = min(max(2*o.wait, outageMin), outageMax)
		o.until = now.Add(o.wait)
	}
	d.mu.Unlock()
	if first {
		d.log.Warn("disk cache out of order, going on without it", "op", o.what, "err", err)
	}
}

// worked ends an outage, when the time for another try had come by then.
func (d *Disk) worked(o *outage, now time.Time) {
	d.mu.Lock()
	over := o.wait > 0 && !now.Before(o.until)
	if over {
		o.wait, o.until = 0, time.Time{}
	}
	d.mu.Unlock()
	if over {
		d.log.Info("disk cache works again", "op", o.what)
	}
}
