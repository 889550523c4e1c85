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

// part is one segment of a log: a .log file and its indexes. The last part of a
// log is the active one, the others do not change any more. Its fields are
// guarded by Log.mu; the file objects may be used without it.
type part struct {
	base int64
	log  *segFile
	idx  *segFile
	tim  *segFile
	txn  *segFile

	size int64 // bytes of whole batches
	next int64 // offset after the last record

	offsets    entries
	times      entries
	lastTime   int64 // timestamp of the last entry of times, -1 = none
	lastIndex  int64 // position of the last entry of offsets, 0 = none
	statsKnown bool  // maxTime and maxTimeAt are loaded
	txnsKnown  bool  // txns are loaded
	maxTime    int64 // largest timestamp, -1 = none
	maxTimeAt  int64 // last offset of the batch that has it
	txns       []AbortedTxn
	txnFlushed int  // of txns, on disk
	txnTrim    bool // the file holds more

	firstTime   int64     // max timestamp of the first batch, -1 = unknown
	firstAppend time.Time // when it came, zero = empty
	reserved    int64     // end of the space that was preallocated
	overhang    bool      // the file may hold bytes behind size: see Log.tidy
	unborn      bool      // there is no file yet: see Log.tidy

	pinned      bool // file is log, pinned: from the first append until the part is sealed
	file        vfs.File
	second      vfs.File        // the same file opened again, guarded by slot 1
	dirUnsynced bool            // the name of the log file is not durable yet
	sideWritten [sideFiles]bool // that file was written, so it exists
	sideNamed   [sideFiles]bool // its name is durable
	durable     int64           // bytes that are durable
	full        bool            // rolled: no append any more
	sealed      bool            // full, and all its files are durable
	sealedAt    time.Time       // zero = not sealed; of a part found on disk the file's time
	toldFuture  bool            // the operator was told that maxTime lies in the future
	snapshot    []byte          // producer state at next, to be written when it is sealed
	hasIndex    bool            // index files exist or are not needed
}

// The files of a part that are not its log.
const (
	sideIndex = iota
	sideTime
	sideTxn
	sideFiles
)

func newPart(files *fileCache, dir string, base int64) *part {
	f := func(suffix string) *segFile { return files.file(filepath.Join(dir, fileName(base, suffix))) }
	return &part{
		base: base, next: base,
		log: f(logSuffix), idx: f(indexSuffix), tim: f(timeSuffix), txn: f(txnSuffix),
		offsets: entries{width: offsetEntryLen}, times: entries{width: timeEntryLen},
		lastTime: -1, maxTime: -1, maxTimeAt: -1, firstTime: -1,
	}
}

// last returns the offset of the last record, inclusive; base-1 if there is none.
func (p *part) last() int64 { return p.next - 1 }

// added records a batch in the part's statistics and indexes, as Kafka's
// LogSegment.append does: an index entry for a batch that starts more than
// interval bytes behind the last one with an entry.
func (p *part) added(pos, size, lastOffset, maxTimestamp int64, interval int64) {
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
func (p *part) addTime() {
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
func (p *part) indexFull(limit int32) bool {
	return p.offsets.count >= int(limit)/offsetEntryLen || p.times.count >= int(limit)/timeEntryLen-1
}

// files returns all files of the part, the log first.
func (p *part) files() [4]*segFile { return [4]*segFile{p.log, p.idx, p.tim, p.txn} }
