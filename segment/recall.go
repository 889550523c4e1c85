package segment

import (
	"errors"
	"io"

	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
)

// A producer snapshot has the last batch of each producer, as Kafka's. A client
// that was not answered sends up to five batches again, and those before the last
// look out of order to a log that was opened, truncated or begun from a snapshot
// meanwhile. So before it says that, the log looks at its records before the
// snapshot, once after each reload, backwards, a little first.
const (
	firstRecall = 1 << 20
	maxRecall   = 256 << 20 // of records: for fifty producers with five batches of a megabyte each
)

// producerHistory is how far back the producer state knows every batch. Guarded by Log.mu.
type producerHistory struct {
	from    int64 // offset
	spent   int64 // bytes read for it
	ended   bool  // there is nothing to be learned before from
	reloads int64 // counts replacements of the producer state
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
		case recallErr != nil && !more:
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

// recallMore takes a run of records before those that the producer state knows
// into it. False means that there is no more to be had. recalling must be held.
func (l *Log) recallMore() (bool, error) {
	l.mu.Lock()
	h := l.history
	i := l.floor(h.from - 1)
	if h.ended || h.spent >= maxRecall || i < 0 {
		l.history.ended = true
		l.mu.Unlock()
		return false, nil
	}
	p, wanted := l.parts[i], l.producers.Incomplete()
	l.mu.Unlock()
	older, from, size, err := l.recallPart(p, h.from, max(firstRecall, h.spent), wanted)
	if err != nil {
		// Truncation and retention do not wait for who looks back: then there is
		// something else to look at.
		return l.removed(p), err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.history.reloads == h.reloads {
		l.producers.Recall(older)
		l.history.from, l.history.spent = from, h.spent+size
	}
	return true, nil
}

// recallPart reads about size bytes of p that end at offset upTo, and returns what
// they say of the producers that are wanted, and with which offset they begin.
func (l *Log) recallPart(p *part, upTo, size int64, wanted map[int64]struct{}) (older *producer.Manager, from, read int64, err error) {
	v, err := l.viewOf(p)
	if err != nil {
		return nil, 0, 0, err
	}
	defer v.release()
	end, err := v.locate(upTo)
	start := int64(0)
	if err == nil && end > size {
		start, err = v.locateEnd(end-size, upTo)
	}
	if err != nil {
		return nil, 0, 0, l.readError("read index", p.idx.name, err)
	}
	cfg := l.config.Load()
	older, from = producer.NewManager(cfg.MaxTxnAge, cfg.ProducerExpiration), p.base
	var s scanner
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	s.over(v.file, start, v.size, buf[:])
	err = s.replay(func(b record.Batch, pos, size int64) error {
		if b.BaseOffset() >= upTo {
			return io.EOF
		}
		if pos == start && start > 0 {
			from = b.BaseOffset()
		}
		if _, ok := wanted[b.ProducerID()]; ok {
			trackBatch(older, b)
		}
		read += size
		return nil
	})
	if err != nil && err != io.EOF {
		return nil, 0, 0, l.readError("look for a producer's batches", p.log.name, err)
	}
	return older, from, read, nil
}
