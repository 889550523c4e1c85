package object_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestAbandonedMultipartUploadsAreFoundAndAborted, on every store that has them.
func TestAbandonedMultipartUploadsAreFoundAndAborted(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		backend := s3mem.New()
		if err := backend.CreateBucket("bkt"); err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(gofakes3.New(backend).Server())
		t.Cleanup(srv.Close)
		u, _ := url.Parse(srv.URL)
		testUploads(t, u.Host, "bkt", object.Credentials{AccessKey: "a", SecretKey: "s"}, func(folder string) string {
			return "s3://bkt/" + folder + "?checksum=when_required&region=us-east-1&endpoint=" + url.QueryEscape(srv.URL)
		})
	})
	if testing.Short() {
		return
	}
	t.Run("minio", func(t *testing.T) {
		srv := servers.MinIO(t)
		srv.Bucket(t, "uploads")
		for name, bucketURL := range map[string]func(string) string{"s3": srv.S3URL, "minio": srv.MinIOURL} {
			t.Run(name, func(t *testing.T) {
				testUploads(t, strings.TrimPrefix(srv.Endpoint, "http://"), "uploads", object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey}, func(folder string) string {
					return bucketURL("uploads/" + name + folder)
				})
			})
		}
	})
	t.Run("versity", func(t *testing.T) {
		srv := servers.Versity(t)
		srv.Bucket(t, "uploads")
		testUploads(t, strings.TrimPrefix(srv.Endpoint, "http://"), "uploads", object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey}, func(folder string) string {
			return srv.S3URL("uploads/" + folder)
		})
	})
}

func testUploads(t *testing.T, addr, bucket string, c object.Credentials, bucketURL func(folder string) string) {
	raw, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := object.Open(t.Context(), bucketURL("mine"), object.Options{Credentials: &c})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	parsed, _ := url.Parse(bucketURL("mine"))
	folder := parsed.Path[1:]
	if parsed.Scheme == "minio" {
		folder = folder[len(bucket)+1:]
	}
	want := map[string]string{}
	for _, key := range []string{"topics/a/1.log", "topics/a/2.log", "topics/b/1.log", "other"} {
		id, err := minio.Core{Client: raw}.NewMultipartUpload(t.Context(), bucket, folder+"/"+key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want[key] = id
	}
	if _, err := (minio.Core{Client: raw}).NewMultipartUpload(t.Context(), bucket, "theirs/topics/a/1.log", minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	delete(want, "other")
	found := map[string]string{}
	for u, err := range store.Uploads(t.Context(), "topics/") {
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(u.Initiated); age < -time.Hour || age > time.Hour {
			t.Errorf("%s was begun at %v", u.Key, u.Initiated)
		}
		found[u.Key] = u.ID
		for range 2 { // what is gone is no error
			if err := store.Abort(t.Context(), u); err != nil {
				t.Errorf("abort %s: %v", u.Key, err)
			}
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %v, want %v", found, want)
	}
	for key, id := range want {
		if found[key] != id {
			t.Errorf("%s: upload %q, want %q", key, found[key], id)
		}
	}
	for u, err := range store.Uploads(t.Context(), "") {
		if err != nil || u.Key != "other" {
			t.Errorf("left: %+v, %v", u, err)
		}
	}
}
