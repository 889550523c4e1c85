package object_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestArchivedObjectIsNamedAndNotAskedForAgain: a lifecycle rule moved a segment to a class that must
// be restored. Readers repeat what fails; the store is asked once a minute.
func TestArchivedObjectIsNamedAndNotAskedForAgain(t *testing.T) {
	for i, driver := range []string{"s3", "minio"} {
		t.Run(driver, func(t *testing.T) {
			var reads, heads atomic.Int64
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
				w.Header().Set("X-Amz-Storage-Class", "DEEP_ARCHIVE")
				w.Header().Set("Content-Length", "1")
				switch {
				case r.Method == http.MethodHead:
					heads.Add(1)
					w.Header().Set("X-Amz-Restore", `ongoing-request="true"`)
				default:
					reads.Add(1)
					w.Header().Del("Content-Length")
					says(403, "InvalidObjectState")(w, r, nil)
				}
			})
			srv := httptest.NewServer(handler)
			defer srv.Close()
			s := bothDrivers(t, srv.URL)[i]
			for range 10 {
				_, err := s.Get(t.Context(), "topics/t/0/1.log", 0, 1)
				wantError(t, err, object.ErrArchived, "topics/t/0/1.log", "restore the object", "DEEP_ARCHIVE", "a restore is under way")
				if object.Retriable(err) || errors.Is(err, object.ErrAccess) {
					t.Errorf("%v is taken for something else", err)
				}
			}
			if reads.Load() != 1 || heads.Load() != 1 {
				t.Errorf("the store was asked %d and %d times for ten reads", reads.Load(), heads.Load())
			}
			if _, err := s.Get(t.Context(), "topics/t/0/2.log", 0, 1); !errors.Is(err, object.ErrArchived) || reads.Load() != 2 {
				t.Errorf("another object: %v after %d requests", err, reads.Load())
			}
			if info, err := s.Head(t.Context(), "topics/t/0/1.log"); err != nil || info.Size != 1 {
				t.Errorf("head: %+v, %v", info, err)
			}
		})
	}
}
