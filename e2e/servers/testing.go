package servers

import (
	"context"
	"testing"
	"time"
)

// buildTimeout bounds the first build of a server on a slow machine.
const buildTimeout = 15 * time.Minute

// MinIO starts a MinIO server for a test, in the test's own directory, and stops it at the end.
func MinIO(t testing.TB) *S3Server {
	t.Helper()
	return start(t, func(ctx context.Context, dir string) (*S3Server, error) { return StartMinIO(ctx, dir) })
}

// Versity starts a versitygw server for a test, in the test's own directory, and stops it at the end.
func Versity(t testing.TB) *S3Server {
	t.Helper()
	return start(t, StartVersity)
}

// Etcd starts a new etcd cluster for a test, in the test's own directory, and
// stops it at the end.
func Etcd(t testing.TB, members int, flags ...string) []*EtcdServer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	list, err := StartEtcd(ctx, t.TempDir(), members, flags...)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		stopAtEnd(t, &s.Server)
	}
	return list
}

func start(t testing.TB, run func(context.Context, string) (*S3Server, error)) *S3Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	s, err := run(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, &s.Server)
	return s
}

func stopAtEnd(t testing.TB, s *Server) {
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop %s: %v", s.path, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.path, s.Log())
		}
	})
}

// Bucket creates a bucket for a test.
func (s *S3Server) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := s.CreateBucket(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}
