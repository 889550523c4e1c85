package segment

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

const (
	offsetEntryLen = 8
	timeEntryLen   = 12
	// keepTail is how many entries that are on disk already stay in memory for
	// readers of the newest records.
	keepTail = 2048
)

// entries is an index that grows: count entries of width bytes, encoded as they
// lie on disk, of which the last ones are in memory. An index with nothing in
// memory costs nothing but this struct. It is guarded by the log's lock.
type entries struct {
	width   int
	count   int    // all entries
	flushed int    // entries on disk, ≤ count
	first   int    // number of the first entry in tail, ≤ flushed
	tail    []byte // append-only: a reader may keep a header of it
	trim    bool   // the file may hold more than flushed entries
}

func (e *entries) push(entry []byte) {
	e.tail = append(e.tail, entry...)
	e.count++
}

// view returns what a reader needs after it gave the lock back.
func (e *entries) view() entryView {
	return entryView{width: e.width, first: e.first, count: e.count, tail: e.tail[:len(e.tail):len(e.tail)]}
}

// pending returns the encoded entries that are not on disk.
func (e *entries) pending() []byte { return e.tail[(e.flushed-e.first)*e.width:] }

// drop forgets the flushed entries but for the last keep.
func (e *entries) drop(keep int) {
	n := e.flushed - e.first - keep
	if n <= 0 {
		return
	}
	e.tail = append([]byte(nil), e.tail[n*e.width:]...)
	e.first += n
	if len(e.tail) == 0 {
		e.tail = nil
	}
}

// reset makes the index hold n entries, all of which are on disk.
func (e *entries) reset(n int) {
	e.count, e.flushed, e.first, e.tail, e.trim = n, n, n, nil, true
}

// entryView is a moment of an index. Entry i is read from memory if i ≥ first,
// else from the file.
type entryView struct {
	width, first, count int
	tail                []byte
	file                vfs.File // may be nil while first == 0
}

// inMemory reports whether no search of the view needs the file.
func (v *entryView) inMemory() bool { return v.first == 0 }

// search returns the number of entries at the front for which before is true.
// before must be true for a prefix of the entries and false for the rest.
func (v *entryView) search(before func(entry []byte) bool) (int, error) {
	tail := v.count - v.first
	if v.first == 0 || (tail > 0 && before(v.tail[:v.width])) {
		return v.first + searchBytes(v.tail, v.width, tail, before), nil
	}
	return v.searchFile(before)
}

func searchBytes(b []byte, width, n int, before func([]byte) bool) int {
	return sort.Search(n, func(i int) bool { return !before(b[i*width : (i+1)*width]) })
}

// searchFile looks at one entry per 4 KiB first and then reads one such page.
func (v *entryView) searchFile(before func([]byte) bool) (int, error) {
	perPage := 4096 / v.width
	pages := (v.first + perPage - 1) / perPage
	var one [timeEntryLen]byte
	var failed error
	page := sort.Search(pages, func(i int) bool {
		if failed != nil {
			return true
		}
		failed = v.read(one[:v.width], i*perPage)
		return failed != nil || !before(one[:v.width])
	})
	if failed != nil || page == 0 {
		return 0, failed
	}
	from := (page - 1) * perPage
	n := min(perPage, v.first-from)
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	if err := v.read(buf[:n*v.width], from); err != nil {
		return 0, err
	}
	return from + searchBytes(buf[:], v.width, n, before), nil
}

// at copies entry i to dst.
func (v *entryView) at(dst []byte, i int) error {
	if i >= v.first {
		copy(dst, v.tail[(i-v.first)*v.width:(i-v.first+1)*v.width])
		return nil
	}
	return v.read(dst[:v.width], i)
}

func (v *entryView) read(dst []byte, i int) error {
	if v.file == nil {
		return fmt.Errorf("index entry %d: %w", i, ErrCorrupt)
	}
	pos := int64(i) * int64(v.width)
	n, err := v.file.ReadAt(dst, pos)
	if n == len(dst) {
		return nil
	}
	if err == io.EOF || err == nil {
		return &PositionError{Op: "read index", Path: v.file.Name(), Pos: pos, Err: ErrCorrupt}
	}
	return err
}

// offsetEntry is one entry of an .index file: the last offset of the batch that
// starts at position.
type offsetEntry struct {
	offset   int64
	position int64
}

func putOffsetEntry(b *[offsetEntryLen]byte, base int64, e offsetEntry) {
	binary.BigEndian.PutUint32(b[:4], uint32(e.offset-base))
	binary.BigEndian.PutUint32(b[4:], uint32(e.position))
}

func parseOffsetEntry(b []byte, base int64) offsetEntry {
	return offsetEntry{
		offset:   base + int64(binary.BigEndian.Uint32(b)),
		position: int64(binary.BigEndian.Uint32(b[4:])),
	}
}

// timeEntry is one entry of a .timeindex file: no record up to offset is newer
// than timestamp, and the batch that ends with offset has it.
type timeEntry struct {
	timestamp int64
	offset    int64
}

func putTimeEntry(b *[timeEntryLen]byte, base int64, e timeEntry) {
	binary.BigEndian.PutUint64(b[:8], uint64(e.timestamp))
	binary.BigEndian.PutUint32(b[8:], uint32(e.offset-base))
}

func parseTimeEntry(b []byte, base int64) timeEntry {
	return timeEntry{
		timestamp: int64(binary.BigEndian.Uint64(b)),
		offset:    base + int64(binary.BigEndian.Uint32(b[8:])),
	}
}
