package servers

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestServerKeepsPortAndDataOverStopAndStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	for name, run := range map[string]func(testing.TB) *S3Server{"minio": MinIO, "versity": Versity} {
		t.Run(name, func(t *testing.T) {
			s := run(t)
			s.Bucket(t, "kept")
			pid := s.PID()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if s.PID() != 0 {
				t.Error("a stopped server has a process")
			}
			addr := strings.TrimPrefix(s.Endpoint, "http://")
			if c, err := net.Dial("tcp", addr); err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
				if c != nil {
					_ = c.Close()
				}
				t.Fatalf("dial a stopped server: got %v, want connection refused", err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.PID() == pid || s.PID() == 0 {
				t.Errorf("process %d after a restart, was %d", s.PID(), pid)
			}
			s.Bucket(t, "kept") // exists already
		})
	}
}

func TestEtcdMembersMakeAClusterThatOutlivesOne(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	list := Etcd(t, 3)
	if err := list[0].Stop(); err != nil {
		t.Fatal(err)
	}
	store, err := kv.Dial(t.Context(), kv.DialOptions{Endpoints: strings.Split(ClientURLs(list), ",")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if n := store.MaxTxnOps(); n != 128 {
		t.Errorf("%d operations in a transaction, want etcd's default", n)
	}
	if err := list[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}
