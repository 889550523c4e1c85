package otel

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a line of the log waits to be written. What reads the log may have stopped reading: a tee
	// that is suspended, a collector that hangs. It must not stop the broker.
	patience = 100 * time.Millisecond
	// keptLines and maxLine bound what is kept for such a reader.
	keptLines = 1024
	maxLine   = 16 << 10
)

// Patient is where a log goes whose reader may be slow: as long as lines are read, a Write returns when its line has
// been written, so that the last words before a crash are there. When none is read any more, Write returns at once, up
// to 1,024 lines are kept, and the rest is counted. Safe for concurrent use.
type Patient struct {
	to      io.Writer
	lines   chan patientLine
	stop    chan struct{}
	stopped chan struct{}
	stalled atomic.Bool
	dropped atomic.Int64
}

type patientLine struct {
	text    []byte
	written chan struct{}
}

// NewPatient starts a writer to w, which Close ends.
func NewPatient(w io.Writer) *Patient {
	p := &Patient{to: w, lines: make(chan patientLine, keptLines), stop: make(chan struct{}), stopped: make(chan struct{})}
	go p.run()
	return p
}

// Write takes one line. It never fails: there is nobody to tell.
func (p *Patient) Write(b []byte) (int, error) {
	l := patientLine{text: bytes.Clone(b[:min(len(b), maxLine)]), written: make(chan struct{})}
	if len(b) > maxLine {
		l.text = append(l.text[:maxLine-1], '\n')
	}
	select {
	case p.lines <- l:
	default:
		p.dropped.Add(1)
		return len(b), nil
	}
	if p.stalled.Load() {
		return len(b), nil
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-l.written:
	case <-p.stopped:
	case <-late.C:
		p.stalled.Store(true)
	}
	return len(b), nil
}

func (p *Patient) run() {
	defer close(p.stopped)
	for {
		select {
		case l := <-p.lines:
			p.write(l)
			continue
		default:
		}
		select {
		case l := <-p.lines:
			p.write(l)
		case <-p.stop:
			return // everything has been written
		}
	}
}

func (p *Patient) write(l patientLine) {
	// An error is a reader that is gone, or a full disk: the next line may get through.
	_, _ = p.to.Write(l.text)
	if n := p.dropped.Swap(0); n > 0 {
		_, _ = fmt.Fprintf(p.to, "%d lines of the log were dropped: nothing read it\n", n)
	}
	p.stalled.Store(false)
	close(l.written)
}

// Close writes what is kept and ends the writer. It waits no longer than that: what is not read by then is lost. Lines
// that come later are too.
func (p *Patient) Close(wait time.Duration) {
	close(p.stop)
	select {
	case <-p.stopped:
	case <-time.After(wait):
	}
}
