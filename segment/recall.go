package segment

import (
	"errors"
	"fmt"
	"io"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
)

// A producer snapshot has the last batch of each producer, as Kafka's. A client
// that was not answered sends up to five batches again, and those before the last
// look out of order to a log that was opened, truncated or begun from a snapshot
// meanwhile. So before it says that, the log looks at the records before the
// snapshot, once after each reload, backwards, a little first; the owner reads to
// it what is in the tier only.
const (
	firstRecall = 1 << 20
	maxRecall   = 64 << 20 // of records: for a dozen producers with five batches of a megabyte each
)

// producerHistory is how far back the producer state knows every batch. Guarded by Log.mu.
type producerHistory struct {
	from    int64 // offset
	spent   int64 // bytes read for it
	reloads int64 // counts replacements of the producer state
	// transactions: the snapshot that it was made of has producers that use them,
	// perhaps of so long ago that they were left out.
	transactions bool
}

// reloadedLocked notes that the producer state was replaced by one that knows
// every batch from an offset on, and the last of each producer before it.
func (l *Log) reloadedLocked(from int64) {
	l.history = producerHistory{from: from, reloads: l.history.reloads + 1}
}

// appendKnowing is the part of AppendAsLeader that has its turn. What looks out of
// order is judged again with more of the log's history; others append meanwhile.
func (l *Log) appendKnowing(list []checked, b []byte, cfg *Config, o AppendOptions) (AppendInfo, error) {
	info, err := l.appendInTurn(list, b, cfg, o)
	if !errors.Is(err, producer.ErrOutOfOrderSequence) {
		return info, err
	}
	l.recalling.lock()
	defer l.recalling.unlock()
	for {
		info, err = l.appendInTurn(list, b, cfg, o)
		if !errors.Is(err, producer.ErrOutOfOrderSequence) {
			return info, err
		}
		more, recallErr := l.recallMore()
		switch {
		case recallErr != nil:
			return info, recallErr
		case !more:
			return info, err
		}
	}
}

func (l *Log) appendInTurn(list []checked, b []byte, cfg *Config, o AppendOptions) (AppendInfo, error) {
	l.turn.lock()
	defer l.turn.unlock()
	return l.appendLeader(list, b, cfg, o)
}

// recallMore takes a run of local records before those that the producer state
// knows into it. False means that there is no more to be had. recalling must be
// held.
func (l *Log) recallMore() (bool, error) {
	r := l.Recollect()
	if r == nil {
		return false, nil
	}
	l.mu.Lock()
	i := l.floor(r.upTo - 1)
	if i < 0 {
		l.mu.Unlock()
		return false, fmt.Errorf("%s: producers' batches below offset %d: %w", l.tp, r.upTo, ErrForgotten)
	}
	p := l.parts[i]
	l.mu.Unlock()
	whole, err := r.readPart(p)
	switch {
	case err == nil && whole:
		r.Done(p.base)
	case err == nil:
		r.Done(r.first)
	case !l.removed(p):
		return false, err
	}
	// Truncation and retention do not wait for who looks back: after an error
	// there is something else to look at.
	return true, nil
}

// Recollection completes a log's producer state by records before those that it
// knows. It is used by one goroutine.
type Recollection struct {
	l      *Log
	upTo   int64
	known  producerHistory
	wanted map[int64]struct{}
	older  *producer.Manager
	first  int64 // offset that was taken in, -1 none
	read   int64
}

// Recollect begins a Recollection after ErrForgotten; nil if nothing is to be
// learned any more.
func (l *Log) Recollect() *Recollection {
	cfg := l.config.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.history
	if h.spent >= maxRecall || h.from <= min(l.parts[0].base, l.logStart.Load()) {
		return nil
	}
	return &Recollection{
		l: l, upTo: h.from, known: h, wanted: l.producers.Incomplete(),
		older: producer.NewManager(cfg.MaxTxnAge, cfg.ProducerExpiration), first: -1,
	}
}

// UpTo is where the records that are wanted end.
func (r *Recollection) UpTo() int64 { return r.upTo }

// Size is about how many bytes of them to read.
func (r *Recollection) Size() int64 { return max(firstRecall, r.known.spent) }

// Add takes whole batches in, the oldest first. What is not below UpTo does not
// count. Errors are those of [record.Next].
func (r *Recollection) Add(batches []byte) error {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return err
		}
		if !r.add(b, int64(len(b))) {
			return nil
		}
		batches = rest
	}
	return nil
}

// add takes one batch in, of which the header is enough if it has data. False
// means that all are in.
func (r *Recollection) add(b record.Batch, size int64) bool {
	if b.BaseOffset() >= r.upTo {
		return false
	}
	if r.first < 0 {
		r.first = b.BaseOffset()
	}
	r.read += size
	if _, ok := r.wanted[b.ProducerID()]; ok {
		trackBatch(r.older, b)
	}
	return true
}

// Done gives the log what was taken in: all batches from the one on that holds
// offset from.
func (r *Recollection) Done(from int64) {
	if r.first >= 0 {
		from = min(from, r.first)
	}
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.history == r.known {
		l.producers.Recall(r.older)
		l.history.from, l.history.spent = from, r.known.spent+r.read
	}
}

// readPart takes in records of p that end at UpTo: all, or the last.
func (r *Recollection) readPart(p *part) (all bool, err error) {
	v, err := r.l.viewOf(p)
	if err != nil {
		return false, err
	}
	defer v.release()
	end, err := v.locate(r.upTo)
	start := int64(0)
	if err == nil && end > r.Size() {
		start, err = v.locateEnd(end-r.Size(), r.upTo)
	}
	if err != nil {
		return false, r.l.readError("read index", p.idx.name, err)
	}
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(v.file, start, v.size, buf[:])
	err = s.replay(func(b record.Batch, _, size int64) error {
		if !r.add(b, size) {
			return io.EOF
		}
		return nil
	})
	if err != nil && err != io.EOF {
		return false, r.l.readError("look for a producer's batches", p.log.name, err)
	}
	return start == 0, nil
}
