package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
)

// lines is a writer that tells of what it got.
type lines struct {
	mu   sync.Mutex
	b    bytes.Buffer
	grew chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.grew <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serveHere runs a broker until the test ends, or until stop, which returns its exit code.
func serveHere(t *testing.T, args ...string) (kafka, http string, out, errs *lines, stop func() int) {
	t.Helper()
	out, errs = &lines{grew: make(chan struct{}, 1)}, &lines{grew: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	a := &app{in: strings.NewReader(""), out: out, err: errs, getenv: func(string) string { return "" }}
	go func() {
		done <- a.run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...))
	}()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-done
	})
	t.Cleanup(func() { stop() })
	places := regexp.MustCompile(`Kafka +(\S+)\n  HTTP +http://(\S+)\n`)
	for {
		if m := places.FindStringSubmatch(out.String()); m != nil {
			return m[1], m[2], out, errs, stop
		}
		select {
		case <-out.grew:
		case code := <-done:
			done <- code
			t.Fatalf("serve ended with %d: %s", code, errs)
		case <-time.After(30 * time.Second):
			t.Fatalf("not ready: %s", errs)
		}
	}
}

// What a new user does in the first five minutes, with nothing configured.
func TestFirstFiveMinutes(t *testing.T) {
	dir := t.TempDir()
	kafka, http, out, errs, stop := serveHere(t, "--data-dir", dir, "--set", "group.initial.rebalance.delay.ms=0")
	for _, want := range []string{dir, "file://" + dir + "/objects", "etcd", "node 1", "topic create events", "-b " + kafka, "Ctrl-C"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the banner does not say %s:\n%s", want, out)
		}
	}
	run := func(stdin string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, stdin, append(args, "-b", kafka)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, errs)
		}
		return out
	}
	run("", "topic", "create", "events", "--partitions", "3", "--config", "segment.bytes=1048576")
	var in strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&in, "key%d:%s\n", i%10, strings.Repeat(fmt.Sprint(i, " "), 400))
	}
	run(in.String(), "produce", "events", "-K", ":")
	if got := run("", "consume", "events", "--format", `%k:%v\n`); len(got) != in.Len() || strings.Count(got, "\n") != 2000 {
		t.Errorf("read %d bytes, wrote %d", len(got), in.Len())
	}
	if got := run("", "consume", "events", "--group", "g"); strings.Count(got, "\n") != 2000 {
		t.Errorf("group read %d records", strings.Count(got, "\n"))
	}
	var groups []groupDescription
	if err := json.Unmarshal([]byte(run("", "group", "describe", "g", "-o", "json")), &groups); err != nil || groups[0].Lag != 0 || len(groups[0].Offsets) != 3 {
		t.Errorf("%v %+v", err, groups)
	}
	run("", "group", "reset-offsets", "g", "--topic", "events", "--to-earliest", "--execute")
	if got := run("", "consume", "events", "--group", "g"); strings.Count(got, "\n") != 2000 {
		t.Errorf("after the reset the group read %d records", strings.Count(got, "\n"))
	}
	var topics []topicDescription
	if err := json.Unmarshal([]byte(run("", "topic", "describe", "events", "-o", "json")), &topics); err != nil || topics[0].Configs["segment.bytes"] != "1048576" || len(topics[0].List) != 3 {
		t.Errorf("%v %+v", err, topics)
	}
	code, status, msg := command(t, "", "tier", "status", "events", "--wait", "-o", "json", "--http", http)
	var rows []console.TierPartition
	if err := json.Unmarshal([]byte(status), &rows); code != 0 || err != nil || len(rows) != 3 {
		t.Errorf("%d %v %s %s", code, err, status, msg)
	}
	run("", "topic", "delete", "events")
	if code := stop(); code != 0 || !strings.Contains(errs.String(), "stopped") {
		t.Errorf("Ctrl-C: exit code %d\n%s", code, errs)
	}
}

// What goes wrong is said in words that lead on, not as a code alone.
func TestMistakesAreExplained(t *testing.T) {
	dir, other, ssd := t.TempDir(), t.TempDir(), t.TempDir()
	kafka, http, _, _, _ := serveHere(t, "--data-dir", dir, "--cache-dir", ssd)
	for _, c := range []struct {
		line string
		want []string
	}{
		{"topic describe nope -b " + kafka, []string{"topic nope: there is no such topic", "topic list"}},
		{"topic alter nope --config retention.ms=1 -b " + kafka, []string{"alter topic nope: there is no such topic"}},
		{"topic delete nope -b " + kafka, []string{"delete topic nope: there is no such topic"}},
		{"consume nope -b " + kafka, []string{"offsets of nope: there is no such topic"}},
		{"topic create x --replication-factor 3 -b " + kafka, []string{"create topic x: INVALID_REPLICATION_FACTOR: ", "replication factor 3, 1 brokers"}},
		{"topic create x --config retentoin.ms=1 -b " + kafka, []string{"create topic x: INVALID_CONFIG: Unknown topic config name: retentoin.ms"}},
		{"tier status nope --http " + http, []string{`topic "nope": not found`}},
		{"topic list -b " + http, []string{"cannot reach a broker at " + http, "HTTP"}},
		{"serve --data-dir " + other + " --http 127.0.0.1:0 --listen " + kafka, []string{kafka + ": bind: address already in use", "--listen"}},
		{"serve --data-dir " + other + " --listen 127.0.0.1:0 --http " + http, []string{"http.listen", http + ": bind: address already in use", "--http"}},
		{"serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --data-dir " + dir, []string{dir, "a broker runs there already", "--data-dir"}},
		{"serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --data-dir " + other + " --cache-dir " + ssd, []string{"remote.cache.dir", ssd, "a broker runs there already", "--cache-dir"}},
		{"serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --data-dir " + other + " --cache-dir /dev/null", []string{"remote.cache.dir", "/dev/null", "not a directory"}},
	} {
		code, out, errs := command(t, "", strings.Fields(c.line)...)
		if code != exitFailed || out != "" {
			t.Errorf("%s: exit code %d, out %q", c.line, code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: does not say %q: %s", c.line, want, errs)
			}
		}
	}
	if code, _, errs := command(t, "one\n", "produce", "bad name", "-b", kafka); code != exitFailed || strings.Contains(errs, "produced") {
		t.Errorf("produce to an impossible topic: exit code %d, %s", code, errs)
	}
}
