package segment

import (
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Origin says who appends.
type Origin int8

// The origins.
const (
	Client      Origin = iota // a producer: all of Kafka's checks apply
	Coordinator               // this broker: may write control batches
)

// AppendOptions are the circumstances of an append.
type AppendOptions struct {
	LeaderEpoch int32
	Origin      Origin
	Now         time.Time // zero = the time now
	// TransactionVersion belongs to a Coordinator's marker: that of
	// WriteTxnMarkers.
	TransactionVersion int16
	// MustVerify and Guard belong to a transactional batch of a Client: see
	// [Log.StartVerification].
	MustVerify bool
	Guard      producer.Guard
}

// AppendInfo tells what became of an append.
type AppendInfo struct {
	FirstOffset   int64 // -1 = nothing was appended
	LastOffset    int64 // inclusive
	LogAppendTime int64 // milliseconds, -1 = the records keep their own
	LogStart      int64
	Duplicate     bool // the offsets are those of an earlier append of the same batch
	Bytes         int
}

// checked is a batch that passed validation.
type checked struct {
	batch record.Batch
}

// AppendAsLeader appends one or more batches with the next offsets and the given
// leader epoch. It returns when they are written; [Log.SyncedOffset] moves over
// them, and OnSynced is called, when they are durable. batches is changed in
// place and not kept. All are appended or none.
//
// Errors: those of [record.Validate] and of [producer.Manager.CheckAll],
// ErrForgotten, ErrInvalidBatch, ErrFenced, ErrOffline, ErrClosed, and those for
// which [vfs.Heals] is true, such as a full disk's: then nothing was appended and
// the log is as it was.
func (l *Log) AppendAsLeader(batches []byte, o AppendOptions) (AppendInfo, error) {
	cfg := l.config.Load()
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	var few [4]checked
	list, batches, err := l.validate(few[:0], batches, cfg, o)
	if err != nil {
		return AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1, LogStart: l.LogStart()}, err
	}
	info, err := l.appendKnowing(list, batches, cfg, o)
	info.LogStart = l.LogStart()
	return info, err
}

// validate checks and normalises the batches without any lock.
func (l *Log) validate(list []checked, b []byte, cfg *Config, o AppendOptions) ([]checked, []byte, error) {
	vo := record.ValidateOptions{
		Now:                o.Now,
		TimestampType:      cfg.TimestampType,
		TimestampBeforeMax: cfg.TimestampBeforeMax,
		TimestampAfterMax:  cfg.TimestampAfterMax,
		RequireKey:         cfg.Compact && o.Origin == Client,
		MaxBytes:           int(cfg.MaxMessageBytes),
		Target:             cfg.Compression,
		FromClient:         o.Origin == Client,
	}
	recompressed, total := false, 0
	for rest := b; len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if err != nil {
			return nil, nil, err
		}
		v, err := record.Validate(batch, vo)
		if err != nil {
			return nil, nil, err
		}
		recompressed = recompressed || v.Recompressed
		total += len(v.Batch)
		list = append(list, checked{batch: v.Batch})
		rest = after
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("%w: no batch", ErrInvalidBatch)
	}
	if recompressed {
		list, b = joined(list, total)
	}
	return list, b, nil
}

// joined copies batches that lie apart into one slice.
func joined(list []checked, total int) ([]checked, []byte) {
	if len(list) == 1 {
		return list, list[0].batch
	}
	b := make([]byte, 0, total)
	for i, c := range list {
		at := len(b)
		b = append(b, c.batch...)
		list[i].batch = record.Batch(b[at:len(b):len(b)])
	}
	return list, b
}

// appendLeader is the part of AppendAsLeader that has its turn.
func (l *Log) appendLeader(list []checked, b []byte, cfg *Config, o AppendOptions) (AppendInfo, error) {
	info := AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1}
	if err := l.begin(); err != nil {
		return info, err
	}
	if epoch := l.epoch.Load(); o.LeaderEpoch < epoch {
		return info, fmt.Errorf("%s: append with leader epoch %d, the log has %d: %w", l.tp, o.LeaderEpoch, epoch, ErrFenced)
	}
	next := l.end.Load()
	first := next
	for _, c := range list {
		c.batch.SetBaseOffset(next)
		c.batch.SetLeaderEpoch(o.LeaderEpoch)
		next = c.batch.NextOffset()
	}
	dup, err := l.checkProducers(list, o)
	if err != nil {
		return info, err
	}
	if dup.Duplicate {
		info.FirstOffset, info.LastOffset, info.Duplicate = dup.Of.FirstOffset, dup.Of.LastOffset, true
		if cfg.TimestampType == record.LogAppendTime {
			info.LogAppendTime = dup.Of.Timestamp
		}
		return info, nil
	}
	info.FirstOffset, info.Bytes = first, len(b)
	if err := l.write(list, b, cfg, o.Now); err != nil {
		return AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1}, err
	}
	info.LastOffset = next - 1
	if cfg.TimestampType == record.LogAppendTime {
		info.LogAppendTime = o.Now.UnixMilli()
	}
	return info, nil
}

