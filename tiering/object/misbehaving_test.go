package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	smallObject = 100_000
	largeObject = 16<<20 + 100_000 // three parts
)

// misbehaviour is one row of the table: what the store does, what the caller does, what it must see.
type misbehaviour struct {
	name string
	of   which
	n    int64 // how many of those requests; 0: all
	do   servers.Behaviour
	// local is the same fault for the stores without HTTP; the row is not theirs when nil.
	local func(ctx context.Context, op object.Op) error

	call     func(ctx context.Context, s object.Store, key string, b []byte) error
	writes   bool // it stores the object itself
	size     int
	patience time.Duration // of the caller; 0: a minute

	want      error // nil: it works in the end, with the right bytes
	retriable bool
	words     []string
	requests  int64 // at most so many of the kind; 0: not counted
	left      int   // multipart uploads that only GC can find
	absent    bool  // nothing may be stored
}

func putAll(ctx context.Context, s object.Store, key string, b []byte) error {
	_, err := s.Put(ctx, key, object.Bytes(b), object.PutOptions{CRC32C: castagnoli(b), HasCRC: true})
	return err
}

func putIfAbsent(ctx context.Context, s object.Store, key string, b []byte) error {
	_, err := s.Put(ctx, key, object.Bytes(b), object.PutOptions{CRC32C: castagnoli(b), HasCRC: true, IfAbsent: true})
	return err
}

// getAll and getPart fail when bytes come back that are not the right ones.
func getAll(ctx context.Context, s object.Store, key string, b []byte) error {
	got, err := object.ReadAll(ctx, s, key, 1<<30)
	if err == nil && !bytes.Equal(got, b) {
		err = errors.New("wrong bytes")
	}
	return err
}

func getPart(ctx context.Context, s object.Store, key string, b []byte) error {
	got := make([]byte, 1000)
	_, err := object.ReadFull(ctx, s, key, 5000, got)
	if err == nil && !bytes.Equal(got, b[5000:6000]) {
		err = errors.New("wrong bytes")
	}
	return err
}

