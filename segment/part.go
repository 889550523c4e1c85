package segment

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

const (
	logSuffix      = ".log"
	indexSuffix    = ".index"
	timeSuffix     = ".timeindex"
	txnSuffix      = ".txnindex"
	snapshotSuffix = ".snapshot"
	deletedSuffix  = ".deleted"
	tornSuffix     = ".torn"

	pageBuffer = 16 << 10
)

var pageBuffers = sync.Pool{New: func() any { return new([pageBuffer]byte) }}

// fileName returns Kafka's name of a segment's file: its offset in 20 digits.
func fileName(offset int64, suffix string) string { return fmt.Sprintf("%020d%s", offset, suffix) }

// parseFileName is the reverse of fileName.
func parseFileName(name, suffix string) (offset int64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	return offset, err == nil && offset >= 0
}

// partFiles are the files of one segment.
type partFiles struct {
	base               int64 // their name
	log, idx, tim, txn *segFile
}

// list returns all of them, the log first.
func (f *partFiles) list() [4]*segFile { return [4]*segFile{f.log, f.idx, f.tim, f.txn} }

// part is one segment of a log as its readers see it: a .log file and what is
// known of its batches. Whoever writes to it has it as an [activePart] or a
// [closedPart], whoever removes it as a [sealedPart]. Its fields are guarded by
// Log.mu; the file objects may be used without it.
type part struct {
	partFiles
	size int64 // bytes of whole batches
	next int64 // offset after the last record

	loaded    bool // offsets, times and maxTime are known
	offsets   entries
	times     entries
	maxTime   int64 // largest timestamp, -1 = none
	maxTimeAt int64 // last offset of the batch that has it

	txnsLoaded bool // txns are known
	txns       []AbortedTxn
	txnFlushed int  // of txns, on disk
	txnTrim    bool // the file holds something else behind them
}

// newPart returns a segment without records, of which all is known.
func newPart(files *fileCache, dir string, base int64) *part {
	p := foundPart(files, dir, base)
	p.loaded, p.txnsLoaded = true, true
	return p
}

// foundPart returns a segment of which nothing is known but its name.
func foundPart(files *fileCache, dir string, base int64) *part {
	f := func(suffix string) *segFile { return files.file(filepath.Join(dir, fileName(base, suffix))) }
	return &part{
		partFiles: partFiles{base: base, log: f(logSuffix), idx: f(indexSuffix), tim: f(timeSuffix), txn: f(txnSuffix)},
		next:      base, offsets: entries{width: offsetEntryLen}, times: entries{width: timeEntryLen},
		maxTime: -1, maxTimeAt: -1,
	}
}

// last returns the offset of the last record, inclusive; base-1 if there is none.
func (p *part) last() int64 { return p.next - 1 }

// sealedPart is a segment that does not change any more and of which every byte,
// indexes included, is durable.
type sealedPart struct {
	*part
	at         time.Time // of a part found on disk the file's time
	toldFuture bool      // the operator knows that maxTime lies in the future
}

// closedPart is a segment that gets no more records and waits for the sealer.
type closedPart struct {
	*activePart
	snapshot []byte // producer state at its end, nil = it is on disk
}

// activePart is the segment that is appended to, the last one of its log, as the
// holder of Log.turn sees it.
type activePart struct {
	*part
	lastTime    int64     // timestamp of the last entry of times, -1 = none
	lastIndex   int64     // position of the last entry of offsets, 0 = none
	firstTime   int64     // max timestamp of the first batch, -1 = unknown
	firstAppend time.Time // when it came, zero = empty

	file     vfs.File // the log file, pinned from the first append until the part is sealed, nil = not
	second   vfs.File // the same file opened again, guarded by slot 1
	durable  int64    // bytes that are durable
	reserved int64    // end of the space that was preallocated
	unnamed  bool     // the name of the log file is not durable yet
	written  sides    // files that were written, so they exist
	named    sides    // of these, the ones whose names are durable
	overhang bool     // the file may hold bytes behind size: see Log.tidy
	unborn   bool     // there is no file yet: see Log.tidy
}

// sides are files of a part that are not its log.
type sides uint8

const (
	sideIndex sides = 1 << iota
	sideTime
	sideTxn
)

func newActive(p *part) *activePart {
	return &activePart{part: p, lastTime: -1, firstTime: -1}
}

// added records a batch in the part's statistics and indexes, as Kafka's
// LogSegment.append does: an index entry for a batch that starts more than
// interval bytes behind the last one with an entry.
func (p *activePart) added(pos, size, lastOffset, maxTimestamp int64, interval int64) {
	if maxTimestamp > p.maxTime {
		p.maxTime, p.maxTimeAt = maxTimestamp, lastOffset
	}
	if p.firstTime < 0 && pos == 0 {
		p.firstTime = maxTimestamp
	}
	if pos-p.lastIndex > interval {
		var b [offsetEntryLen]byte
		putOffsetEntry(&b, p.base, offsetEntry{lastOffset, pos})
		p.offsets.push(b[:])
		p.lastIndex = pos
		p.addTime()
	}
	p.size, p.next = pos+size, lastOffset+1
}

// addTime appends the largest timestamp to the time index if it grew.
func (p *activePart) addTime() {
	if p.maxTime <= p.lastTime {
		return
	}
	var b [timeEntryLen]byte
	putTimeEntry(&b, p.base, timeEntry{p.maxTime, p.maxTimeAt})
	p.times.push(b[:])
	p.lastTime = p.maxTime
}

// indexFull reports whether an index reached its configured size. The time index
// keeps one place for the entry made at the roll.
func (p *activePart) indexFull(limit int32) bool {
	return p.offsets.count >= int(limit)/offsetEntryLen || p.times.count >= int(limit)/timeEntryLen-1
}

// unpin gives back the pin of the log file.
func (p *activePart) unpin() {
	if p.file != nil {
		p.file = nil
		p.log.unpin()
	}
}

// closeSecond closes the descriptor of slot 1, which must be held.
func (p *activePart) closeSecond() {
	if p.second != nil {
		_ = p.second.Close() // what it synced is durable; nothing was written to it
		p.second = nil
	}
}
