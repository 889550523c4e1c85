package object

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestArchivedObjectIsAskedForAgainAfterAMinute(t *testing.T) {
	var a archive
	now := time.Now()
	a.remember("k", ErrArchived, now)
	if err := a.recall("k", now.Add(archiveMemory)); !errors.Is(err, ErrArchived) {
		t.Errorf("forgotten: %v", err)
	}
	if err := a.recall("k", now.Add(archiveMemory+1)); err != nil {
		t.Errorf("still remembered: %v", err)
	}
	for i := range archiveKeys + 10 {
		a.remember(string(rune(i)), ErrArchived, now)
	}
	if len(a.keys) > archiveKeys {
		t.Errorf("%d keys remembered", len(a.keys))
	}
}

func TestChecksumsOfPartsMakeTheChecksumOfTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, rng.IntN(5000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		var sum uint32
		for rest := b; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			sum = joinCRC(sum, crc32.Checksum(rest[:n], castagnoli), int64(n))
			rest = rest[n:]
		}
		if want := crc32.Checksum(b, castagnoli); sum != want {
			t.Fatalf("%d bytes: %08x, want %08x", len(b), sum, want)
		}
	}
}

func TestWindowHalvesOncePerRoundAndWidensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		enter := func() *place {
			p, err := w.enter(t.Context(), func() {})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		var all []*place
		for range partsInFlight {
			all = append(all, enter())
		}
		for _, p := range all { // all of them hear SlowDown
			p.slower()
		}
		if w.limit != partsInFlight/2 {
			t.Fatalf("limit %v after one round of SlowDown, want %d", w.limit, partsInFlight/2)
		}
		ctx, cancel := context.WithCancel(t.Context())
		entered := make(chan *place, 1)
		go func() { entered <- enter() }()
		gone := make(chan error, 1)
		go func() {
			_, err := w.enter(ctx, func() {})
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		for i, p := range all {
			synctest.Wait()
			if got := len(entered) == 1; got != (i > partsInFlight/2) {
				t.Fatalf("%d places left: entered %v", i, got)
			}
			p.leave(false)
		}
		(<-entered).leave(true)
		for range 40 {
			enter().leave(true)
		}
		if len(w.spare) != 0 {
			t.Errorf("%d buffers are kept though nothing is in flight", len(w.spare))
		}
		if w.limit != partsInFlight || w.busy != 0 || len(w.waiting) != 0 {
			t.Errorf("limit %v, %d busy, %d waiting", w.limit, w.busy, len(w.waiting))
		}
		for range 10 {
			p := enter()
			p.slower()
			p.leave(false)
		}
		if w.limit != 1 {
			t.Errorf("limit %v, want at least one part", w.limit)
		}
	})
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"7": 7 * time.Second, "99999999999999": maxRetryAfter, "4000": maxRetryAfter, "-1": 0, "soon": 0, "": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0, "Fri, 02 Jan 2027 03:04:00 GMT": maxRetryAfter,
	} {
		a := &answer{header: map[string][]string{"Retry-After": {v}}, at: now}
		if got := a.retryAfter(); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

// A transport may go on sending after an early answer: the buffer is another part's by then.
func TestDetachedPartIsNotReadAnyMore(t *testing.T) {
	var told int64
	b := newPartBody([]byte("0123456789"), func(n int64) { told += n })
	p := make([]byte, 4)
	if n, err := b.Read(p); n != 4 || err != nil || told != 4 {
		t.Fatalf("read %d, %v, told %d", n, err, told)
	}
	b.detach()
	if n, err := b.Read(p); n != 0 || err == nil {
		t.Errorf("read %d bytes after the end, %v", n, err)
	}
	if _, err := b.Seek(0, 0); err == nil {
		t.Error("sought after the end")
	}
}

func TestWhoWaitsForAPlaceIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow()
		var all []*place
		for range partsInFlight {
			p, err := w.enter(t.Context(), func() { t.Error("nobody waits") })
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		ticks := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			if p, err := w.enter(t.Context(), func() { ticks++ }); err == nil {
				p.leave(true)
			}
		}()
		time.Sleep(90*time.Second + time.Millisecond) // virtual
		for _, p := range all {
			p.leave(true)
		}
		<-done
		if ticks != 90 {
			t.Errorf("%d signs of life in 90 seconds", ticks)
		}
	})
}

// TestAnswerThatFallsSilentEnds: the headers and some bytes came, and nothing follows; nobody has a deadline.
func TestAnswerThatFallsSilentEnds(t *testing.T) {
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			_, _ = io.WriteString(w, "all")
			return
		}
		_, _ = io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	defer srv.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: observer{tr, 20 * time.Millisecond}}
	for path, want := range map[string]string{"/whole": "all", "/part": "some"} {
		resp, err := c.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var silent *fault
		if string(got) != want || errors.As(err, &silent) != (path == "/part") {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
	}
	<-gone
}

// lateBody has bytes in the moment in which it is ended, and nothing more.
type lateBody struct {
	ctx  context.Context
	late bool
}

func (b *lateBody) Read(p []byte) (int, error) {
	<-b.ctx.Done()
	if b.late {
		return 0, b.ctx.Err()
	}
	b.late = true
	return copy(p, "x"), nil
}

func (b *lateBody) Close() error { return nil }

// TestSilenceIsTheStoresAlsoForTheNextRead: an answer that is ended for its silence must not look as if its caller had
// given it up.
func TestSilenceIsTheStoresAlsoForTheNextRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &heardBody{ReadCloser: &lateBody{ctx: ctx}, cancel: cancel, silence: time.Minute}
		n, err := io.Copy(io.Discard, b)
		var wrong *fault
		if n != 1 || !errors.As(err, &wrong) || wrong.kind != ErrUnavailable {
			t.Errorf("%d bytes, then %v", n, err)
		}
	})
}