func getTail(ctx context.Context, s object.Store, key string, b []byte) error {
	body, err := s.Get(ctx, key, 5000, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(got, b[5000:]) {
		err = errors.New("wrong bytes")
	}
	return err
}

func head(ctx context.Context, s object.Store, key string, b []byte) error {
	info, err := s.Head(ctx, key)
	if err == nil && (info.Size != int64(len(b)) || info.HasCRC && info.CRC32C != castagnoli(b)) {
		err = fmt.Errorf("wrong description: %+v", info)
	}
	return err
}

func listOne(ctx context.Context, s object.Store, key string, _ []byte) error {
	found := 0
	for _, err := range s.List(ctx, key, "") {
		if err != nil {
			return err
		}
		found++
	}
	if found != 1 {
		return fmt.Errorf("%d objects listed", found)
	}
	return nil
}

func deleteOne(ctx context.Context, s object.Store, key string, _ []byte) error {
	return s.Delete(ctx, key)
}

func deleteMany(ctx context.Context, s object.Store, key string, _ []byte) error {
	return s.Delete(ctx, key, key+".not-there")
}

func misbehaviours() []misbehaviour {
	slowDown := says(503, "SlowDown")
	later := says(503, "SlowDown", "Retry-After", "1")
	local := func(kind object.OpKind, after bool) func(context.Context, object.Op) error {
		return func(_ context.Context, op object.Op) error {
			if op.Kind == kind && op.After == after {
				return fmt.Errorf("the test says: %w", object.ErrUnavailable)
			}
			return nil
		}
	}
	return []misbehaviour{
		{name: "SlowDown/put", of: puts, n: 2, do: slowDown, call: putAll, writes: true, size: smallObject},
		{name: "SlowDown/put with Retry-After", of: puts, n: 1, do: later, call: putAll, writes: true, size: smallObject},
		{name: "SlowDown/get", of: gets, n: 2, do: slowDown, call: getPart, size: smallObject},
		{name: "SlowDown/head without a body", of: heads, n: 1, do: later, call: head, size: smallObject},
		{name: "SlowDown/list", of: lists, n: 2, do: slowDown, call: listOne, size: smallObject},
		{name: "SlowDown/delete", of: deletes, n: 1, do: slowDown, call: deleteOne, size: smallObject},
		{name: "SlowDown/delete of many", of: deletes, n: 1, do: slowDown, call: deleteMany, size: smallObject},
		{name: "SlowDown/for ever", of: gets, do: slowDown, local: local(object.OpGet, false), call: getPart, size: smallObject, want: object.ErrUnavailable, retriable: true, words: []string{"SlowDown"}, requests: 5},
		{name: "SlowDown/longer than the caller waits", of: gets, do: says(503, "SlowDown", "Retry-After", "20"), call: getPart, size: smallObject, patience: 300 * time.Millisecond, want: context.DeadlineExceeded, words: []string{"SlowDown"}, requests: 1},
		{name: "SlowDown/unnamed status", of: gets, n: 1, do: says(429, ""), call: getPart, size: smallObject},

		{name: "slow body/stalls", of: gets, do: half(stall), call: getPart, size: smallObject, patience: 300 * time.Millisecond, want: context.DeadlineExceeded, words: []string{"bytes missing"}, requests: 1,
			local: func(ctx context.Context, op object.Op) error {
				if op.Kind == object.OpRead {
					<-ctx.Done()
					return fmt.Errorf("bytes missing: %w", ctx.Err())
				}
				return nil
			}},
		{name: "slow body/no answer to an upload", of: parts, do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.Copy(io.Discard, r.Body)
			stall(w, r)
		}, call: putAll, writes: true, size: largeObject, patience: 700 * time.Millisecond, want: context.DeadlineExceeded, absent: true},
		{name: "slow body/upload not read", of: parts, do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) { stall(w, r) }, call: putAll, writes: true, size: largeObject, patience: 700 * time.Millisecond, want: context.DeadlineExceeded, absent: true},
		{name: "truncated body", of: gets, do: half(truncate), local: local(object.OpRead, false), call: getPart, size: smallObject, want: object.ErrUnavailable, retriable: true},

		{name: "wrong range/other bytes once", of: gets, n: 1, do: otherRange, call: getPart, size: smallObject},
		{name: "wrong range/other bytes", of: gets, do: otherRange, call: getPart, size: smallObject, want: object.ErrUnavailable, retriable: true, words: []string{"4999 to 5998"}, requests: 3},
		{name: "wrong range/whole object once", of: gets, n: 1, do: wholeObject, call: getPart, size: smallObject},
		{name: "wrong range/whole object", of: gets, do: wholeObject, call: getPart, size: smallObject, want: object.ErrUnavailable, retriable: true, words: []string{"ignores ranges"}},
		{name: "wrong range/whole object for a tail", of: gets, do: wholeObject, call: getTail, size: smallObject, want: object.ErrUnavailable, retriable: true, words: []string{"ignores ranges"}},
		{name: "wrong range/none to be had", of: gets, do: says(416, "InvalidRange"), call: getPart, size: smallObject, want: object.ErrShortBody},

		{name: "late/404 after put", of: gets, n: 1, do: says(404, "NoSuchKey"), call: getPart, size: smallObject, want: object.ErrNotFound, requests: 1,
			local: func(_ context.Context, op object.Op) error {
				if op.Kind == object.OpGet {
					return object.ErrNotFound
				}
				return nil
			}},
		{name: "late/head says 404", of: heads, n: 1, do: says(404, ""), call: head, size: smallObject, want: object.ErrNotFound, requests: 1},

		{name: "multipart/slow parts", of: parts, n: 3, do: slowDown, call: putAll, writes: true, size: largeObject},
		{name: "multipart/slow for longer than the caller waits", of: parts, do: slowDown, call: putAll, writes: true, size: largeObject, patience: time.Second, want: context.DeadlineExceeded, absent: true},
		{name: "multipart/slow begin and end", of: func(r *http.Request) bool { return begins(r) || completes(r) }, n: 1, do: slowDown, call: putIfAbsent, writes: true, size: largeObject},
		{name: "multipart/internal error of a part", of: parts, n: 4, do: says(500, "InternalError"), call: putAll, writes: true, size: largeObject},
		{name: "multipart/part refused", of: parts, do: says(403, "AccessDenied"), call: putAll, writes: true, size: largeObject, want: object.ErrAccess, absent: true},
		{name: "multipart/damaged on the way", of: parts, n: 1, do: says(400, "BadDigest"), call: putAll, writes: true, size: largeObject},
		{name: "multipart/error in a good answer", of: completes, n: 2, do: says(200, "InternalError"), call: putAll, writes: true, size: largeObject},
		{name: "multipart/error in every good answer", of: completes, do: says(200, "InternalError"), call: putAll, writes: true, size: largeObject, want: object.ErrUnavailable, retriable: true, words: []string{"InternalError"}, absent: true},
		{name: "multipart/given up by another", of: completes, do: says(404, "NoSuchUpload"), call: putAll, writes: true, size: largeObject, want: object.ErrUnavailable, retriable: true, absent: true},
		{name: "multipart/slow abort", of: func(r *http.Request) bool { return aborts(r) || parts(r) && r.URL.Query().Get("partNumber") == "3" }, n: 2, do: says(503, "SlowDown"), call: putAll, writes: true, size: largeObject, patience: 400 * time.Millisecond, want: context.DeadlineExceeded, absent: true},

		{name: "lost answer/put", of: puts, n: 1, do: lostAnswer, local: local(object.OpPut, true), call: putAll, writes: true, size: smallObject},
		{name: "lost answer/put that must be the first", of: puts, n: 1, do: lostAnswer, call: putIfAbsent, writes: true, size: smallObject, want: object.ErrExists},
		{name: "lost answer/put of what is there", of: puts, do: reset, call: putIfAbsent, size: smallObject, want: object.ErrExists, requests: 1},
		{name: "lost answer/part", of: parts, n: 2, do: lostAnswer, call: putAll, writes: true, size: largeObject},
		{name: "lost answer/end of the upload", of: completes, n: 1, do: lostAnswer, call: putAll, writes: true, size: largeObject},
		{name: "lost answer/begin of the upload", of: begins, n: 1, do: lostAnswer, call: putAll, writes: true, size: largeObject, left: 1},
		{name: "lost answer/delete", of: deletes, n: 1, do: lostAnswer, call: deleteOne, size: smallObject},
		{name: "lost answer/delete of many", of: deletes, n: 1, do: lostAnswer, call: deleteMany, size: smallObject},

		{name: "reset/get", of: gets, n: 2, do: reset, call: getAll, size: smallObject},
		{name: "reset/put", of: puts, n: 2, do: reset, call: putAll, writes: true, size: smallObject},
		{name: "reset/parts", of: parts, n: 3, do: reset, call: putAll, writes: true, size: largeObject},
		{name: "reset/always", of: anything, do: reset, call: getAll, size: smallObject, want: object.ErrUnavailable, retriable: true, words: []string{"no answer from"}, requests: 3},
		{name: "reset/in the middle of an upload", of: parts, n: 1, do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			reset(w, r, nil)
		}, call: putAll, writes: true, size: largeObject},
		{name: "early answer in the middle of an upload", of: parts, n: 2, do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			r.Body = http.NoBody
			says(503, "SlowDown", "Connection", "close")(w, r, nil)
		}, call: putAll, writes: true, size: largeObject},

		{name: "checksum/other in the answer to a put", of: puts, do: otherChecksum, call: putAll, writes: true, size: smallObject, want: object.ErrChecksum, requests: 1},
		{name: "checksum/other in the answer to a part", of: parts, do: otherChecksum, call: putAll, writes: true, size: largeObject, want: object.ErrChecksum, absent: true},
		{name: "checksum/other in the answer to the end", of: completes, do: otherChecksum, call: putAll, writes: true, size: largeObject, want: object.ErrChecksum},
		{name: "checksum/none anywhere", of: anything, do: withoutChecksum, call: head, size: smallObject},

		{name: "AccessDenied", of: gets, do: says(403, "AccessDenied"), call: getPart, size: smallObject, want: object.ErrAccess, words: []string{"may not get"}, requests: 1},
		{name: "NoSuchBucket", of: gets, do: says(404, "NoSuchBucket"), call: getPart, size: smallObject, want: object.ErrNoBucket, words: []string{"create the bucket"}, requests: 1},
		{name: "other region", of: gets, do: says(301, "PermanentRedirect", "X-Amz-Bucket-Region", "eu-north-7"), call: getPart, size: smallObject, want: object.ErrAccess, words: []string{"set ?region=eu-north-7"}, requests: 1},
		{name: "other region without a body", of: heads, do: says(301, "", "X-Amz-Bucket-Region", "eu-north-7"), call: head, size: smallObject, want: object.ErrAccess, words: []string{"set ?region=eu-north-7"}, requests: 1},
		{name: "expired credentials that nobody renews", of: gets, do: says(400, "ExpiredToken"), call: getPart, size: smallObject, want: object.ErrAccess, words: []string{"no longer valid"}, requests: 2},
	}
}

