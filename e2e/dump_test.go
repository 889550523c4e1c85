//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// kafkaTools is the class path of Kafka's own tools, from Maven's repository.
func kafkaTools(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("Kafka's own reader needs a JVM and Maven: %v", err)
		}
	}
	cache, err := servers.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(cache, "kafka-tools-4.1.0")
	if _, err := os.Stat(lib); err == nil {
		return filepath.Join(lib, "*")
	}
	fresh := lib + ".new"
	cmd := exec.CommandContext(t.Context(), "mvn", "-q", "-f", "testdata/kafka/pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+fresh)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mvn: %v\n%s", err, out)
	}
	if err := os.Rename(fresh, lib); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(lib, "*")
}

// dump runs Kafka's DumpLogSegments and returns what it printed.
func dump(t *testing.T, classPath string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", append([]string{"-cp", classPath, "kafka.tools.DumpLogSegments"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("DumpLogSegments %v: %v\n%s%s", args, err, out, errs.String())
	}
	return string(out)
}

var complaint = regexp.MustCompile(`(?i)isvalid: false|mismatch|out of order|corrupt|exception|should be|invalid`)

// TestKafkaReadsOurFiles gives local segments, their indexes and snapshots, and
// an object of the store, to Kafka's own reader.
func TestKafkaReadsOurFiles(t *testing.T) {
	tools := kafkaTools(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, objects := t.TempDir(), t.TempDir()
	b := run(t, cluster.Options{Kind: cluster.Subprocess, Binary: path, Dir: dir, Settings: scenario.Settings(), StoreURL: "file://" + objects})
	const topic, records = "dump", 20_000
	scenario.CreateTopic(t.Context(), t, b.Kafka(), topic, 1, "segment.bytes", "1048576")
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.GzipCompression(), kgo.Lz4Compression(), kgo.SnappyCompression()} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec))
		if err != nil {
			t.Fatal(err)
		}
		for n := range records {
			cl.Produce(t.Context(), &kgo.Record{Key: fmt.Append(nil, n), Value: fmt.Appendf(nil, "value %d of a record that is long enough to fill a segment", n)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	var remote []string
	for deadline := time.Now().Add(time.Minute); len(remote) == 0; {
		if remote, err = filepath.Glob(filepath.Join(objects, "*/topics/dump.*/0/segments/*.log")); err != nil || time.Now().After(deadline) {
			t.Fatalf("nothing was uploaded: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	check := func(args ...string) {
		t.Helper()
		out := dump(t, tools, args...)
		if found := complaint.FindString(strings.ReplaceAll(out, "isvalid: true", "")); found != "" {
			t.Errorf("DumpLogSegments %v says %q:\n%s", args, found, tail(out, 2000))
		}
	}
	local := filepath.Join(dir, topic+"-0")
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex", "*.snapshot"} {
		files, err := filepath.Glob(filepath.Join(local, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in %s: %v", pattern, local, err)
		}
		check("--deep-iteration", "--files", strings.Join(files, ","))
	}
	// Kafka's name of a segment is its base offset alone.
	object := filepath.Join(t.TempDir(), filepath.Base(remote[0])[:20]+".log")
	body, err := os.ReadFile(remote[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(object, body, 0o600); err != nil {
		t.Fatal(err)
	}
	check("--deep-iteration", "--print-data-log", "--files", object)
	out := dump(t, tools, "--deep-iteration", "--print-data-log", "--files", object)
	if !strings.Contains(out, "payload: value 0 of a record") {
		t.Errorf("Kafka's reader does not show the first record:\n%s", tail(out, 2000))
	}
}
