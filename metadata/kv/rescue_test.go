package kv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two of three machines are gone for good. What the third has is all there is, and it is enough.
func TestClusterGoesOnFromTheMemberThatIsLeft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	put(t, c.kv(0), "k", "v")
	if _, ok := get(t, c.kv(2), "k"); !ok {
		t.Fatal("not replicated")
	}
	revision := mustRange(t, c.kv(2), RangeRequest{Key: "k"}).Revision
	for i := range 3 {
		c.stop(i)
	}
	c.wipe(0)
	c.wipe(1)
	if err := ForceNewCluster(t.Context(), c.options[2]); err != nil {
		t.Fatal(err)
	}
	c.start(2)
	if r := mustRange(t, c.kv(2), RangeRequest{Key: "k"}); len(r.KVs) != 1 || r.Revision < revision {
		t.Errorf("%+v, revision %d before", r, revision)
	}
	c.start(0)
	c.start(1)
	if v, _ := get(t, c.kv(0), "k"); v != "v" {
		t.Errorf("a member that joined has %q", v)
	}
	c.stop(2) // any two are a majority again
	putSoon(t, c.kv(1), "more", "v")
	empty := c.options[0]
	empty.Dir = t.TempDir()
	if err := ForceNewCluster(t.Context(), empty); err == nil || !strings.Contains(err.Error(), "no data") {
		t.Errorf("of nothing: %v", err)
	}
	if err := ForceNewCluster(t.Context(), c.options[1]); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("of one that runs: %v", err)
	}
}

// A snapshot is taken of a member without majority, and makes a cluster inside brokers or, being etcd's own format,
// elsewhere.
func TestSnapshotBecomesACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	revision := put(t, c.kv(0), "k", "v")
	if _, ok := get(t, c.kv(2), "k"); !ok {
		t.Fatal("not replicated")
	}
	c.kill(0)
	c.kill(1)
	file := filepath.Join(t.TempDir(), "etcd.snapshot")
	size, err := SaveSnapshot(t.Context(), DialOptions{Endpoints: []string{c.running[2].Endpoint()}}, file)
	if info, statErr := os.Stat(file); err != nil || statErr != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Fatalf("%d bytes, %v, %v", size, err, info)
	}
	if err := RestoreSnapshot(c.options[2], file); err == nil || !strings.Contains(err.Error(), "move its directory away") {
		t.Errorf("over data: %v", err)
	}
	for i := range 3 {
		c.stop(i)
		c.wipe(i)
	}
	if err := RestoreSnapshot(c.options[1], file); err != nil {
		t.Fatal(err)
	}
	c.start(1)
	c.start(0)
	c.start(2)
	for i := range 3 {
		if kvs := mustRange(t, c.kv(i), RangeRequest{Key: "k"}).KVs; len(kvs) != 1 || kvs[0].ModRevision != revision {
			t.Errorf("member %d: %+v, want revision %d", i+1, kvs, revision)
		}
	}
	alone := EmbeddedOptions{Dir: filepath.Join(t.TempDir(), "etcd"), Unsafe: true}
	if err := RestoreSnapshot(alone, file); err != nil {
		t.Fatal(err)
	}
	e, err := StartEmbedded(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, e)
	if v, _ := get(t, e.KV(), "k"); v != "v" {
		t.Errorf("alone it has %q", v)
	}
	if err := os.WriteFile(file, []byte("no snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	alone.Dir = filepath.Join(t.TempDir(), "etcd")
	if err := RestoreSnapshot(alone, file); err == nil {
		t.Error("a damaged snapshot was restored")
	}
}

// get reads one key; the answer is as new as the cluster.
func get(t *testing.T, kv KV, key string) (value string, ok bool) {
	t.Helper()
	kvs := mustRange(t, kv, RangeRequest{Key: key}).KVs
	if len(kvs) != 1 {
		return "", false
	}
	return string(kvs[0].Value), true
}
