package kv

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEmbeddedKeepsItsDataAndSaysNothingOnAnOrdinaryDay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var created int64
	for run := range 3 {
		e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: dir, Logger: log}) // with fsync
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			created = put(t, e.KV(), "k", "v")
		}
		if kvs := mustRange(t, e.KV(), RangeRequest{Key: "k"}).KVs; len(kvs) != 1 || kvs[0].ModRevision != created {
			t.Errorf("run %d: got %+v, want revision %d", run, kvs, created)
		}
		closeKV(t, e)
		closeKV(t, e) // once more does no harm
		if _, err := os.Stat(filepath.Join(dir, "client.sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("run %d: the socket is left behind: %v", run, err)
		}
	}
	for line := range strings.Lines(logged.String()) {
		if !strings.Contains(line, "took too long") && !strings.Contains(line, "slow fdatasync") { // the machine has other work too
			t.Errorf("logged: %s", line)
		}
	}
}

func TestEmbeddedNeedsLittleDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, e)
	var total int64
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil || total > 16<<20 {
		t.Errorf("a new member takes %d bytes, want at most 16 MiB: %v", total, err)
	}
}

func TestSecondEtcdOnADirectoryIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, e)
	if second, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: dir, Unsafe: true}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
		if second != nil {
			closeKV(t, second)
		}
	}
	put(t, e.KV(), "still", "there")
}

func TestSocketOfALongPathLiesElsewhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(e.Endpoint(), "unix://")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Errorf("the endpoint %s does not answer: %v", e.Endpoint(), err)
	} else if err := conn.Close(); err != nil {
		t.Error(err)
	}
	closeKV(t, e)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestWaitReturnsWhenTheMemberStops(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t)
	done := make(chan error, 1)
	go func() { done <- e.Wait(t.Context()) }()
	e.etcd.Server.HardStop()
	if err := <-done; err == nil {
		t.Error("stopped without a reason")
	}
}

func TestClientOfAStoppedEtcdIsToldThatItIsUnavailable(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t)
	kv, err := Dial(t.Context(), DialOptions{Endpoints: []string{e.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, kv)
	w := watch(t, kv, t.Context(), WatchRequest{Key: "k", Revision: put(t, kv, "k", "v")})
	defer w.stop()
	w.events(1, 0)
	closeKV(t, e)
	if _, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("k", nil, 0)}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestDialNamesTheEndpointThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	start := time.Now()
	endpoint := "unix://" + filepath.Join(t.TempDir(), "nobody.sock")
	_, err := Dial(t.Context(), DialOptions{Endpoints: []string{endpoint}})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), endpoint) {
		t.Errorf("got %v, want ErrUnavailable that names %s", err, endpoint)
	}
	if took := time.Since(start); took > 2*defaultRequestTimeout {
		t.Errorf("took %s", took)
	}
	if _, err := Dial(t.Context(), DialOptions{}); err == nil {
		t.Error("dialed nobody")
	}
}
