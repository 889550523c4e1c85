package object

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// answer is what the last HTTP answer to a request of a client library said beside its body. The
// libraries show less of it, each its own part.
type answer struct {
	status int
	header http.Header
	at     time.Time
}

type answerKey struct{}

// noteAnswer returns a context whose requests leave their answers in the returned place, which is
// that of an outer noteAnswer when there is one.
func noteAnswer(ctx context.Context) (context.Context, *atomic.Pointer[answer]) {
	if last, ok := ctx.Value(answerKey{}).(*atomic.Pointer[answer]); ok {
		last.Store(nil)
		return ctx, last
	}
	var last atomic.Pointer[answer]
	return context.WithValue(ctx, answerKey{}, &last), &last
}

// observer is the transport that does so, and that ends answers of which nothing more comes.
type observer struct {
	http.RoundTripper
	silence time.Duration // how long the next bytes of an answer may take
}

func (o observer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := turned(r.Context()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := o.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &heardBody{ReadCloser: resp.Body, cancel: cancel, silence: o.silence}
	if last, ok := r.Context().Value(answerKey{}).(*atomic.Pointer[answer]); ok {
		last.Store(&answer{status: resp.StatusCode, header: resp.Header, at: time.Now()})
	}
	if webPage(resp) {
		_ = resp.Body.Close() // not read
		return nil, &fault{kind: ErrUnavailable, again: soon, text: "the answer is a web page: " + resp.Status,
			hint: "is the endpoint an S3 API, and is there a proxy in between?"}
	}
	return resp, nil
}

// heardBody is an answer's body that ends with an error when it falls silent: not every caller has a deadline, and a
// page of a list that never ends would hold its caller for ever. The time that the caller takes does not count.
type heardBody struct {
	io.ReadCloser
	cancel  context.CancelFunc
	silence time.Duration
	silent  atomic.Bool // it was ended; the bytes of the same moment may still have come through
}

func (b *heardBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.silence, func() {
		b.silent.Store(true)
		b.cancel()
	})
	n, err := b.ReadCloser.Read(p)
	timer.Stop()
	if err != nil && err != io.EOF && b.silent.Load() {
		err = &fault{kind: ErrUnavailable, again: soon, text: fmt.Sprintf("the answer broke off: nothing more came for %v", b.silence)}
	}
	return n, err
}

func (b *heardBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// webPage says that somebody else than an object store answered: a proxy that wants a login, the front door of a
// server that is away. What it says of an object (there, not there, stored, deleted) is not so. Stores say in HTML
// at most that something went wrong, which stays what its status says.
func webPage(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "text/html" && kind != "application/xhtml+xml" {
		return false
	}
	return resp.StatusCode < 400 || resp.StatusCode == http.StatusNotFound
}

// answerOf is the answer noted in ctx, or nil.
func answerOf(ctx context.Context) *answer {
	if last, ok := ctx.Value(answerKey{}).(*atomic.Pointer[answer]); ok {
		return last.Load()
	}
	return nil
}

// get returns a header, also of no answer.
func (a *answer) get(name string) string {
	if a == nil {
		return ""
	}
	return a.header.Get(name)
}

// retryAfter is the pause that the store asked for, or 0.
func (a *answer) retryAfter() time.Duration {
	v := a.get("Retry-After")
	if seconds, err := strconv.Atoi(v); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 3600))*time.Second, maxRetryAfter)
	}
	if when, err := http.ParseTime(v); err == nil {
		return min(max(when.Sub(a.at), 0), maxRetryAfter)
	}
	return 0
}

// skew is how far the store's clock is ahead of ours, to a second.
func (a *answer) skew() (time.Duration, bool) {
	when, err := http.ParseTime(a.get("Date"))
	if err != nil {
		return 0, false
	}
	return when.Sub(a.at).Truncate(time.Second), true
}

// contentRange reads "bytes first-last/total"; total is -1 when the store does not know it.
func (a *answer) contentRange() (first, last, total int64, ok bool) {
	v, unit := strings.CutPrefix(a.get("Content-Range"), "bytes ")
	v, size, _ := strings.Cut(v, "/")
	from, to, _ := strings.Cut(v, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	total, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		total = -1
	}
	return first, last, total, unit && err1 == nil && err2 == nil
}
