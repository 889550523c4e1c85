package otel

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A reader that stops reading holds up one line for a moment, and the broker not at all.
func TestLogWithoutAReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		p := NewPatient(w)
		begun := time.Now()
		for range 3 * keptLines {
			if n, err := p.Write([]byte("line\n")); n != 5 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if took := time.Since(begun); took > patience {
			t.Errorf("took %s", took)
		}
		var got bytes.Buffer
		read := make(chan error)
		go func() { _, err := io.Copy(&got, r); read <- err }()
		synctest.Wait()
		begun = time.Now()
		if _, err := p.Write([]byte("again\n")); err != nil || time.Since(begun) > 0 {
			t.Errorf("with a reader again: %v after %s", err, time.Since(begun))
		}
		p.Close(time.Second)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		text := got.String()
		if n := strings.Count(text, "line\n"); n < keptLines || n > keptLines+1 {
			t.Errorf("%d lines were kept", n)
		}
		if !strings.Contains(text, "2047 lines of the log were dropped") || !strings.HasSuffix(text, "again\n") {
			t.Errorf("it ends with %q", text[max(0, len(text)-200):])
		}
	})
}

// While lines are read, each is there when its Write returns: a crash right after it hides nothing.
func TestLogThatIsReadIsWrittenAtOnce(t *testing.T) {
	var got bytes.Buffer
	p := NewPatient(&got)
	for _, line := range []string{"one\n", "two\n", strings.Repeat("x", 2*maxLine)} {
		if _, err := p.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if text := got.String(); !strings.HasSuffix(text, line[:min(len(line), maxLine)-1]+"\n") {
			t.Errorf("after %.5q: %d bytes", line, len(text))
		}
	}
	p.Close(time.Second)
	if got.Len() != 8+maxLine {
		t.Errorf("%d bytes", got.Len())
	}
}

// A stop does not wait for a reader either.
func TestStopDoesNotWaitForTheReaderOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		p := NewPatient(w)
		_, _ = p.Write([]byte("line\n")) // it never fails
		begun := time.Now()
		p.Close(time.Second)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("took %s", took)
		}
		if err := r.Close(); err != nil { // lets the writer go
			t.Fatal(err)
		}
	})
}
