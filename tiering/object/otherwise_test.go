package object_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// says is an oddity: the same answer to all requests of a kind.
func sayTo(of which, status int, contentType, body string) oddity {
	return func(_ *clone, w http.ResponseWriter, r *http.Request) bool {
		if !of(r) {
			return false
		}
		discard(r)
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, body)
		}
		return true
	}
}

func deletesMany(r *http.Request) bool { return query(r, "delete") }

// refuses lets DeleteObjects refuse keys: the n-th answer has the n-th set of codes, the last goes on.
func refuses(answers ...map[string]string) oddity {
	var mu sync.Mutex
	return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
		if !deletesMany(r) {
			return false
		}
		mu.Lock()
		codes := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		c.deleteMany(w, r, func(key string) string { return codes[key] })
		return true
	}
}

// TestDeleteSaysWhatIsLeft: after a Delete every key is gone, or the error is about it.
func TestDeleteSaysWhatIsLeft(t *testing.T) {
	const html = "<html><body>Please log in</body></html>"
	keys := []string{"a", "b", "busy", "locked"}
	for _, row := range []struct {
		name  string
		odd   func() oddity
		left  []string // which the error must name
		kind  error    // of the error, when it is one
		bulk  int      // requests for many; 0: not looked at
		twice bool
	}{
		{name: "all go", odd: nil, bulk: 1},
		{name: "one is refused", odd: func() oddity { return refuses(map[string]string{"locked": "AccessDenied"}) }, left: []string{"locked"}, kind: object.ErrAccess},
		{name: "one is refused and one busy at first", odd: func() oddity {
			return refuses(map[string]string{"locked": "AccessDenied", "busy": "InternalError"}, nil)
		}, left: []string{"locked"}, kind: object.ErrAccess},
		{name: "one is refused and one stays busy", odd: func() oddity { return refuses(map[string]string{"locked": "AccessDenied", "busy": "InternalError"}) }, left: []string{"busy", "locked"}, kind: object.ErrUnavailable},
		{name: "one is refused for a reason that clients pass over", odd: func() oddity {
			many, one := refuses(map[string]string{"locked": "InvalidArgument"}), sayTo(deletes, 403, "application/xml", "<Error><Code>AccessDenied</Code></Error>")
			return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
				return many(c, w, r) || keyOf(r) == "locked" && one(c, w, r)
			}
		}, left: []string{"locked"}},
		{name: "no word about one", odd: func() oddity { return refuses(map[string]string{"busy": "silence"}) }},
		{name: "no word about any", odd: func() oddity { return sayTo(deletesMany, 200, "application/xml", "<DeleteResult></DeleteResult>") }},
		{name: "another document", odd: func() oddity { return sayTo(deletesMany, 200, "application/xml", "<Other></Other>") }},
		{name: "nothing", odd: func() oddity { return sayTo(deletesMany, 200, "application/xml", "") }},
		{name: "a login page", odd: func() oddity { return sayTo(deletes, 200, "text/html; charset=utf-8", html) }, left: []string{"a"}, kind: object.ErrUnavailable},
		{name: "not implemented", odd: func() oddity {
			return sayTo(deletesMany, 501, "application/xml", "<Error><Code>NotImplemented</Code></Error>")
		}, bulk: 1, twice: true},
		{name: "not allowed", odd: func() oddity { return sayTo(deletesMany, 405, "", "") }, bulk: 1, twice: true},
		{name: "bad request", odd: func() oddity {
			return sayTo(deletesMany, 400, "application/xml", "<Error><Code>MissingContentLength</Code></Error>")
		}, bulk: 1, twice: true},
		{name: "no such page", odd: func() oddity {
			return sayTo(deletesMany, 404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>")
		}, bulk: 1, twice: true},
		{name: "access denied", odd: func() oddity {
			return sayTo(deletes, 403, "application/xml", "<Error><Code>AccessDenied</Code></Error>")
		}, left: []string{"a"}, kind: object.ErrAccess},
		{name: "away", odd: func() oddity {
			return sayTo(deletes, 500, "application/xml", "<Error><Code>InternalError</Code></Error>")
		}, left: []string{"a"}, kind: object.ErrUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, driver := range []string{"s3", "minio"} {
				t.Run(driver, func(t *testing.T) {
					t.Parallel()
					s, c := openClone(t, driver, nil)
					if row.odd != nil {
						c.odd = row.odd()
					}
					for i := range 2 {
						for _, key := range keys {
							c.objects[key] = []byte(key)
						}
						err := s.Delete(t.Context(), keys...)
						if (err == nil) != (len(row.left) == 0) || row.kind != nil && !errors.Is(err, row.kind) {
							t.Errorf("got %v, want %v", err, row.kind)
						}
						for _, key := range row.left {
							if err == nil || !strings.Contains(err.Error(), "delete "+key) {
								t.Errorf("the error does not name %s: %v", key, err)
							}
						}
						for _, key := range c.names("", "") {
							if err == nil || len(row.left) > 1 && !slices.Contains(row.left, key) {
								t.Errorf("%s is left", key)
							}
						}
						if n := c.count("POST delete"); row.bulk > 0 && n != row.bulk {
							t.Errorf("%d requests for many keys, want %d", n, row.bulk)
						}
						if i == 0 && !row.twice {
							return
						}
					}
				})
			}
		})
	}
}

