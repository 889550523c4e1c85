package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memoryPipe is one direction of an in-memory connection. Waiting is done on channels: changed is closed and replaced
// whenever something changes that a reader or a writer may wait for.
type memoryPipe struct {
	readDeadline, writeDeadline memoryDeadline

	mu       sync.Mutex
	changed  chan struct{}
	segments []segment // written and not read
	size     int       // bytes in segments
	delay    time.Duration
	cut      bool
	broken   error // both ends fail
	noReader bool  // the reader closed: writing fails, reading too
	noWriter bool  // the writer closed: its own later writes fail
}

// segment is what one write put in, readable from due on.
type segment struct {
	bytes []byte
	due   time.Time
}

func newMemoryPipe(delay time.Duration) *memoryPipe {
	p := &memoryPipe{changed: make(chan struct{}), delay: delay}
	p.readDeadline.init()
	p.writeDeadline.init()
	return p
}

func (p *memoryPipe) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// read waits for bytes that have arrived.
func (p *memoryPipe) read(b []byte) (int, error) {
	for {
		if p.readDeadline.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		p.mu.Lock()
		n, wait, err := p.tryReadLocked(b)
		changed := p.changed
		p.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		p.await(changed, p.readDeadline.wait(), wait)
	}
}

// tryReadLocked reads what is there; wait is how long the first segment is still on its way, 0 if there is none.
func (p *memoryPipe) tryReadLocked(b []byte) (n int, wait time.Duration, err error) {
	switch {
	case p.noReader:
		return 0, 0, net.ErrClosed
	case p.broken != nil:
		return 0, 0, p.broken
	case p.cut:
		return 0, 0, nil
	}
	now := time.Now()
	for n < len(b) && len(p.segments) > 0 {
		s := &p.segments[0]
		if left := s.due.Sub(now); left > 0 {
			if n == 0 {
				return 0, left, nil
			}
			break
		}
		if s.bytes == nil { // the end
			if n == 0 {
				return 0, 0, io.EOF
			}
			break
		}
		got := copy(b[n:], s.bytes)
		n += got
		p.size -= got
		if s.bytes = s.bytes[got:]; len(s.bytes) == 0 {
			p.segments[0] = segment{}
			p.segments = p.segments[1:]
		}
	}
	if n > 0 {
		p.wakeLocked()
	}
	return n, 0, nil
}

// write waits for room.
func (p *memoryPipe) write(b []byte) (int, error) {
	total := 0
	for {
		if p.writeDeadline.passed() {
			return total, os.ErrDeadlineExceeded
		}
		p.mu.Lock()
		n, err := p.tryWriteLocked(b)
		changed := p.changed
		p.mu.Unlock()
		total += n
		b = b[n:]
		if err != nil || len(b) == 0 {
			return total, err
		}
		p.await(changed, p.writeDeadline.wait(), 0)
	}
}

func (p *memoryPipe) tryWriteLocked(b []byte) (int, error) {
	switch {
	case p.noWriter:
		return 0, net.ErrClosed
	case p.broken != nil:
		return 0, p.broken
	case p.noReader && !p.cut: // over a cut link its reset does not arrive
		return 0, errReset
	}
	n := min(len(b), pipeBytes-p.size)
	if n <= 0 {
		return 0, nil
	}
	p.size += n
	p.appendLocked(append([]byte(nil), b[:n]...))
	return n, nil
}

// appendLocked puts bytes, or nil as the end, behind what is on its way.
func (p *memoryPipe) appendLocked(b []byte) {
	due := time.Now().Add(p.delay)
	if last := len(p.segments) - 1; last >= 0 && p.segments[last].due.After(due) {
		due = p.segments[last].due // a stream keeps its order
	}
	p.segments = append(p.segments, segment{b, due})
	p.wakeLocked()
}

// await waits for a change, a deadline, or for d if it is not 0.
func (p *memoryPipe) await(changed <-chan struct{}, deadline <-chan struct{}, d time.Duration) {
	var arrived <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		arrived = t.C
	}
	select {
	case <-changed:
	case <-deadline:
	case <-arrived:
	}
}

func (p *memoryPipe) closeWrite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noWriter {
		return
	}
	p.noWriter = true
	p.appendLocked(nil)
}

func (p *memoryPipe) closeRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noReader = true
	p.segments = nil
	p.wakeLocked()
}

func (p *memoryPipe) breakOff(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = err
	p.wakeLocked()
}

// setFault changes what happens to what is on its way and to what is sent from now on.
func (p *memoryPipe) setFault(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.cut = f.Delay, f.Cut
	p.wakeLocked()
}

// memoryDeadline is a deadline that can be waited for.
type memoryDeadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{}
}

func (d *memoryDeadline) init() { d.done = make(chan struct{}) }

func (d *memoryDeadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.done)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // else it was set again meanwhile
			d.timer = nil
			close(d.done)
		}
	})
	d.timer = timer
}

func (d *memoryDeadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d *memoryDeadline) passed() bool {
	select {
	case <-d.wait():
		return true
	default:
		return false
	}
}
