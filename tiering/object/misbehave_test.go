package object_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/e2e/servers"
)

// which picks the requests that a fault hits.
type which func(r *http.Request) bool

func query(r *http.Request, name string) bool { return r.URL.Query().Has(name) }

func gets(r *http.Request) bool {
	return r.Method == http.MethodGet && !lists(r) && !query(r, "location") && !query(r, "uploads")
}
func lists(r *http.Request) bool { return r.Method == http.MethodGet && query(r, "list-type") }
func heads(r *http.Request) bool { return r.Method == http.MethodHead }
func puts(r *http.Request) bool  { return r.Method == http.MethodPut && !query(r, "partNumber") }
func parts(r *http.Request) bool { return r.Method == http.MethodPut && query(r, "partNumber") }
func begins(r *http.Request) bool {
	return r.Method == http.MethodPost && query(r, "uploads")
}
func completes(r *http.Request) bool { return r.Method == http.MethodPost && query(r, "uploadId") }
func aborts(r *http.Request) bool    { return r.Method == http.MethodDelete && query(r, "uploadId") }
func deletes(r *http.Request) bool {
	return r.Method == http.MethodDelete && !query(r, "uploadId") || r.Method == http.MethodPost && query(r, "delete")
}
func anything(r *http.Request) bool { return !query(r, "location") }

// fault is what happens to the requests it hits: the first n, or all when n is 0.
type fault struct {
	of   which
	n    int64
	do   servers.Behaviour
	hits atomic.Int64
}

func (f *fault) behave(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if f.of(r) {
		if hit := f.hits.Add(1); f.n == 0 || hit <= f.n {
			f.do(w, r, next)
			return
		}
	}
	next.ServeHTTP(w, r)
}

// says answers without asking the server, as S3 says errors.
func says(status int, code string, headers ...string) servers.Behaviour {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>said by the test</Message><RequestId>1</RequestId></Error>`, code)
		}
	}
}

// changed passes the request on and lets change have a go at the answer.
func changed(change func(r *http.Request, h http.Header, body []byte) (status int, _ []byte)) servers.Behaviour {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		h := rec.Header()
		status, body := change(r, h, rec.Body.Bytes())
		if status == 0 {
			status = rec.Code
		}
		if r.Method != http.MethodHead {
			h.Set("Content-Length", strconv.Itoa(len(body)))
		}
		for k, v := range h {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

// reset drops the connection so that the client sees it reset.
func reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// lostAnswer lets the request take effect and the answer get lost.
func lostAnswer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(httptest.NewRecorder(), r)
	reset(w, r, nil)
}

// half sends the first half of the true answer and then does the rest.
func half(rest func(w http.ResponseWriter, r *http.Request)) servers.Behaviour {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		w.(http.Flusher).Flush()
		rest(w, r)
	}
}

func truncate(w http.ResponseWriter, r *http.Request) { reset(w, r, nil) }

// stall holds a request until its client has gone.
func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// otherRange sends the bytes before the ones that were asked for, and says so.
var otherRange = changed(func(r *http.Request, h http.Header, body []byte) (int, []byte) {
	var first, last int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
		return 0, body
	}
	_, total, _ := strings.Cut(h.Get("Content-Range"), "/")
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", first-1, last-1, total))
	return 0, append([]byte{^body[0]}, body[:len(body)-1]...)
})

// wholeObject ignores Range.
func wholeObject(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.Itoa(smallObject))
	_, _ = w.Write(bytesOf(path.Base(r.URL.Path), smallObject)) // the client goes away
}

// withoutChecksum takes every checksum out of an answer.
var withoutChecksum = changed(func(_ *http.Request, h http.Header, body []byte) (int, []byte) {
	h.Del("X-Amz-Checksum-Crc32c")
	return 0, body
})

// otherChecksum says another checksum, in the header and in the body.
var otherChecksum = changed(func(_ *http.Request, h http.Header, body []byte) (int, []byte) {
	if h.Get("X-Amz-Checksum-Crc32c") != "" {
		h.Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
	}
	if from, to := bytes.Index(body, []byte("<ChecksumCRC32C>")), bytes.Index(body, []byte("</ChecksumCRC32C>")); from >= 0 && to > from {
		body = append(append(bytes.Clone(body[:from]), "<ChecksumCRC32C>AAAAAA=="...), body[to:]...)
	}
	return 0, body
})
