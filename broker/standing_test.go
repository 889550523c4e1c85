package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// A broker that etcd may have given up, or that cannot know, is nothing to send new clients to.
func TestBrokerIsNotReadyWithoutItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		etcd := kv.NewMem()
		store, err := metadata.Open(t.Context(), metadata.Options{KV: etcd.Client(func(context.Context, kv.Call) error {
			if away.Load() {
				return kv.ErrUnavailable
			}
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		b := &Broker{metadata: store}
		says := func(want string) {
			t.Helper()
			if got := fmt.Sprint(b.notReady()); want == "" && got != "[]" || !strings.Contains(got, want) {
				t.Errorf("not ready because of %s, want %q", got, want)
			}
		}
		says("starting or stopping")
		b.ready.Store(true)
		says("not registered yet")
		session, err := store.RegisterBroker(t.Context(), metadata.Registration{ID: 1, DirectoryID: "d", Incarnation: "i", LeaseTTL: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Abandon()
		b.session.Store(session)
		says("")
		time.Sleep(time.Minute) // virtual
		says("")
		away.Store(true)
		time.Sleep(2 * time.Second) // virtual: renewals may be late
		says("")
		time.Sleep(3 * time.Second) // virtual
		says("etcd has not renewed the lease for")
		away.Store(false)
		<-session.Done() // it ran out meanwhile
		says("lost: etcd ended the lease")
	})
}

// A release that took the data directory's name for a URL kept objects beside it: they are not given up in silence.
func TestObjectsOfAnEarlierReleaseAreNotLeftBehind(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a#b")
	check := func(want bool) {
		t.Helper()
		err := objectsElsewhere(dir, "cluster-id")
		if (err != nil) != want || want && !strings.Contains(err.Error(), filepath.Join(base, "a", "cluster-id")+" to "+filepath.Join(dir, "objects")) {
			t.Errorf("%v, want an error: %v", err, want)
		}
	}
	check(false)
	if err := os.MkdirAll(filepath.Join(base, "a", "other"), 0o755); err != nil {
		t.Fatal(err)
	}
	check(false)
	if err := os.MkdirAll(filepath.Join(base, "a", "cluster-id"), 0o755); err != nil {
		t.Fatal(err)
	}
	check(true)
	if err := os.MkdirAll(filepath.Join(dir, "objects", "cluster-id"), 0o755); err != nil {
		t.Fatal(err)
	}
	check(false)
	if err := objectsElsewhere(base, "a"); err != nil {
		t.Errorf("an ordinary name: %v", err)
	}
}

// Clients that connect without end leave logs and etcd their files.
func TestConnectionsLeaveFilesToOthers(t *testing.T) {
	for _, c := range []struct {
		set   int
		files int64
		want  int
	}{{2147483647, 1000, 750}, {10, 1000, 10}, {2147483647, 1 << 62, 2147483647}, {0, 1000, 0}} {
		if got := connectionLimit(c.set, c.files); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
