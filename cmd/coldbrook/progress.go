package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress draws one line on a terminal: how far, how fast, how long still. It belongs to one
// goroutine. The zero value draws nothing.
type progress struct {
	w       io.Writer
	what    string
	total   int64
	show    func(int64) string
	begun   time.Time
	drawn   time.Time
	visible bool
}

// progress starts a line, if standard error is a terminal and standard output is not fighting for it.
// total is 0 when the end is not known.
func (a *app) progress(what string, total int64, show func(int64) string) *progress {
	p := &progress{what: what, total: total, show: show, begun: time.Now()}
	if a.errTerminal {
		p.w = a.err
	}
	return p
}

// at draws, at most five times a second and not in the first half second.
func (p *progress) at(n int64) {
	now := time.Now()
	if p.w == nil || now.Sub(p.begun) < 500*time.Millisecond || now.Sub(p.drawn) < 200*time.Millisecond {
		return
	}
	p.drawn, p.visible = now, true
	fmt.Fprint(p.w, "\r\x1b[K"+p.line(n, now.Sub(p.begun)))
}

const barWidth = 24

func (p *progress) line(n int64, took time.Duration) string {
	rate := float64(n) / took.Seconds()
	if p.total <= 0 {
		return fmt.Sprintf("%s %s  %s/s  %s", p.what, p.show(n), p.show(int64(rate)), span(took))
	}
	part := min(1, float64(n)/float64(p.total))
	full := int(part * barWidth)
	left := "-"
	if rate > 0 {
		left = span(time.Duration(float64(p.total-min(n, p.total)) / rate * float64(time.Second)))
	}
	return fmt.Sprintf("%s [%s%s] %3.0f%%  %s of %s  %s/s  %s left", p.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
		part*100, p.show(n), p.show(p.total), p.show(int64(rate)), left)
}

// done removes the line.
func (p *progress) done() {
	if p.visible {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