// listed collects a list.
func listed(ctx context.Context, s object.Store, prefix, after string) (keys []string, err error) {
	for info, err := range s.List(ctx, prefix, after) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

// TestListIsWholeOrAnError: a list names every object once and in order, or it ends with an error; it always ends.
func TestListIsWholeOrAnError(t *testing.T) {
	all := []string{"p/1", "p/2", "p/3", "p/4", "p/5"}
	type page struct {
		names []string
		token string
	}
	byToken := func(pages map[string]page) oddity {
		return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
			if !lists(r) {
				return false
			}
			p := pages[r.URL.Query().Get("continuation-token")]
			c.list(w, p.names, p.token)
			return true
		}
	}
	once := func(status int, contentType, body string) oddity {
		answered := false
		say := sayTo(lists, status, contentType, body)
		return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
			if answered || !say(c, w, r) {
				return false
			}
			answered = true
			return true
		}
	}
	for _, row := range []struct {
		name  string
		odd   func() oddity
		want  error // nil: all of them
		words []string
	}{
		{"as it should be", func() oddity { return byToken(map[string]page{"": {all[:2], "x"}, "x": {all[2:], ""}}) }, nil, nil},
		{"pages overlap", func() oddity { return byToken(map[string]page{"": {all[:3], "x"}, "x": {all[1:], ""}}) }, nil, nil},
		{"a name comes twice", func() oddity {
			return byToken(map[string]page{"": {[]string{"p/1", "p/2", "p/2"}, "x"}, "x": {all[2:], ""}})
		}, nil, nil},
		{"names of others", func() oddity {
			return byToken(map[string]page{"": {[]string{"o/1", "p/1", "p/2"}, "x"}, "x": {[]string{"p/3", "p/4", "p/5", "q/1"}, ""}})
		}, nil, nil},
		{"names that cannot be ours", func() oddity {
			return byToken(map[string]page{"": {[]string{"p/", "p//1", "p/1", "p/2"}, "x"}, "x": {[]string{"p/2/", "p/3", "p/4", "p/5", "p/5/../6", "p/5\\6"}, ""}})
		}, nil, nil},
		{"an empty page in between", func() oddity {
			return byToken(map[string]page{"": {all[:2], "x"}, "x": {nil, "y"}, "y": {all[2:], ""}})
		}, nil, nil},
		{"the same token for ever", func() oddity { return byToken(map[string]page{"": {all[:2], "x"}, "x": {all[:2], "x"}}) }, object.ErrUnavailable, []string{"no end"}},
		{"empty pages for ever", func() oddity {
			return byToken(map[string]page{"": {nil, "x"}, "x": {nil, "y"}, "y": {nil, "x"}})
		}, object.ErrUnavailable, []string{"no end"}},
		{"no order", func() oddity { return byToken(map[string]page{"": {[]string{"p/1", "p/4", "p/2"}, ""}}) }, object.ErrUnsupported, []string{"order"}},
		{"a login page", func() oddity { return sayTo(lists, 200, "text/html", "<html></html>") }, object.ErrUnavailable, []string{"web page", "endpoint"}},
		{"a login page once", func() oddity { return once(200, "text/html", "<html></html>") }, nil, nil},
		{"nothing once", func() oddity { return once(200, "application/xml", "") }, nil, nil},
		{"cut short once", func() oddity {
			return once(200, "application/xml", "<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>p/1</Key>")
		}, nil, nil},
		{"moved to a login page", func() oddity { return sayTo(lists, 302, "text/html", "<html></html>") }, object.ErrUnavailable, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, driver := range []string{"s3", "minio"} {
				t.Run(driver, func(t *testing.T) {
					t.Parallel()
					s, c := openClone(t, driver, row.odd())
					for _, name := range all {
						c.objects[name] = []byte(name)
					}
					got, err := listed(t.Context(), s, "p/", "")
					if row.want != nil {
						wantError(t, err, row.want, row.words...)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(all, got); diff != "" {
						t.Error(diff)
					}
				})
			}
		})
	}
}

