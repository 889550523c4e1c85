package object

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// repeat says what a failed request needs before it may be sent again.
type repeat int

const (
	never   repeat = iota
	soon           // a fault of the moment
	slowly         // the store asks for less
	renewed        // other credentials
	clocked        // the store's time, which the client learned from the answer
	folder         // see failCode
	repeats        // how many there are
)

const (
	soonPause     = 50 * time.Millisecond // doubles
	slowPause     = 250 * time.Millisecond
	maxPause      = 5 * time.Second
	maxRetryAfter = 30 * time.Second
	folderPause   = 20 * time.Millisecond // grows
)

// patience is how often a request is sent at most, by what it fails of.
type patience [repeats]int

// ofRequests and ofParts: a part is worth more attempts, as all of its upload hangs on it.
var (
	ofRequests = patience{soon: 3, slowly: 5, renewed: 2, clocked: 2, folder: 3}
	ofParts    = patience{soon: 5, slowly: 8, renewed: 2, clocked: 2, folder: 1}
)

// request is what try sends.
type request struct {
	op, key  string
	patience patience
	slower   func() // when set, told each time the store asks for less
}

// try sends a request until it succeeds, fails for good or has failed too often, with growing and
// random pauses. It is the only place that repeats: the client libraries are told not to. What send
// leaves open (a body) belongs to its own ctx.
func (l *location) try(ctx context.Context, r request, send func(ctx context.Context) error) error {
	var failed patience
	for {
		creds := l.creds.generation()
		noted, last := noteAnswer(ctx)
		err := send(noted)
		if err == nil {
			return nil
		}
		e := l.explain(ctx, r.op, r.key, err, last.Load())
		if failed[e.again]++; failed[e.again] >= r.patience[e.again] {
			return e
		}
		if e.again == slowly && r.slower != nil {
			r.slower()
		}
		if e.again == renewed && !l.creds.renew(creds) {
			return e
		}
		if perr := pause(ctx, e.pauseBefore(failed[e.again])); perr != nil {
			return l.fail(r.op, r.key, fmt.Errorf("%w, after: %s", perr, e.Error()))
		}
	}
}

// pauseBefore is how long to wait before the n-th repetition.
func (e *Error) pauseBefore(n int) time.Duration {
	var d time.Duration
	switch e.again {
	case soon:
		d = soonPause << (n - 1)
	case slowly:
		d = max(min(slowPause<<(n-1), maxPause), e.after)
	case folder:
		d = folderPause * time.Duration(n)
	default:
		return 0
	}
	return d + rand.N(d/2+1) // spread, never earlier than asked for
}

// pause returns ctx's error when ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// explain is fail with what the answer's headers add.
func (l *location) explain(ctx context.Context, op, key string, err error, a *answer) *Error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) { // of the transport, not of the caller
		err = timeoutError{err.Error()}
	}
	var e *Error
	if !errors.As(l.fail(op, key, err), &e) {
		e = &Error{Op: op, Key: key, Store: l.String(), Err: err} // cannot be: fail returns nothing else
	}
	if a == nil || e.again == never && e.Kind != ErrAccess && e.Kind != ErrArchived {
		return e
	}
	own := *e
	own.after = a.retryAfter()
	if region := a.get("X-Amz-Bucket-Region"); region != "" && (e.redirected || a.status == http.StatusMovedPermanently) {
		own.Hint = "the bucket is in region " + region + ": set ?region=" + region
	}
	if e.again == clocked {
		if skew, ok := a.skew(); ok {
			own.Hint = fmt.Sprintf("%s: the server's is %v ahead", e.Hint, skew)
		}
		if !l.learnsTime {
			own.again = never
		}
	}
	return &own
}

// timeoutError is a deadline that was not the caller's.
type timeoutError struct{ text string }

func (e timeoutError) Error() string { return e.text }