// TestStoresThatMisbehave: right bytes or a typed error, never wrong bytes; no goroutine and no
// multipart upload is left.
func TestStoresThatMisbehave(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "faults")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	direct := openURL(t, srv.S3URL("faults"), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
	defer direct.Close()
	t.Run("rows", func(t *testing.T) {
		for _, m := range misbehaviours() {
			for _, driver := range []string{"s3", "minio"} {
				t.Run(m.name+"/"+driver, func(t *testing.T) {
					t.Parallel()
					m.throughHTTP(t, driver, srv, direct)
				})
			}
			if m.local == nil {
				continue
			}
			t.Run(m.name+"/mem", func(t *testing.T) { m.inProcess(t, object.NewMem()) })
			t.Run(m.name+"/dir", func(t *testing.T) { m.inProcess(t, openURL(t, "file://"+t.TempDir(), object.Credentials{})) })
		}
	})
}

func (m misbehaviour) throughHTTP(t *testing.T, driver string, srv *servers.S3Server, direct object.Store) {
	key := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name())
	b := bytesOf(key, m.size)
	if !m.writes {
		put(t, direct, key, b)
	}
	proxy := servers.NewProxy(t, srv.Endpoint)
	f := &fault{of: m.of, n: m.n, do: m.do}
	proxy.Behave(f.behave)
	s := openURL(t, throughProxy(driver, proxy, "faults"), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
	m.check(t, s, key, b)
	if hits := f.hits.Load(); hits == 0 || m.requests > 0 && hits > m.requests {
		t.Errorf("%d requests, want 1 to %d", hits, m.requests)
	}
	_ = s.Close()
	proxy.Close()
	m.checkLeft(t, direct, key, b)
}

