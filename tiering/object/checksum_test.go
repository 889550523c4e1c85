package object_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// checksumHeader returns what a request has of the headers that old stores do not know, or "".
func checksumHeader(r *http.Request) string {
	for name, values := range r.Header {
		switch name := strings.ToLower(name); {
		case strings.HasPrefix(name, "x-amz-checksum"), name == "x-amz-trailer", name == "x-amz-sdk-checksum-algorithm", name == "x-amz-decoded-content-length":
			return name
		case name == "content-encoding", name == "x-amz-content-sha256" && strings.HasPrefix(values[0], "STREAMING"):
			return name + ": " + values[0]
		}
	}
	if len(r.Trailer) > 0 {
		return "an HTTP trailer"
	}
	return ""
}

// TestChecksumsCanBeSwitchedOff: with ?checksum=when_required no request has anything to do with
// checksums but the Content-MD5 of a delete of many, multipart uploads and reads included, and damage
// that the caller's checksum shows is noticed all the same.
func TestChecksumsCanBeSwitchedOff(t *testing.T) {
	if testing.Short() {
		t.Skip("starts versitygw and MinIO")
	}
	for name, start := range map[string]func(testing.TB) *servers.S3Server{"versity": servers.Versity, "minio": servers.MinIO} {
		srv := start(t)
		srv.Bucket(t, "plain")
		for _, driver := range []string{"s3", "minio"} {
			t.Run(driver+" on "+name, func(t *testing.T) {
				proxy := servers.NewProxy(t, srv.Endpoint)
				proxy.Behave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if h := checksumHeader(r); h != "" {
						t.Errorf("%s %s has %s", r.Method, r.URL, h)
						says(501, "NotImplemented")(w, r, nil)
						return
					}
					next.ServeHTTP(w, r)
				})
				s := openURL(t, throughProxy(driver, proxy, "plain/"+driver)+"&checksum=when_required", object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
				defer s.Close()
				sub := subject{open: func(*testing.T, string) object.Store { return keepOpen{s} }}
				t.Run("large", func(t *testing.T) { testLarge(t, sub) })
				if err := s.Delete(t.Context(), "large", "other"); err != nil {
					t.Error(err)
				}
				t.Run("small", func(t *testing.T) { testRanges(t, sub) })
				if info := put(t, s, "one", []byte("x")); info.HasCRC {
					t.Errorf("%+v: nothing has confirmed the checksum", info)
				}
				if err := s.Delete(t.Context(), "one", "ranges", "empty"); err != nil {
					t.Error(err)
				}
				t.Run("wrong", func(t *testing.T) { testChecksum(t, sub) })
				for u, err := range s.Uploads(t.Context(), "") {
					t.Errorf("left: %+v, %v", u, err)
				}
			})
		}
	}
}

// keepOpen is a store that several tests use.
type keepOpen struct{ object.Store }

func (keepOpen) Close() error { return nil }

// TestEachPartCarriesItsChecksum, in a header and not in a trailer, and the whole has one that the
// store keeps.
func TestEachPartCarriesItsChecksum(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "sums")
	for _, driver := range []string{"s3", "minio"} {
		t.Run(driver, func(t *testing.T) {
			var bare, sums atomic.Int64
			proxy := servers.NewProxy(t, srv.Endpoint)
			proxy.Behave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if parts(r) || completes(r) || puts(r) {
					if r.Header.Get("X-Amz-Checksum-Crc32c") == "" || r.Header.Get("X-Amz-Trailer") != "" {
						bare.Add(1)
					}
					sums.Add(1)
				}
				next.ServeHTTP(w, r)
			})
			s := openURL(t, throughProxy(driver, proxy, "sums"), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
			defer s.Close()
			b := pattern(largeObject, 1)
			info := put(t, s, driver, b)
			head, err := s.Head(t.Context(), driver)
			if err != nil || !info.HasCRC || !head.HasCRC || head.CRC32C != castagnoli(b) {
				t.Errorf("put %+v, head %+v, %v", info, head, err)
			}
			if bare.Load() != 0 || sums.Load() != 4 {
				t.Errorf("%d of %d requests without a checksum", bare.Load(), sums.Load())
			}
		})
	}
}

// TestHeadWithoutChecksumSaysSo: a store that forgets the checksum must not be taken for one that
// confirms it.
func TestHeadWithoutChecksumSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "sums")
	for _, driver := range []string{"s3", "minio"} {
		proxy := servers.NewProxy(t, srv.Endpoint)
		proxy.Behave(withoutChecksum)
		s := openURL(t, throughProxy(driver, proxy, "sums"), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
		info := put(t, s, driver, []byte("x"))
		head, err := s.Head(t.Context(), driver)
		if err != nil || info.HasCRC || head.HasCRC || head.Size != 1 {
			t.Errorf("%s: put %+v, head %+v, %v", driver, info, head, err)
		}
		_ = s.Close()
	}
}

// TestListMayBeStale: what a list says is old, what a read says is true. GC and fsck rely on it.
func TestListMayBeStale(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "stale")
	for _, driver := range []string{"s3", "minio"} {
		t.Run(driver, func(t *testing.T) {
			var old atomic.Pointer[[]byte]
			proxy := servers.NewProxy(t, srv.Endpoint)
			proxy.Behave((&fault{of: lists, do: changed(func(_ *http.Request, _ http.Header, body []byte) (int, []byte) {
				fresh := bytes.Clone(body)
				old.CompareAndSwap(nil, &fresh)
				return 0, *old.Load()
			})}).behave)
			s := openURL(t, throughProxy(driver, proxy, "stale/"+driver), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
			defer s.Close()
			put(t, s, "deleted", []byte("x"))
			list(t, s, "", "")
			put(t, s, "new", []byte("y"))
			if err := s.Delete(t.Context(), "deleted"); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(list(t, s, "", ""), " "); got != "deleted" {
				t.Fatalf("the list is not stale: %s", got)
			}
			if err := getAll(t.Context(), s, "new", []byte("y")); err != nil {
				t.Error(err)
			}
			if _, err := s.Head(t.Context(), "deleted"); err == nil {
				t.Error("a deleted object is still described")
			}
			if err := s.Delete(context.WithoutCancel(t.Context()), "deleted"); err != nil {
				t.Errorf("delete of what is gone: %v", err)
			}
		})
	}
}
