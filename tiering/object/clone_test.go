package object_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// oddity answers what a clone does otherwise than S3, and reports whether it has.
type oddity func(c *clone, w http.ResponseWriter, r *http.Request) bool

// clone is a small server of S3's API that answers as S3 does, except where a test says otherwise: odd is asked first.
type clone struct {
	odd oddity

	mu      sync.Mutex
	objects map[string][]byte
	asked   []string // what was asked for: method and query
}

func xmlError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said by the test</Message></Error>", code)
}

func (c *clone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Method+" "+r.URL.RawQuery)
	if c.odd != nil && c.odd(c, w, r) {
		return
	}
	switch key := keyOf(r); {
	case r.Method == http.MethodPost && query(r, "delete"):
		c.deleteMany(w, r, func(string) string { return "" })
	case r.Method == http.MethodPut:
		b, _ := io.ReadAll(r.Body)
		if _, ok := c.objects[key]; ok && r.Header.Get("If-None-Match") == "*" {
			xmlError(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		c.objects[key] = b
		w.Header().Set("ETag", fmt.Sprintf(`"%08x"`, castagnoli(b)))
	case r.Method == http.MethodDelete:
		delete(c.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case lists(r):
		c.list(w, c.names(r.URL.Query().Get("prefix"), r.URL.Query().Get("start-after")), "")
	default:
		b, ok := c.objects[key]
		if !ok {
			xmlError(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("Content-Type", "binary/octet-stream")
		w.Header().Set("ETag", fmt.Sprintf(`"%08x"`, castagnoli(b)))
		http.ServeContent(w, r, "", time.Unix(1700000000, 0), bytes.NewReader(b))
	}
}

func keyOf(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/bucket/") }

// deleteMany answers DeleteObjects; refuse says with which code a key is not deleted, "silence" for no word about it.
func (c *clone) deleteMany(w http.ResponseWriter, r *http.Request, refuse func(key string) string) {
	b, _ := io.ReadAll(r.Body)
	var d struct {
		Object []struct{ Key string }
	}
	_ = xml.Unmarshal(b, &d)
	var out strings.Builder
	for _, o := range d.Object {
		switch code := refuse(o.Key); code {
		case "":
			delete(c.objects, o.Key)
			fmt.Fprintf(&out, "<Deleted><Key>%s</Key></Deleted>", o.Key)
		case "silence":
		default:
			fmt.Fprintf(&out, "<Error><Key>%s</Key><Code>%s</Code><Message>said by the test</Message></Error>", o.Key, code)
		}
	}
	fmt.Fprintf(w, "<DeleteResult>%s</DeleteResult>", out.String())
}

func (c *clone) names(prefix, after string) []string {
	var names []string
	for name := range c.objects {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// list answers ListObjectsV2 with these names; more follow when there is a token.
func (c *clone) list(w http.ResponseWriter, names []string, token string) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, "<ListBucketResult><Name>bucket</Name><IsTruncated>%t</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", token != "", token)
	for _, name := range names {
		fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>", name, len(c.objects[name]))
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func (c *clone) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.objects[key]
	return ok
}

func (c *clone) count(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, a := range c.asked {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	return n
}

// openClone starts a clone and a driver in front of it.
func openClone(t *testing.T, driver string, odd oddity) (object.Store, *clone) {
	t.Helper()
	c := &clone{odd: odd, objects: map[string][]byte{}}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	rawURL := "s3://bucket?region=us-east-1&endpoint=" + url.QueryEscape(srv.URL)
	if driver == "minio" {
		rawURL = "minio://" + strings.TrimPrefix(srv.URL, "http://") + "/bucket?region=us-east-1"
	}
	s := openURL(t, rawURL, object.Credentials{AccessKey: "a", SecretKey: "b"})
	t.Cleanup(func() { _ = s.Close() })
	return s, c
}

func conditionalPut(r *http.Request) bool {
	return r.Method == http.MethodPut && r.Header.Get("If-None-Match") != ""
}

func discard(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

// TestCheckNamesWhatAStoreLacks: what the store does otherwise, and what Check says of it.
func TestCheckNamesWhatAStoreLacks(t *testing.T) {
	refusesConditions := func(status int, code string) oddity {
		return func(_ *clone, w http.ResponseWriter, r *http.Request) bool {
			if !conditionalPut(r) {
				return false
			}
			discard(r)
			xmlError(w, status, code)
			return true
		}
	}
	seen := func(n int) func() bool { // says no n times
		var mu sync.Mutex
		return func() bool { mu.Lock(); defer mu.Unlock(); n--; return n < 0 }
	}
	for _, row := range []struct {
		name  string
		odd   func() oddity
		want  error
		words []string
	}{
		{name: "nothing", odd: func() oddity { return nil }},
		{"no conditional PUT: 501", func() oddity {
			return refusesConditions(501, "NotImplemented")
		}, object.ErrUnsupported, []string{"conditional PUT", "bucket"}},
		{"no conditional PUT: 400", func() oddity {
			return refusesConditions(400, "InvalidArgument")
		}, object.ErrUnsupported, []string{"conditional PUT", "InvalidArgument"}},
		{"no conditional PUT: 405", func() oddity {
			return refusesConditions(405, "")
		}, object.ErrUnsupported, []string{"conditional PUT"}},
		{"conditions are ignored", func() oddity {
			return func(_ *clone, _ http.ResponseWriter, r *http.Request) bool {
				r.Header.Del("If-None-Match")
				return false
			}
		}, object.ErrUnsupported, []string{"conditional PUT", "overwrote"}},
		{"a conflict is another status", func() oddity {
			return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
				_, ok := c.objects[keyOf(r)]
				if ok = ok && conditionalPut(r); ok {
					discard(r)
					xmlError(w, http.StatusConflict, "FileAlreadyExists")
				}
				return ok
			}
		}, nil, nil},
		{"no deletes of many", func() oddity {
			return func(_ *clone, w http.ResponseWriter, r *http.Request) bool {
				if !query(r, "delete") {
					return false
				}
				discard(r)
				xmlError(w, 501, "NotImplemented")
				return true
			}
		}, nil, nil},
		{"upper and lower case are one", func() oddity {
			return func(_ *clone, _ http.ResponseWriter, r *http.Request) bool {
				r.URL.Path = strings.ToLower(r.URL.Path)
				return false
			}
		}, object.ErrUnsupported, []string{"case"}},
		{"no order in lists", func() oddity {
			return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
				if !lists(r) {
					return false
				}
				names := c.names(r.URL.Query().Get("prefix"), "")
				slices.Reverse(names)
				c.list(w, names, "")
				return true
			}
		}, object.ErrUnsupported, []string{"order"}},
		{"lists and heads are late", func() oddity {
			list, head := seen(2), seen(1)
			return func(c *clone, w http.ResponseWriter, r *http.Request) bool {
				switch {
				case lists(r) && !list():
					c.list(w, nil, "")
				case heads(r) && !head():
					xmlError(w, 404, "NoSuchKey")
				default:
					return false
				}
				return true
			}
		}, nil, nil},
		{"no checksums", func() oddity {
			return func(_ *clone, w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Amz-Checksum-Crc32c") == "" {
					return false
				}
				discard(r)
				xmlError(w, 501, "NotImplemented")
				return true
			}
		}, object.ErrUnsupported, []string{"?checksum=when_required"}},
		{"no ranges", func() oddity {
			return func(_ *clone, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		}, object.ErrUnavailable, []string{"ignores ranges"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for _, driver := range []string{"s3", "minio"} {
				t.Run(driver, func(t *testing.T) {
					t.Parallel()
					s, c := openClone(t, driver, row.odd())
					err := object.Check(t.Context(), s)
					if row.want == nil && err != nil {
						t.Fatal(err)
					}
					if row.want != nil {
						wantError(t, err, row.want, row.words...)
					}
					if names := c.names("", ""); len(names) > 0 {
						t.Errorf("left: %v", names)
					}
				})
			}
		})
	}
}

// TestCheckKeepsToWhatTheStoreLacks: that the objects of the check cannot be deleted afterwards must not make a store
// that overwrites manifests one that is only away.
func TestCheckKeepsToWhatTheStoreLacks(t *testing.T) {
	s, _ := openClone(t, "s3", func(_ *clone, _ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("If-None-Match")
		return false
	})
	err := object.Check(t.Context(), object.WithFaults(s, func(_ context.Context, op object.Op) error {
		if op.Kind == object.OpDelete {
			return object.ErrUnavailable
		}
		return nil
	}))
	wantError(t, err, object.ErrUnsupported, "overwrote", object.ErrUnavailable.Error())
	if object.Retriable(err) {
		t.Errorf("%v may go away", err)
	}
}
