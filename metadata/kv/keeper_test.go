package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

func small(t *testing.T, quota int64, look time.Duration) (*Embedded, *lockedBuffer) {
	t.Helper()
	said := &lockedBuffer{}
	e, err := StartEmbedded(t.Context(), EmbeddedOptions{
		Dir: t.TempDir(), Unsafe: true, QuotaBytes: quota, LookEvery: look, RequestTimeout: time.Minute,
		Logger: slog.New(slog.NewTextHandler(said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeKV(t, e) })
	return e, said
}

// noise does not become smaller by compression.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it never fails
	return b
}

// One revision may hold thousands of partitions: what counts is bytes, and they may be written in a minute.
func TestWritesOfManyTimesTheQuotaDoNotFillEtcd(t *testing.T) {
	t.Parallel()
	const quota, each, keys = 96 * mib, 16 << 10, 64
	e, _ := small(t, quota, 5*time.Millisecond)
	value := noise(each)
	var largest int64
	for written := int64(0); written < 2*quota; written += each * keys {
		var ops []Op
		for i := range keys {
			ops = append(ops, Put(fmt.Sprint("k", i), value, 0))
		}
		if _, err := e.KV().Txn(t.Context(), Txn{Then: ops}); err != nil {
			t.Fatalf("after %d MiB, size %+v: %v", written/mib, e.Size(), err)
		}
		largest = max(largest, e.Size().Bytes)
	}
	t.Logf("the file grew to %d MiB", largest/mib)
	if largest >= quota {
		t.Errorf("the file grew to %d MiB", largest/mib)
	}
	if _, _, err := e.KV().Grant(t.Context(), time.Second); err != nil {
		t.Errorf("a lease: %v", err)
	}
}

// A store that was filled all the same, by an older version or while its leader was away, heals by itself.
func TestEtcdThatReachedItsQuotaTakesWritesAgain(t *testing.T) {
	t.Parallel()
	const quota = 32 * mib
	e, said := small(t, quota, time.Hour) // nobody looks
	value := noise(mib)
	var err error
	for range 2 * quota / mib {
		if _, err = e.KV().Txn(t.Context(), Txn{Then: []Op{Put("k", value, 0)}}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("never full: %v, %+v", err, e.Size())
	}
	k := &keeper{e: e, size: e.Size, log: slog.New(slog.NewTextHandler(said, nil))}
	if len(k.full()) == 0 {
		t.Fatal("no alarm")
	}
	if err := k.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.KV().Txn(t.Context(), Txn{Then: []Op{Put("k", value, 0)}}); err != nil {
		t.Errorf("after the recovery: %v, %+v", err, e.Size())
	}
	if s := e.Size(); s.Bytes > quota/2 {
		t.Errorf("the file was not rewritten: %+v", s)
	}
	for _, want := range []string{"reached its quota", "takes writes again"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("not said: %s", want)
		}
	}
}

// What is really in use cannot be given back: it is said before writes stop.
func TestNearlyFullEtcdSaysSo(t *testing.T) {
	t.Parallel()
	e, said := small(t, 32*mib, time.Hour)
	k := &keeper{e: e, size: e.Size, log: slog.New(slog.NewTextHandler(said, nil))}
	k.size = func() Size { return Size{Bytes: 31 * mib, InUse: 26 * mib, Quota: 32 * mib} }
	for range 3 {
		if err := k.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(said.String(), "nearly full"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said)
	}
}

// Old revisions go by age, without anything pressing.
func TestRevisionsGoWithTime(t *testing.T) {
	k := &keeper{}
	size := Size{Bytes: 10 * mib, InUse: 10 * mib, Quota: 512 * mib}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	newest := map[int64]time.Time{} // when a revision was the newest
	for revision := int64(1); revision < 1000; revision++ {
		newest[revision] = now
		if to := k.due(size, revision, now); to > 0 {
			k.compacted = to
			if age := now.Sub(newest[to]); age < keepHistory || age > keepHistory+2*sampleEvery {
				t.Fatalf("revision %d goes after %s", to, age)
			}
		}
		now = now.Add(time.Second)
	}
	if k.compacted < 600 {
		t.Errorf("compacted to %d of 1000", k.compacted)
	}
	if len(k.past) > int(keepHistory/sampleEvery)+2 {
		t.Errorf("%d moments are kept", len(k.past))
	}
	if to := k.due(Size{InUse: 300 * mib, Quota: 512 * mib}, 1001, now); to != 1001 {
		t.Errorf("under pressure: %d", to)
	}
}

// Each member has a file of its own, and the leader sees to all of them, one after the other.
func TestFilesOfAllMembersAreRewritten(t *testing.T) {
	t.Parallel()
	const quota = 64 * mib
	value := noise(mib)
	cert := newCertificates(t)
	c := startCluster(t, 3, func(o *EmbeddedOptions) {
		o.QuotaBytes, o.LookEvery = quota, time.Hour
		o.CertFile, o.KeyFile, o.CAFile = cert.cert, cert.key, cert.ca
	})
	leader := c.leader()
	for slices.ContainsFunc(c.running, func(e *Embedded) bool { return e.Size().Bytes <= quota/fileShare }) {
		if _, err := c.kv(leader).Txn(t.Context(), Txn{Then: []Op{Put("k", value, 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	e := c.running[leader]
	k := &keeper{e: e, size: e.Size, log: slog.New(slog.NewTextHandler(c.logs[leader], nil))}
	var err error
	if k.tls, err = e.etcd.Config().ClientTLSInfo.ClientConfig(); err != nil {
		t.Fatal(err)
	}
	if err := k.compact(t.Context(), e.etcd.Server.KV().Rev()); err != nil {
		t.Fatal(err)
	}
	if err := k.rewrite(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for i, m := range c.running {
		if s := m.Size(); s.Bytes > quota/fileShare {
			t.Errorf("member %d: %+v", i+1, s)
		}
	}
	c.stop((leader + 1) % 3)
	if err := k.rewrite(t.Context(), false); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("with a member away: %v", err)
	}
}

// A store that is half full for months must not cost the broker memory for every ten seconds of it.
func TestKeeperRemembersNoMoreThanItsHistoryUnderPressure(t *testing.T) {
	size := Size{Bytes: 100 * mib, InUse: 60 * mib, Quota: 100 * mib}
	k := &keeper{}
	now := time.Now()
	for i := range int64(10_000) {
		now = now.Add(sampleEvery)
		if to := k.due(size, i, now); to != i {
			t.Fatalf("compacts to %d, want the newest, %d", to, i)
		}
	}
	if most := int(keepHistory/sampleEvery) + 2; len(k.past) > most {
		t.Errorf("%d moments are kept, want at most %d", len(k.past), most)
	}
}

// How full etcd is must be known while one of its members is away.
func TestSizeIsKnownWhileTheFirstEndpointIsAway(t *testing.T) {
	t.Parallel()
	e, _ := small(t, 64*mib, time.Hour)
	away := "unix://" + filepath.Join(t.TempDir(), "away.sock")
	k, err := Dial(t.Context(), DialOptions{Endpoints: []string{away, e.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, k)
	size, err := k.(Sizer).Size(t.Context())
	if err != nil || size.Quota != 64*mib || size.Bytes == 0 {
		t.Errorf("%+v, %v", size, err)
	}
}
