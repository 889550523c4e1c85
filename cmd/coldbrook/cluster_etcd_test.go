package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A cluster's metadata is saved while it runs, and comes back from the file and from the directory.
func TestEtcdIsSavedAndBroughtBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "etcd.snapshot")
	kafka, _, _, _, stop := serveHere(t, "--data-dir", filepath.Join(dir, "data"))
	run := func(want int, says string, line ...string) {
		t.Helper()
		if code, out, errs := command(t, "", line...); code != want || !strings.Contains(out+errs, says) {
			t.Fatalf("%v: exit code %d, want %d: %s%s", line, code, want, out, errs)
		}
	}
	there := []string{"--data-dir", filepath.Join(dir, "data")}
	run(exitOK, "", "topic", "create", "kept", "-b", kafka)
	run(exitOK, "bytes", append([]string{"cluster", "etcd", "snapshot", file}, there...)...)
	run(exitFailed, "move its directory away", append([]string{"cluster", "etcd", "restore", file}, there...)...)
	run(exitFailed, "another process", append([]string{"cluster", "etcd", "force-new-cluster", "--yes"}, there...)...)
	run(exitOK, "", "topic", "create", "later", "-b", kafka)
	if code := stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	run(exitFailed, "etcd", append([]string{"cluster", "etcd", "snapshot", file + "2"}, there...)...)
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("a snapshot of nobody")
	}
	run(exitUsage, "cannot be taken back", append([]string{"cluster", "etcd", "force-new-cluster"}, there...)...)
	run(exitOK, "the only member", append([]string{"cluster", "etcd", "force-new-cluster", "--yes"}, there...)...)
	again, _, _, _, stopAgain := serveHere(t, there...)
	run(exitOK, "later", "topic", "list", "-b", again)
	stopAgain()
	// A copy of the broker's own files stays; only what etcd has is older.
	if err := os.Rename(filepath.Join(dir, "data", "etcd"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	run(exitOK, "has what was in", append([]string{"cluster", "etcd", "restore", file}, there...)...)
	third, _, _, _, _ := serveHere(t, there...)
	run(exitOK, "kept", "topic", "list", "-b", third)
	run(exitFailed, "etcdutl", "cluster", "etcd", "restore", file, "--etcd", "http://127.0.0.1:1")
}
