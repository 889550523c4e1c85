package kv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

func TestInspectShowsMembersLeaderAndQuorum(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	o := DialOptions{Endpoints: c.clients()}
	h, err := Inspect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	leaders := 0
	for i, m := range h.Members {
		if m.Leader {
			leaders++
		}
		if m.Err != nil || m.Name != fmt.Sprint(i+1) || m.Version == "" || m.Quota != defaultQuotaBytes || m.Ahead != 0 || m.Learner {
			t.Errorf("%+v", m)
		}
	}
	if h.Quorum != nil || len(h.Members) != 3 || leaders != 1 || h.Cluster != c.running[0].Cluster() || len(h.Alarms) > 0 || h.Uncompacted != 0 {
		t.Errorf("%+v", h)
	}
	c.kill(1)
	c.kill(2)
	h, err = Inspect(t.Context(), o)
	if err != nil || h.Quorum == nil || len(h.Members) != 3 || h.Members[0].Err != nil || h.Members[1].Err == nil || h.Members[2].Err == nil {
		t.Errorf("without a majority: %v, %+v", err, h)
	}
	c.stop(0)
	if _, err := Inspect(t.Context(), o); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with nobody: %v, want ErrUnavailable and the reason", err)
	}
}

func TestInspectShowsAlarmsAndThatNobodyCompacts(t *testing.T) {
	t.Parallel()
	o, _ := startExternal(t, func(c *embed.Config) { c.QuotaBackendBytes = 16 << 20 })
	kv := dial(t, o)
	c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, TLS: o.TLS, Username: o.Username, Password: o.Password, Logger: quietZap()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, c)
	var last int64
	for last < manyRevisions {
		resp, err := c.Put(t.Context(), "k", "v")
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	h, err := Inspect(t.Context(), o)
	if err != nil || h.Uncompacted < manyRevisions {
		t.Errorf("%v, %d revisions kept, want at least %d", err, h.Uncompacted, manyRevisions)
	}
	if _, err := c.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("k", make([]byte, 512<<10), 0)}})
		if errors.Is(err, ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err = Inspect(t.Context(), o)
	if err != nil || h.Uncompacted != 0 || len(h.Alarms) == 0 || !strings.Contains(h.Alarms[0], "NOSPACE") {
		t.Errorf("%v, %+v, want a compacted store with an alarm", err, h)
	}
}

func TestPeersAreAskedWithoutBeingOneOfThem(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.kill(1)
	got, err := AskPeers(t.Context(), c.options[2])
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0].Cluster != c.running[0].Cluster() || got[0].Err != nil || got[1].Err == nil {
		t.Errorf("%+v, want the first one to answer and the second one not", got)
	}
}

func TestUserOfOneClusterNeedsNoMoreThanItsKeys(t *testing.T) {
	t.Parallel()
	o, _ := startExternal(t, nil)
	c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, TLS: o.TLS, Username: o.Username, Password: o.Password, Logger: quietZap()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, c)
	prefix := "/coldbrook/prod/"
	for _, step := range []func() error{
		func() error { _, err := c.RoleAdd(t.Context(), "prod"); return err },
		func() error {
			_, err := c.RoleGrantPermission(t.Context(), "prod", prefix, PrefixEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserAdd(t.Context(), "broker", "pw"); return err },
		func() error { _, err := c.UserGrantRole(t.Context(), "broker", "prod"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	o.Username, o.Password = "broker", "pw"
	kv := dial(t, o)
	lease, err := StartLease(t.Context(), kv, time.Second, discard)
	if err != nil {
		t.Fatal(err)
	}
	base := mustTxn(t, kv, Txn{Then: []Op{Put(prefix+"k", nil, lease.ID())}}).Revision
	w := watch(t, kv, t.Context(), WatchRequest{Key: prefix, End: PrefixEnd(prefix), Revision: base})
	defer w.stop()
	w.events(1, base)
	if err := lease.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("/coldbrook/other/k", nil, 0)}}); !errors.Is(err, ErrAccess) {
		t.Errorf("another cluster's key: got %v, want ErrAccess", err)
	}
}