// TestListGoesOnBehindTheLastNameWithoutTokens: a store that says that more follows, and not how to ask for it.
func TestListGoesOnBehindTheLastNameWithoutTokens(t *testing.T) {
	s, c := openClone(t, "s3", func(c *clone, w http.ResponseWriter, r *http.Request) bool {
		if !lists(r) {
			return false
		}
		names := c.names("", r.URL.Query().Get("start-after"))
		fmt.Fprintf(w, "<ListBucketResult><IsTruncated>%t</IsTruncated>", len(names) > 2)
		for _, name := range names[:min(2, len(names))] {
			fmt.Fprintf(w, "<Contents><Key>%s</Key></Contents>", name)
		}
		fmt.Fprint(w, "</ListBucketResult>")
		return true
	})
	want := []string{"1", "2", "3", "4", "5"}
	for _, name := range want {
		c.objects[name] = nil
	}
	got, err := listed(t.Context(), s, "", "")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for info := range s.List(t.Context(), "", "") {
		if info.Modified.IsZero() {
			t.Errorf("%s, whose age is unknown, is as old as can be", info.Key)
		}
	}
}

// TestAnswersOfOthersAreNoAnswers: what a proxy or a front door says of an object is neither its presence, nor its
// absence, nor that it was stored.
func TestAnswersOfOthersAreNoAnswers(t *testing.T) {
	const html = "<html><body>502 bytes of something else</body></html>"
	get := func(ctx context.Context, s object.Store) error {
		_, err := object.ReadAll(ctx, s, "k", 1<<20)
		return err
	}
	head := func(ctx context.Context, s object.Store) error { _, err := s.Head(ctx, "k"); return err }
	put := func(ctx context.Context, s object.Store) error {
		_, err := s.Put(ctx, "new", object.Bytes([]byte("new")), object.PutOptions{})
		return err
	}
	deleteOne := func(ctx context.Context, s object.Store) error { return s.Delete(ctx, "k") }
	for _, row := range []struct {
		name string
		odd  oddity
		call func(ctx context.Context, s object.Store) error
		want error // nil: it works
	}{
		{"get: a login page", sayTo(gets, 200, "text/html", html), get, object.ErrUnavailable},
		{"get: a page of a front door that knows no such server", sayTo(gets, 404, "text/html", html), get, object.ErrUnavailable},
		{"get: not there", sayTo(gets, 404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>"), get, object.ErrNotFound},
		{"head: a login page", sayTo(heads, 200, "text/html", html), head, object.ErrUnavailable},
		{"head: a page of a front door that knows no such server", sayTo(heads, 404, "text/html", html), head, object.ErrUnavailable},
		{"head: no size", func(_ *clone, w http.ResponseWriter, r *http.Request) bool {
			if !heads(r) {
				return false
			}
			w.Header().Set("Transfer-Encoding", "chunked")
			w.Header().Set("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(200)
			return true
		}, head, object.ErrUnavailable},
		{"put: a login page", sayTo(puts, 200, "text/html", html), put, object.ErrUnavailable},
		{"put: good, and nothing stored", sayTo(puts, 200, "", ""), put, object.ErrUnavailable},
		{"put: stored without a word", func(c *clone, w http.ResponseWriter, r *http.Request) bool {
			if !puts(r) {
				return false
			}
			c.objects[keyOf(r)], _ = io.ReadAll(r.Body)
			return true
		}, put, nil},
		{"delete: a login page", sayTo(deletes, 200, "text/html", html), deleteOne, object.ErrUnavailable},
		{"delete: moved to a login page", sayTo(deletes, 302, "text/html", html), deleteOne, object.ErrUnavailable},
		{"a proxy wants a login", sayTo(gets, 407, "text/html", html), get, object.ErrAccess},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, driver := range []string{"s3", "minio"} {
				t.Run(driver, func(t *testing.T) {
					t.Parallel()
					s, c := openClone(t, driver, row.odd)
					c.objects["k"] = []byte("what is stored")
					err := row.call(t.Context(), s)
					if row.want == nil && err != nil || row.want != nil && !errors.Is(err, row.want) {
						t.Errorf("got %v, want %v", err, row.want)
					}
				})
			}
		})
	}
}