// inProcess runs a row over a store without HTTP, which nobody's driver repeats for.
func (m misbehaviour) inProcess(t *testing.T, inner object.Store) {
	b := bytesOf("k", m.size)
	if !m.writes {
		put(t, inner, "k", b)
	}
	if m.want == nil {
		m.want, m.retriable = object.ErrUnavailable, true
	}
	m.words = nil
	m.check(t, object.WithFaults(inner, m.local), "k", b)
	if got := get(t, inner, "k"); !bytes.Equal(got, b) {
		t.Error("other bytes are stored")
	}
}

// bytesOf is what the suite stores under a key.
func bytesOf(key string, n int) []byte { return pattern(n, uint64(len(key))) }

func throughProxy(driver string, p *servers.Proxy, bucket string) string {
	if driver == "s3" {
		return "s3://" + bucket + "?region=us-east-1&endpoint=" + url.QueryEscape(p.URL)
	}
	return "minio://" + strings.TrimPrefix(p.URL, "http://") + "/" + bucket + "?region=us-east-1"
}

func (m misbehaviour) check(t *testing.T, s object.Store, key string, b []byte) {
	t.Helper()
	patience := time.Minute
	if m.patience > 0 {
		patience = m.patience
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := m.call(ctx, s, key, b)
	switch {
	case m.want == nil && err != nil:
		t.Errorf("got %v", err)
	case m.want != nil:
		wantError(t, err, m.want, m.words...)
		if object.Retriable(err) != m.retriable {
			t.Errorf("%v: retriable %v", err, !m.retriable)
		}
	}
}

// checkLeft looks at the store itself.
func (m misbehaviour) checkLeft(t *testing.T, direct object.Store, key string, b []byte) {
	t.Helper()
	left := 0
	for u, err := range direct.Uploads(t.Context(), key) {
		if err != nil {
			t.Fatal(err)
		}
		left++
		if err := direct.Abort(t.Context(), u); err != nil {
			t.Error(err)
		}
	}
	if left != m.left {
		t.Errorf("%d multipart uploads left, want %d", left, m.left)
	}
	info, err := direct.Head(t.Context(), key)
	switch {
	case m.absent:
		if !errors.Is(err, object.ErrNotFound) {
			t.Errorf("an upload that failed left %+v, %v", info, err)
		}
	case err == nil && (info.Size != int64(len(b)) || info.CRC32C != castagnoli(b)):
		t.Errorf("stored %+v", info)
	case err != nil && !errors.Is(err, object.ErrNotFound):
		t.Error(err)
	case err != nil && m.want == nil && !strings.Contains(m.name, "delete"):
		t.Error("nothing is stored")
	}
}
