package object_test

import (
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openURL(t *testing.T, rawURL string, c object.Credentials) object.Store {
	t.Helper()
	s, err := object.Open(t.Context(), rawURL, object.Options{Credentials: &c})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMemKeepsContract(t *testing.T) {
	testContract(t, subject{
		open:         func(*testing.T, string) object.Store { return object.NewMem() },
		headKnowsCRC: true,
	})
}

func TestDirKeepsContract(t *testing.T) {
	root := t.TempDir()
	testContract(t, subject{open: func(t *testing.T, folder string) object.Store {
		return openURL(t, "file://"+filepath.ToSlash(filepath.Join(root, folder)), object.Credentials{})
	}})
}

func TestS3DriverKeepsContractOnFakeServer(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("bkt"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	testContract(t, subject{open: func(t *testing.T, folder string) object.Store {
		// The fake compares no checksums, as some clones do not: the driver must.
		return openURL(t, "s3://bkt/"+folder+"?checksum=when_required&region=us-east-1&endpoint="+url.QueryEscape(srv.URL), object.Credentials{AccessKey: "a", SecretKey: "s"})
	}})
}

func TestDriversKeepContractOnMinIO(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "contract")
	t.Run("s3", func(t *testing.T) { testContract(t, onServer(srv, srv.S3URL)) })
	t.Run("minio", func(t *testing.T) { testContract(t, onServer(srv, srv.MinIOURL)) })
}

func TestS3DriverKeepsContractOnVersity(t *testing.T) {
	if testing.Short() {
		t.Skip("starts versitygw")
	}
	srv := servers.Versity(t)
	srv.Bucket(t, "contract")
	testContract(t, onServer(srv, srv.S3URL))
}

func onServer(srv *servers.S3Server, bucketURL func(string) string) subject {
	return subject{headKnowsCRC: true, open: func(t *testing.T, folder string) object.Store {
		return openURL(t, bucketURL("contract/"+folder), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
	}}
}