// AppendAsFollower appends batches as the leader of an epoch sent them, with
// offsets and epochs. It checks the CRC of each: ErrCorrupt. A batch cut off at
// the end is ignored. So are those from the first one of a later epoch on: a
// leader that was deposed while it answered sends what it fetched itself, with
// which this log was not compared (KAFKA-18723); ErrFenced if there is no other.
// The batches must continue the log, ErrInvalidBatch, but for the first one of
// a log without records: its beginning may be below the log's.
func (l *Log) AppendAsFollower(batches []byte, leaderEpoch int32) (AppendInfo, error) {
	info := AppendInfo{FirstOffset: -1, LastOffset: -1, LogAppendTime: -1, LogStart: l.LogStart()}
	var few [4]checked
	list, err := l.sent(few[:0], batches, leaderEpoch)
	if err != nil || len(list) == 0 {
		return info, err
	}
	l.turn.lock()
	defer l.turn.unlock()
	if err := l.begin(); err != nil {
		return info, err
	}
	if err := l.beginWithin(list[0].batch); err != nil {
		return info, err
	}
	total, next, epoch := 0, l.end.Load(), l.epoch.Load()
	for _, c := range list {
		if c.batch.BaseOffset() < next || c.batch.LastOffset() < c.batch.BaseOffset() || c.batch.LeaderEpoch() < epoch {
			return info, fmt.Errorf("%s: batch with offsets %d to %d of epoch %d, want %d or more and epoch %d: %w",
				l.tp, c.batch.BaseOffset(), c.batch.LastOffset(), c.batch.LeaderEpoch(), next, epoch, ErrInvalidBatch)
		}
		next, epoch = c.batch.NextOffset(), c.batch.LeaderEpoch()
		total += len(c.batch)
	}
	if err := l.write(list, batches[:total], l.config.Load(), time.Now()); err != nil {
		return info, err
	}
	info.FirstOffset, info.LastOffset, info.Bytes = list[0].batch.BaseOffset(), next-1, total
	return info, nil
}

// sent lists the whole batches that a leader sent, up to the first one of a
// later epoch than its own.
func (l *Log) sent(list []checked, batches []byte, leaderEpoch int32) ([]checked, error) {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if errors.Is(err, record.ErrTorn) {
			break
		}
		if err == nil {
			err = b.Verify()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: from the leader: %w: %w", l.tp, ErrCorrupt, err)
		}
		if epoch := b.LeaderEpoch(); epoch > leaderEpoch {
			if len(list) == 0 {
				return nil, fmt.Errorf("%s: batch of epoch %d from the leader of epoch %d: %w", l.tp, epoch, leaderEpoch, ErrFenced)
			}
			break
		}
		list, batches = append(list, checked{batch: b}), rest
	}
	return list, nil
}

// write appends batches that have their offsets. turn must be held.
func (l *Log) write(list []checked, b []byte, cfg *Config, now time.Time) error {
	last := list[len(list)-1].batch.LastOffset()
	if err := l.rollBefore(list, int64(len(b)), last, cfg, now); err != nil {
		return err
	}
	p := l.head()
	f, err := l.writable(p)
	if err != nil {
		return err
	}
	l.reserve(p, f, int64(len(b)), cfg)
	if _, err := f.WriteAt(b, p.size); err != nil {
		return l.undo(p, err)
	}
	l.publish(p, list, cfg, now)
	l.requestSync(cfg)
	return nil
}

// writable returns the open log file of the active part, whose pin the part
// keeps until it is sealed or the log is idle. turn must be held.
func (l *Log) writable(p *activePart) (vfs.File, error) {
	if p.file != nil {
		return p.file, nil
	}
	f, err := p.log.pin()
	if err != nil {
		return nil, l.fail("open segment", err)
	}
	l.mu.Lock()
	p.file = f
	l.mu.Unlock()
	return f, nil
}

// reserve asks the file system for the space of a whole segment, with
// preallocate=true. The size of the file does not change, so that Kafka's tools
// read it at any time.
func (l *Log) reserve(p *activePart, f vfs.File, n int64, cfg *Config) {
	end := p.size + n
	if !cfg.Preallocate || end <= p.reserved {
		return
	}
	from, to := max(p.reserved, p.size), max(cfg.SegmentBytes, end)
	// Only a hint: whether there is space is the business of the write.
	_ = f.Preallocate(from, to-from)
	p.reserved = to
}

// publish makes batches that were written visible.
func (l *Log) publish(p *activePart, list []checked, cfg *Config, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.firstAppend.IsZero() {
		p.firstAppend = now
	}
	for _, c := range list {
		b := c.batch
		if epoch := b.LeaderEpoch(); epoch > l.epoch.Load() {
			l.assignEpochLocked(epoch, b.BaseOffset())
		}
		p.added(p.size, int64(len(b)), b.LastOffset(), b.MaxTimestamp(), int64(cfg.IndexIntervalBytes))
		l.trackLocked(p.part, b)
		l.localBytes.Add(int64(len(b)))
		l.snapshotBytes += int64(len(b))
	}
	if n := len(l.epochs); n > 0 && l.epochs[n-1].StartOffset >= l.end.Load() {
		l.epochsDirty = true // its first record is in this append
	}
	l.end.Store(p.next)
}

// undo cuts off what a write left that failed halfway. If that fails too, nothing
// is appended before it was done.
func (l *Log) undo(p *activePart, cause error) error {
	err := l.fail("append", cause)
	if !vfs.Heals(cause) {
		return err
	}
	p.reserved, p.overhang = 0, true
	l.untidy.Store(true)
	if terr := l.tidy(); terr != nil {
		return terr
	}
	return err
}
