package segment

import (
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Log is one partition's log on the local disk. All methods are safe for
// concurrent use.
//
//	open.go, findend.go,    opening: what there is, where it ends, what of the derived
//	rescan.go, replay.go    files can be believed; torn.go puts aside what is cut
//	append.go, recall.go    appending, as leader and as follower
//	sync.go, committer.go   making it durable
//	roll.go, sealer.go      closing segments and making them complete
//	read.go, lookup.go,     reading: chunk.go what a read gives, loadindex.go the indexes
//	stats.go, txnindex.go   of closed segments, behind.go how far behind a reader is
//	truncate.go, restart.go changing the end; tidy.go brings the files in line
//	retention.go            changing the start
//	sealed.go               what is uploaded
//	epochs.go, producers.go lineage and producer state
//	marks.go                checkpoints
//
// Locks, taken in this order: turn, by whoever changes the end of the log (append,
// roll, truncate); maint, by whoever writes files other than .log or removes
// parts; the slots, by whoever syncs a .log; and mu, which guards memory and is
// never held across I/O. All but mu are channels, because they are held while the
// disk works.
type Log struct {
	dir      *Dir
	fs       vfs.FS
	path     string
	log      *slog.Logger
	tp       metadata.TopicPartition
	topicID  metadata.TopicID
	onSynced func(end int64)
	onDamage func(*DamageError) // nil: nobody wants to know

	recalling gate // by who completes the producer state; before turn
	turn      gate
	maint     gate
	slots     [syncSlots]gate
	again     atomic.Bool // somebody wanted a slot

	config     atomic.Pointer[Config]
	logStart   atomic.Int64
	localStart atomic.Int64
	end        atomic.Int64
	synced     atomic.Int64 // durable, or declared so
	durable    atomic.Int64 // written under mu
	recovery   atomic.Int64 // durable with all indexes; written under mu
	hw         atomic.Int64
	unstable   atomic.Int64 // first offset of an open transaction, -1 = none
	localBytes atomic.Int64
	epoch      atomic.Int32 // latest leader epoch, -1 = none
	queued     atomic.Bool  // the committer knows that there is something to do
	needSync   atomic.Bool  // and it is a sync, not just news for OnSynced
	sealing    atomic.Bool  // the sealer knows
	telling    atomic.Int64 // calls of OnSynced that are due, the running one included
	vouched    atomic.Int64 // no checkpoint may say that anything at or above is durable
	untidy     atomic.Bool  // tidy has something to do

	doomedTail      []*part    // cut off, files not yet removed, newest first; guarded by maint
	doomedSnapshots []int64    // of these, not yet removed; guarded by maint
	seconds         []vfs.File // second descriptors of these, to be closed; guarded by maint
	doomedFront     []*part    // expired, files not yet removed, oldest first; guarded by maint

	// Guarded by maint: how far the deletion of the log has come.
	leaving bool   // it is closed for it
	grave   string // the directory's new path

	mu            sync.Mutex
	parts         []*part       // all, sorted; replaced, not changed in place, when it shrinks
	sealed        []*sealedPart // those at the front; replaced when it shrinks
	rolled        []*closedPart // those behind them, for the sealer; replaced when it shrinks
	tail          *activePart   // the last one
	epochs        []EpochEntry
	epochsDirty   bool // the file lacks entries that have records
	producers     *producer.Manager
	history       producerHistory // what producers knows
	generation    int64           // counts truncations
	snapshots     []int64
	snapshotBytes int64 // appended since the last snapshot
	closed        bool
}

// gate is a lock that may be held while the disk works. Waiting for it is
// durable blocking in the sense of testing/synctest.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) lock()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

func (g gate) tryLock() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

// TopicPartition returns the name of the partition.
func (l *Log) TopicPartition() metadata.TopicPartition { return l.tp }

// TopicID returns the id of the topic, zero if nobody gave one.
func (l *Log) TopicID() metadata.TopicID { return l.topicID }

// Config returns the settings in force.
func (l *Log) Config() Config { return *l.config.Load() }

// SetConfig replaces the settings. Appends that have begun use the old ones.
func (l *Log) SetConfig(c Config) {
	c = c.withDefaults()
	old := l.config.Swap(&c)
	l.mu.Lock()
	l.configureProducers(c)
	l.mu.Unlock()
	if c.RemoteEnabled && !old.RemoteEnabled {
		// From now on the segments do not tell where the log starts.
		if err := l.persistLogStart(); err != nil {
			l.log.Warn("checkpoint failed, trying again later", "partition", l.tp, "err", err)
		}
	}
}

// LogStart returns the first offset that may be read, here or in the tier.
func (l *Log) LogStart() int64 { return l.logStart.Load() }

// LocalLogStart returns the first offset on the local disk.
func (l *Log) LocalLogStart() int64 { return max(l.localStart.Load(), l.logStart.Load()) }

// LogEnd returns the offset of the next record.
func (l *Log) LogEnd() int64 { return l.end.Load() }

// SyncedOffset returns the end of what is durable, or of what flush.messages lets
// pass for it.
func (l *Log) SyncedOffset() int64 { return l.synced.Load() }

// RecoveryPoint returns the offset below which a restart reads nothing again.
func (l *Log) RecoveryPoint() int64 { return l.recovery.Load() }

// HighWatermark returns the end of what consumers may see.
func (l *Log) HighWatermark() int64 { return l.hw.Load() }

// LastStableOffset returns the end of what consumers of committed records may
// see: the high watermark, or the first record of the oldest open transaction,
// but for what lies below the log start.
func (l *Log) LastStableOffset() int64 {
	hw := l.hw.Load()
	if u := l.unstable.Load(); u >= 0 && u < hw {
		return max(u, min(l.logStart.Load(), hw))
	}
	return hw
}

// LocalBytes returns the size of the log files on the local disk.
func (l *Log) LocalBytes() int64 { return l.localBytes.Load() }

// Segments returns how many segments are on the local disk, the active one
// included.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parts)
}

