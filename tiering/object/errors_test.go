package object_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// wantError checks the sentinel and that the message names everything an operator needs.
func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestErrorsNameWhatIsWrongOnMinIO(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "there")
	good := object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey}
	for driver, bucketURL := range map[string]func(string) string{"s3": srv.S3URL, "minio": srv.MinIOURL} {
		check := func(bucket string, c object.Credentials) error {
			return object.Check(t.Context(), openURL(t, bucketURL(bucket), c))
		}
		t.Run(driver+"/unknown access key", func(t *testing.T) {
			err := check("there", object.Credentials{AccessKey: "nobody", SecretKey: "x"})
			wantError(t, err, object.ErrAccess, `"there"`, srv.Endpoint, "access key", "_ACCESS_KEY")
		})
		t.Run(driver+"/wrong secret", func(t *testing.T) {
			err := check("there", object.Credentials{AccessKey: srv.AccessKey, SecretKey: "wrong-secret"})
			wantError(t, err, object.ErrAccess, `"there"`, srv.Endpoint, "secret key is wrong")
		})
		t.Run(driver+"/missing bucket", func(t *testing.T) {
			wantError(t, check("not-there", good), object.ErrNoBucket, `"not-there"`, srv.Endpoint, "create the bucket")
			s := openURL(t, bucketURL("not-there"), good)
			if _, err := s.Get(t.Context(), "k", 0, 1); !errors.Is(err, object.ErrNoBucket) {
				t.Errorf("get: %v", err)
			}
			for _, err := range s.List(t.Context(), "", "") {
				wantError(t, err, object.ErrNoBucket)
			}
		})
		t.Run(driver+"/bad bucket name", func(t *testing.T) {
			if err := check("No_Such-Bucket", good); err == nil || object.Retriable(err) || !strings.Contains(err.Error(), "No_Such-Bucket") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("stopped server", func(t *testing.T) {
		if err := srv.Stop(); err != nil {
			t.Fatal(err)
		}
		for _, bucketURL := range []func(string) string{srv.S3URL, srv.MinIOURL} {
			s := openURL(t, bucketURL("there"), good)
			err := object.Check(t.Context(), s)
			wantError(t, err, object.ErrUnavailable, `"there"`, srv.Endpoint, "nothing listens")
			if !object.Retriable(err) {
				t.Errorf("%v is not retriable", err)
			}
			if err := srv.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := object.Check(t.Context(), s); err != nil {
				t.Errorf("after the server came back: %v", err)
			}
			if err := srv.Stop(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestMissingCredentialsAreNamed(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for rawURL, variable := range map[string]string{
		"s3://bkt?region=us-east-1&endpoint=http%3A%2F%2F127.0.0.1%3A1": "AWS_ACCESS_KEY_ID",
		"minio://127.0.0.1:1/bkt?region=us-east-1":                      "MINIO_ROOT_USER",
	} {
		s, err := object.Open(t.Context(), rawURL, object.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = object.Check(t.Context(), s)
		wantError(t, err, object.ErrAccess, variable, `"bkt"`)
		if object.Retriable(err) {
			t.Errorf("%v is retriable", err)
		}
	}
}

func TestCredentialsComeFromEnvironment(t *testing.T) {
	var key atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key.Store(r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ rawURL, idVar, secretVar string }{
		{"s3://bkt?region=x&endpoint=" + url.QueryEscape(srv.URL), "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
		{"minio://" + u.Host + "/bkt?region=x", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"},
		{"minio://" + u.Host + "/bkt?region=x", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"},
		{"minio://" + u.Host + "/bkt?region=x", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Run(c.idVar, func(t *testing.T) {
			t.Setenv(c.idVar, "key-from-"+c.idVar)
			t.Setenv(c.secretVar, "secret")
			s, err := object.Open(t.Context(), c.rawURL, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, err = s.Get(t.Context(), "k", 0, 1)
			wantError(t, err, object.ErrAccess)
			if got, _ := key.Load().(string); !strings.Contains(got, "Credential=key-from-"+c.idVar+"/") {
				t.Errorf("request signed by %q", got)
			}
		})
	}
}

func TestURLsThatCannotBeMeantAreRefused(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	for rawURL, word := range map[string]string{
		"":                                       "scheme",
		"/just/a/path":                           "scheme",
		"gs://bucket":                            `"gs"`,
		"file://host/dir":                        "file:///",
		"file:///dir?sync=no":                    `"sync"`,
		"s3://b?region=x":                        "3 to 63",
		"s3://":                                  "bucket",
		"s3://bkt":                               "region",
		"s3://bkt?regoin=x":                      `"regoin"`,
		"s3://bkt?region=x&region=y":             "2 times",
		"s3://bkt?region=x&path_style=maybe":     "path_style",
		"s3://bkt?region=x&checksum=never":       "checksum",
		"s3://bkt?region=x&endpoint=ftp://x":     "endpoint",
		"s3://bkt/a/../c?region=x":               "..",
		"s3://key:secret@bkt?region=x":           "environment",
		"minio://127.0.0.1:9000":                 "bucket",
		"minio:///bkt":                           "host:port",
		"minio://127.0.0.1:9000/bkt?secure=yes!": "secure",
	} {
		s, err := object.Open(t.Context(), rawURL, object.Options{})
		if err == nil {
			_ = s.Close()
		}
		wantError(t, err, object.ErrInvalid, word)
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("%v shows the secret", err)
		}
	}
}

// A server that sends less than it announced, and then nothing.
func TestBodyThatBreaksOffIsRetriable(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Content-Range", "bytes 0-999/5000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 600))
	}))
	defer srv.Close()
	for _, s := range bothDrivers(t, srv.URL) {
		n, err := object.ReadFull(t.Context(), s, "k", 0, make([]byte, 1000))
		wantError(t, err, object.ErrUnavailable, "k", "400 bytes missing")
		if !object.Retriable(err) || n != 600 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func bothDrivers(t *testing.T, serverURL string) []object.Store {
	c := object.Credentials{AccessKey: "a", SecretKey: "s"}
	stores := []object.Store{
		openURL(t, "s3://bkt?region=x&endpoint="+url.QueryEscape(serverURL), c),
		openURL(t, "minio://"+strings.TrimPrefix(serverURL, "http://")+"/bkt?region=x", c),
	}
	t.Cleanup(func() {
		for _, s := range stores {
			_ = s.Close()
		}
	})
	return stores
}

// A server that ignores Range must not be believed: offsets would shift.
func TestServerThatIgnoresRangeIsRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = w.Write(make([]byte, 5000))
	}))
	defer srv.Close()
	for _, s := range bothDrivers(t, srv.URL) {
		if _, err := object.ReadFull(t.Context(), s, "k", 100, make([]byte, 1000)); err == nil {
			t.Error("the whole object passed for a range")
		}
	}
}

func TestStatusesMapToSentinels(t *testing.T) {
	for status, kind := range map[int]error{404: object.ErrNotFound, 403: object.ErrAccess, 401: object.ErrAccess, 412: object.ErrExists, 416: object.ErrShortBody, 429: object.ErrUnavailable, 500: object.ErrUnavailable, 503: object.ErrUnavailable, 301: object.ErrAccess} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			defer srv.Close()
			for _, s := range bothDrivers(t, srv.URL) {
				_, err := s.Head(t.Context(), "k")
				wantError(t, err, kind, "k", `"bkt"`)
				if object.Retriable(err) != (kind == object.ErrUnavailable) {
					t.Errorf("%v: retriable %v", err, object.Retriable(err))
				}
			}
		})
	}
}

// A server that accepts and says nothing: the caller's deadline is the caller's error.
func TestSilentServerEndsWithTheContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, s := range bothDrivers(t, "http://"+l.Addr().String()) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := s.Put(ctx, "k", object.Bytes([]byte("x")), object.PutOptions{})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || object.Retriable(err) {
			t.Errorf("got %v", err)
		}
	}
}

func TestDirErrorsNameTheDirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := object.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), "a/b", 0, 1)
	wantError(t, err, object.ErrNotFound, dir, "a/b")
	put(t, s, "a", nil)
	if _, err := s.Put(t.Context(), "a/b", object.Bytes(nil), object.PutOptions{}); err == nil {
		t.Error("an object became a folder")
	}
	if _, err := object.NewDir(dir + "/a"); err == nil {
		t.Error("a file passed for a directory")
	}
}
