package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// binary is the broker's program: the one the Makefile built, or one built here.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("COLDBROOK_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "coldbrook-e2e-")
	if err != nil {
		return "", err
	}
	atExit = append(atExit, func(context.Context) error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, "coldbrook")
	cmd := exec.Command("go", "build", "-o", path, "../cmd/coldbrook")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// start starts a broker of a kind with a MinIO of its own behind it.
func start(t *testing.T, kind cluster.Kind, settings map[string]string) (*cluster.Broker, scenario.Store) {
	t.Helper()
	o := cluster.Options{Kind: kind, Dir: filepath.Join(t.TempDir(), "data"), Settings: settings}
	if kind == cluster.Container {
		return startContainer(t, o)
	}
	if kind == cluster.Subprocess {
		var err error
		if o.Binary, err = binary(); err != nil {
			t.Fatal(err)
		}
	}
	store := servers.MinIO(t)
	store.Bucket(t, "coldbrook")
	o.StoreURL, o.Env = store.MinIOURL("coldbrook"), store.Env()
	if kind == cluster.InProcess {
		// Credentials are read from this process's environment.
		for _, kv := range o.Env {
			setenv(t, kv)
		}
	}
	return run(t, o), store
}

func setenv(t *testing.T, kv string) {
	t.Helper()
	for i := range kv {
		if kv[i] == '=' {
			t.Setenv(kv[:i], kv[i+1:])
			return
		}
	}
}

func run(t *testing.T, o cluster.Options) *cluster.Broker {
	t.Helper()
	b, err := cluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Errorf("end broker: %v", err)
		}
		if t.Failed() {
			t.Logf("broker's log:\n%s", tail(b.Log(), 16<<10))
		}
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}

func corpus(t *testing.T, bytes int64) *scenario.Corpus {
	t.Helper()
	c, err := scenario.NewCorpus(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// each runs a scenario against every kind of broker.
func each(t *testing.T, settings map[string]string, scenario func(ctx context.Context, t *testing.T, b *cluster.Broker, s scenario.Store)) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			b, s := start(t, kind, settings)
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			scenario(ctx, t, b, s)
		})
	}
}

func TestMainJob(t *testing.T) {
	c := corpus(t, corpusBytes)
	each(t, scenario.Settings(), func(ctx context.Context, t *testing.T, b *cluster.Broker, _ scenario.Store) {
		scenario.MainJob(ctx, t, b, c, segmentBytes)
	})
}

func TestAckedRecordsSurviveKills(t *testing.T) {
	c := corpus(t, killBytes)
	each(t, scenario.Settings(), func(ctx context.Context, t *testing.T, b *cluster.Broker, _ scenario.Store) {
		scenario.Kills(ctx, t, b, c, kills, segmentBytes)
	})
}

func TestProducersDoNotNoticeThatTheStoreIsDown(t *testing.T) {
	each(t, scenario.Settings(), func(ctx context.Context, t *testing.T, b *cluster.Broker, s scenario.Store) {
		scenario.StoreDown(ctx, t, b, s, storeAway)
	})
}

func TestFullDiskHealsAndLosesNothing(t *testing.T) {
	t.Run(string(cluster.InProcess), func(t *testing.T) {
		b, _ := start(t, cluster.InProcess, scenario.Settings())
		b.SetCapacity(32 << 20)
		scenario.DiskFull(t.Context(), t, b, func() { b.SetCapacity(0) })
	})
	t.Run(string(cluster.Subprocess), func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
			t.Skipf("a disk of 96 MB can only be made by root who may mount: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		b := run(t, cluster.Options{Kind: cluster.Subprocess, Binary: path, Dir: filepath.Join(dir, "data"), Settings: scenario.Settings(),
			StoreURL: "file://" + t.TempDir()})
		scenario.DiskFull(t.Context(), t, b, func() {
			if err := os.Remove(ballast); err != nil {
				t.Error(err)
			}
		})
	})
}
