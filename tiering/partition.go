package tiering

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/read"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// ErrNotLeader ends work of a partition whose leadership went away meanwhile.
var ErrNotLeader = errors.New("not the leader")

// noView is what is known of a partition nothing is known of.
var noView = segment.RemoteView{HighestOffset: -1, HighestEpoch: -1, StartOffset: -1}

// partition is what the manager keeps of one partition: small, whatever the tier holds.
type partition struct {
	tip  metadata.TopicIDPartition
	view atomic.Pointer[segment.RemoteView]

	mu        sync.Mutex
	leader    *leadership // nil when this broker does not lead
	busy      bool        // a pass runs; it owns leader's unguarded fields
	stop      context.CancelFunc
	failures  int
	notBefore time.Time              // of the next pass, after a failure
	pointer   metadata.RemotePointer // as last read or written here
	garbage   int64                  // items on the root's list, for metrics
	held      string                 // why nothing is copied and nothing deleted before an operator decides; empty: it is
}

// leadership is one Lead call. The fields at the end belong to the running pass.
type leadership struct {
	upload.Leader
	tiered bool // remote.storage.enable was on when it began; a change begins another

	// The next six are guarded by partition.mu.
	keepLog bool      // the operator has decided for the log, see KeepLog
	loaded  bool      // the pointer was read under this leadership
	fenced  bool      // another leader was elected
	end     int64     // of the manifest
	keepAt  time.Time // next housekeeping
	// What is to be done in the next housekeeping, which no copy runs beside.
	jobs []gc.Job

	unseen error // why it is not known whether the bucket has more than the pointer; nil: it is known
	tried  int64 // highest sequence a root was PUT under
	swept  int64 // former roots listed with a time up to this one are deleted
	batch  upload.Batch

	refused   int       // times in a row that deletions failed
	collectAt time.Time // before it none is tried again
	idle      *idle     // what the last housekeeping found, if that was nothing to do
}

func newPartition(tip metadata.TopicIDPartition) *partition {
	p := &partition{tip: tip}
	v := noView
	p.view.Store(&v)
	return p
}

// lead says whether anything changed.
func (p *partition) lead(epoch int32, log *segment.Log) bool {
	tiered := log.Config().RemoteEnabled
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.leader; l != nil && l.Epoch == epoch && l.Log == log && l.tiered == tiered {
		return false
	}
	p.endLocked()
	p.leader = &leadership{
		Leader: upload.Leader{TIP: p.tip, Topic: log.TopicPartition().Topic, Epoch: epoch, Log: log},
		tiered: tiered, tried: -1, end: p.view.Load().HighestOffset + 1,
	}
	return true
}

func (p *partition) resign() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
}

// endLocked breaks a running pass off. The view stays for readers, but permits nothing.
func (p *partition) endLocked() {
	if p.stop != nil {
		p.stop()
	}
	p.leader, p.failures, p.notBefore, p.held = nil, 0, time.Time{}, ""
	v := *p.view.Load()
	v.Loaded = false
	p.view.Store(&v)
}

// leadership returns the current one, nil when this broker does not lead.
func (p *partition) leadership() *leadership {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader
}

func (p *partition) led() bool { return p.leadership() != nil }

func (p *partition) inUse() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader != nil || p.busy
}

// failed sets the pause before the next pass.
func (p *partition) failed(l *leadership, now time.Time, lo, hi time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == l {
		p.notBefore = now.Add(bucket.Backoff(p.failures, lo, hi))
		p.failures++
	}
}

// setPointer keeps a pointer that was read or written. A reader's late answer does not take a commit back.
func (p *partition) setPointer(pointer metadata.RemotePointer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pointer.ModRevision > p.pointer.ModRevision {
		p.pointer = pointer
	}
}

// publish makes a committed or loaded root visible to retention and readers, unless the leadership ended.
func (p *partition) publish(l *leadership, man bucket.Manifest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != l {
		return
	}
	l.loaded, l.end, p.held = true, man.End(), ""
	v := *p.view.Load()
	read.Describe(&v, man)
	v.Loaded = true
	p.garbage = man.PendingDeletions()
	p.view.Store(&v)
}

// catchUp publishes a manifest that another end than the known one shows: a commit whose answer was lost came to
// count after the pointer had been read again. Without it the partition would look for work there is not for ever.
func (p *partition) catchUp(l *leadership, man bucket.Manifest) {
	p.mu.Lock()
	known := l.end
	p.mu.Unlock()
	if known != man.End() {
		p.publish(l, man)
	}
}

// observe is publish for a partition this broker does not lead.
func (p *partition) observe(man bucket.Manifest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != nil {
		return
	}
	v := noView
	read.Describe(&v, man)
	v.Loaded = true
	p.view.Store(&v)
}

// unload makes the next pass read the pointer again.
func (p *partition) unload(l *leadership) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.loaded = false
	if p.leader == l {
		v := *p.view.Load()
		v.Loaded = false
		p.view.Store(&v)
	}
}

// hold has nothing deleted before the log and the tier agree again, or an operator has decided between them.
func (p *partition) hold(l *leadership, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == l {
		p.held = why.Error()
	}
}

func (p *partition) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held != ""
}

// fence ends a leadership that etcd knows to be over: a leader epoch never comes back, so only Lead helps.
func (p *partition) fence(l *leadership) {
	p.unload(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	l.fenced = true
}

// pending puts the lag into the view.
func (p *partition) pending(l *leadership, segments, bytes int64, oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := *p.view.Load()
	if p.leader != l || v.PendingSegments == segments && v.PendingBytes == bytes && v.OldestUnuploaded.Equal(oldest) {
		return
	}
	v.PendingSegments, v.PendingBytes, v.OldestUnuploaded = segments, bytes, oldest
	p.view.Store(&v)
}

// startAt moves the log start up to an offset, if it lies below, and says whether it did.
func (l *leadership) startAt(offset int64) (moved bool, err error) {
	if offset <= l.Log.LogStart() {
		return false, nil
	}
	if err := l.Log.SetLogStart(offset); err != nil {
		return false, fmt.Errorf("set log start %d: %w", offset, err)
	}
	return true, nil
}