// LargestSegment returns the size of the largest segment on the local disk.
func (l *Log) LargestSegment() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var largest int64
	for _, p := range l.parts {
		largest = max(largest, p.size)
	}
	return largest
}

// SetHighWatermark moves the high watermark forward to hw, but not beyond
// LogEnd. It never moves it back: only truncation does.
func (l *Log) SetHighWatermark(hw int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hw = min(hw, l.end.Load())
	if hw <= l.hw.Load() {
		return
	}
	l.hw.Store(hw)
	l.hwMovedLocked(hw)
}

// active returns the last part. mu must be held, or turn and maint both.
func (l *Log) active() *activePart { return l.tail }

// unsealedLocked returns the parts that are not sealed, oldest first.
func (l *Log) unsealedLocked() []*activePart {
	list := make([]*activePart, 0, len(l.rolled)+1)
	for _, c := range l.rolled {
		list = append(list, c.activePart)
	}
	return append(list, l.tail)
}

// sealedAtLocked returns the sealed part with the given base, or nil.
func (l *Log) sealedAtLocked(base int64) *sealedPart {
	if i := l.floor(base); i >= 0 && i < len(l.sealed) && l.sealed[i].base == base {
		return l.sealed[i]
	}
	return nil
}

// head is active for the holder of turn.
func (l *Log) head() *activePart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active()
}

// floor returns the index of the part that holds offset, or -1 if offset is
// below all parts. mu must be held.
func (l *Log) floor(offset int64) int {
	return sort.Search(len(l.parts), func(i int) bool { return l.parts[i].base > offset }) - 1
}

// check returns why nothing can be changed: the log is closed or the directory
// offline.
func (l *Log) check() error {
	if err := l.dir.Offline(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("%s: %w", l.tp, ErrClosed)
	}
	return nil
}

// fail judges the error of one call of the file system: what heals is returned as
// it is, anything else takes the directory offline.
func (l *Log) fail(op string, err error) error {
	return l.dir.fail(fmt.Errorf("%s: %s: %w", l.tp, op, err))
}
