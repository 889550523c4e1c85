package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/ports"
)

var update = flag.Bool("update", false, "write the golden files")

// command runs one command line and returns exit code, standard output and standard error.
func command(t *testing.T, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(stdin), out: &out, err: &errs, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := a.run(ctx, args)
	return code, out.String(), errs.String()
}

// golden compares with a file that -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, d)
	}
}

// The command line is an interface: a change of a name or a flag is seen in review.
func TestHelpOfEveryCommand(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		code, out, _ := command(t, "", append(path, "--help")...)
		if code != 0 {
			t.Errorf("%v --help: exit code %d", path, code)
		}
		golden(t, filepath.Join("help", strings.Join(append([]string{"coldbrook"}, path...), "-")+".txt"), out)
		if c.Short == "" {
			t.Errorf("%v has no description", path)
		}
		for _, sub := range c.Commands() {
			walk(sub, append(path[:len(path):len(path)], sub.Name()))
		}
	}
	walk(a.root(), nil)
}

func TestWrongCommandLineIsExitCode2(t *testing.T) {
	for _, line := range []string{
		"nonsense", "topic nonsense", "topic list extra", "topic create", "topic create a b", "topic list --nonsense", "topic list -o xml", "topic create a --partitions 0",
		"topic create a --config nonsense", "topic create a --config x=1 --config x=2", "topic alter a", "produce", "produce a --acks 2", "produce a --compression br", "produce a --header x",
		"produce a --partition -2", "consume", "consume a --from yesterday", "consume a --follow --to 5", "consume a --group g --partition 1", "consume a --format %", "consume a -o json --format x",
		"consume a --max -1", "group reset-offsets g --topic a", "group reset-offsets g --to-latest", "group reset-offsets g --topic a --to-latest --to-earliest",
		"group reset-offsets g --topic a --all-topics --to-latest", "group reset-offsets g --topic a:x --to-latest", "group reset-offsets g --topic a --to-datetime 5", "group describe",
		"tier ls", "tier status a b", "tier cost a b", "tier status --by-topic --wait", "config print extra", "config print --set nonsense", "config print --listen a:1 --set listeners=b:1", "version extra", "doctor extra", "serve extra",
	} {
		code, out, errs := command(t, "", strings.Fields(line)...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errs, "coldbrook: ") || !strings.Contains(errs, "--help`") {
			t.Errorf("%s: exit code %d, out %q, err %q", line, code, out, errs)
		}
	}
}

func TestWhatWentWrongIsExitCode1(t *testing.T) {
	nobody, err := ports.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"topic list -b " + nobody:              "cannot reach a broker at " + nobody,
		"tier status --http " + nobody:         "cannot reach a broker's HTTP at " + nobody,
		"config print --node-id x":             "flag --node-id: Invalid value x for configuration node.id",
		"config validate /does/not/exist":      "/does/not/exist",
		"config print --config /does/not/be":   "/does/not/be",
		"config print --set log.retention=5":   "unknown setting log.retention",
		"doctor --listen 0.0.0.0:1":            "--advertise",
		"consume a --partition 1 -b " + nobody: "cannot reach a broker",
	} {
		code, _, errs := command(t, "", strings.Fields(line)...)
		if code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %q", line, code, errs)
		}
	}
}

func TestConfigPrintShowsWhereValuesComeFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.properties")
	if err := os.WriteFile(file, []byte("node.id=3\netcd.endpoints=http://e:2379\netcd.username=u\netcd.password=hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "", "config", "print", "--changed", "--config", file, "--listen", "10.0.0.1:9092", "--set", "num.partitions=6")
	want := strings.ReplaceAll(`SETTING         VALUE          FROM
node.id         3              FILE:1
listeners       10.0.0.1:9092  flag --listen
num.partitions  6              flag --set num.partitions
etcd.endpoints  http://e:2379  FILE:2
etcd.username   u              FILE:3
etcd.password   (secret)       FILE:4
`, "FILE", file)
	if code != 0 || out != want {
		t.Errorf("%d %s\n%s", code, errs, cmp.Diff(want, out))
	}
	code, out, _ = command(t, "", "config", "print", "-o", "json", "--config", file)
	var rows []console.Setting
	if err := json.Unmarshal([]byte(out), &rows); code != 0 || err != nil || strings.Contains(out, "hunter2") || len(rows) < 50 {
		t.Errorf("%d %v %d rows", code, err, len(rows))
	}
	if code, _, errs := command(t, "", "config", "validate", file); code != 0 || errs != file+" is good\n" {
		t.Errorf("%d %q", code, errs)
	}
}

func TestConfigReferenceIsTheTable(t *testing.T) {
	code, out, _ := command(t, "", "config", "reference", "--topics")
	if code != 0 || !strings.Contains(out, "### retention.ms") || strings.Contains(out, "### node.id") {
		t.Errorf("%d %s", code, out)
	}
	code, out, _ = command(t, "", "config", "reference", "-o", "json")
	var rows []struct{ Name, Scope, Doc string }
	if err := json.Unmarshal([]byte(out), &rows); code != 0 || err != nil || len(rows) < 100 {
		t.Errorf("%d %v %d rows", code, err, len(rows))
	}
}

// fakeConsole serves what a broker's console serves, through the real one.
func fakeConsole(t *testing.T, o console.Options) string {
	t.Helper()
	s := httptest.NewServer(console.New(o))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestTierStatus(t *testing.T) {
	rows := []console.TierPartition{
		{Topic: "events", Partition: 0, LogStartOffset: 0, LocalLogStartOffset: 1000, HighestRemoteOffset: 999, HighWatermark: 1500, LogEndOffset: 1500, LocalBytes: 52_428_800, RemoteBytes: 1_610_612_736, RemoteSegments: 12, PendingSegments: 2, OldestUnuploadedAgeMs: 75_000},
		{Topic: "events", Partition: 1, HighestRemoteOffset: -1, LocalBytes: 17},
	}
	at := fakeConsole(t, console.Options{Tier: func(context.Context) ([]console.TierPartition, error) { return rows, nil }})
	code, out, _ := command(t, "", "tier", "status", "--http", at)
	want := `TOPIC   PART  START  LOCAL FROM  REMOTE TO   END   LOCAL   REMOTE  SEGMENTS  PENDING  OLDEST
events     0      0        1000        999  1500  50 MiB  1.5 GiB        12        2   1m15s
events     1      0           0          -     0    17 B      0 B         0        0       -
all        2                                      50 MiB  1.5 GiB        12        2
`
	if code != 0 || out != want {
		t.Errorf("%d\n%s", code, cmp.Diff(want, out))
	}
	code, out, _ = command(t, "", "tier", "status", "events", "-o", "json", "--http", at)
	var got []console.TierPartition
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || !cmp.Equal(got, rows) {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	if code, _, errs := command(t, "", "tier", "status", "nope", "--http", at); code != exitFailed || !strings.Contains(errs, `topic "nope": not found`) {
		t.Errorf("%d %s", code, errs)
	}
}

func TestTierStatusWaitsForUploads(t *testing.T) {
	pending := int64(3)
	at := fakeConsole(t, console.Options{Tier: func(context.Context) ([]console.TierPartition, error) {
		pending--
		return []console.TierPartition{{Topic: "a", PendingSegments: pending}}, nil
	}})
	code, out, _ := command(t, "", "tier", "status", "--wait", "-o", "json", "--http", at)
	if code != 0 || !strings.Contains(out, `"pending_segments": 0`) {
		t.Errorf("%d %s", code, out)
	}
}

// A partition with years of history has more segments than one answer holds.
func TestTierListReadsEveryPage(t *testing.T) {
	const segments = 2500
	at := fakeConsole(t, console.Options{
		Tier: func(context.Context) ([]console.TierPartition, error) {
			return []console.TierPartition{{Topic: "a", Partition: 4}, {Topic: "a", Partition: 5}}, nil
		},
		Segments: func(_ context.Context, q console.SegmentQuery) ([]console.TierSegment, error) {
			var out []console.TierSegment
			for n := (q.From + 9) / 10; n < segments && len(out) < q.Limit; n++ {
				out = append(out, console.TierSegment{BaseOffset: n * 10, LastOffset: n*10 + 9, Bytes: 2048, MaxTimestamp: 1000, Created: -1, Object: "x.log"})
			}
			return out, nil
		},
	})
	code, out, _ := command(t, "", "tier", "ls", "a", "-p", "5", "--http", at)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != 0 || len(lines) != segments+1 || !strings.Contains(lines[segments], "5  24990  24999  2.0 KiB  1970-01-01T00:00:01.000Z  -         x.log") {
		t.Errorf("%d, %d lines, last %q", code, len(lines), lines[len(lines)-1])
	}
}

func TestDoctorNamesWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	go func() {
		for {
			c, err := taken.Accept()
			if err != nil {
				return
			}
			_ = c.Close() // a program that is not Kafka
		}
	}()
	dir := t.TempDir()
	notDir := filepath.Join(dir, "file")
	if err := os.WriteFile(notDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "", "doctor", "-o", "json", "--listen", taken.Addr().String(), "--http", "", "--data-dir", notDir, "--store", "file://"+dir)
	var found []finding
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v in %s %s", err, out, errs)
	}
	status := map[string]finding{}
	for _, f := range found {
		status[f.Check] = f
	}
	if code != exitFailed || status["kafka address"].Status != "fail" || !strings.Contains(status["kafka address"].Detail, "in use by another program") ||
		status["disk"].Status != "fail" || !strings.Contains(status["disk"].Detail, "is not a directory") || status["object store"].Status != "ok" {
		t.Errorf("%d %s", code, out)
	}
	code, out, errs = command(t, "", "doctor", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "not", "there", "yet"))
	if code != exitOK || strings.Contains(out, "fail") || !strings.Contains(errs, "all checks passed") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "not")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the doctor left something behind: %v", err)
	}
	code, out, _ = command(t, "", "doctor", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", dir, "--cache-dir", notDir)
	if code != exitFailed || !strings.Contains(out, "choose another one with --cache-dir") {
		t.Errorf("%d %s", code, out)
	}
}
