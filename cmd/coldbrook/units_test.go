package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestPositions(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]position{
		"beginning": {kind: atBeginning}, "earliest": {kind: atBeginning}, "end": {kind: atEnd}, "latest": {kind: atEnd}, "0": {kind: atOffset}, "42": {kind: atOffset, offset: 42},
		"2026-11-22T10:00:00Z": {kind: atTime, at: now.Add(-2 * time.Hour)}, "2026-11-22T11:00:00+01:00": {kind: atTime, at: now.Add(-2 * time.Hour)}, "-90m": {kind: atTime, at: now.Add(-90 * time.Minute)},
	} {
		got, err := parsePosition("from", in, now)
		if err != nil || got.kind != want.kind || got.offset != want.offset || !got.at.Equal(want.at) {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-5", "90m", "tomorrow", "1e3"} {
		var usage usageError
		if _, err := parsePosition("from", in, now); !errors.As(err, &usage) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestPeopleReadSizesAndTimes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10240: "10 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 1<<63 - 1: "8192 PiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "-", 0: "0s", 1500 * time.Nanosecond: "2µs", 42 * time.Millisecond: "42ms", 1500 * time.Millisecond: "1.5s", time.Minute: "1m", 75 * time.Second: "1m15s",
		3 * time.Hour: "3h", 3*time.Hour + 5*time.Minute: "3h5m", 49 * time.Hour: "2d1h", 72 * time.Hour: "3d", 10 * time.Second: "10s", 20 * time.Minute: "20m", 100 * time.Minute: "1h40m", 80 * time.Second: "1m20s", 90 * time.Hour: "3d18h", time.Hour: "1h", 20 * time.Hour: "20h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 replicas", 1: "1 replica", 2: "2 replicas"} {
		if got := count(n, "replica"); got != want {
			t.Errorf("count(%d) = %q", n, got)
		}
	}
}

func TestTableKeepsTerminalsSafe(t *testing.T) {
	tab := newTable("NAME", "<N")
	tab.add("größe", 5)
	tab.add("\x1b[31mred\u009b", 12345)
	var out bytes.Buffer
	if err := tab.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME                   N\ngröße                  5\n\\x1b[31mred\\u009b  12345\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

func TestProgressLine(t *testing.T) {
	p := &progress{what: "producing", total: 1000, show: size}
	if got, want := p.line(250, 5*time.Second), "producing [######..................]  25%  250 B of 1000 B  50 B/s  15s left"; got != want {
		t.Errorf("%q\n%q", got, want)
	}
	p.total = 0
	if got, want := p.line(250, 5*time.Second), "producing 250 B  50 B/s  5s"; got != want {
		t.Errorf("%q\n%q", got, want)
	}
	p.at(1) // no terminal: draws nothing, and must not fail
	p.done()
}

func TestLinesBecomeRecords(t *testing.T) {
	null := []byte(nil)
	for _, c := range []struct {
		o    produceOptions
		line string
		want kgo.Record
		bad  string
	}{
		{produceOptions{}, "a:b", kgo.Record{Value: []byte("a:b")}, ""},
		{produceOptions{}, "", kgo.Record{Value: []byte{}}, ""},
		{produceOptions{nullValue: true}, "", kgo.Record{Value: null}, ""},
		{produceOptions{}, "dos\r", kgo.Record{Value: []byte("dos\r")}, ""},
		{produceOptions{keySeparator: ":"}, "a:b:c", kgo.Record{Key: []byte("a"), Value: []byte("b:c")}, ""},
		{produceOptions{keySeparator: `\t`}, "a\tb", kgo.Record{Key: []byte("a"), Value: []byte("b")}, ""},
		{produceOptions{keySeparator: ":"}, ":b", kgo.Record{Key: []byte{}, Value: []byte("b")}, ""},
		{produceOptions{keySeparator: ":", nullKey: true}, ":b", kgo.Record{Value: []byte("b")}, ""},
		{produceOptions{keySeparator: ":", nullValue: true}, "a:", kgo.Record{Key: []byte("a"), Value: null}, ""},
		{produceOptions{keySeparator: ":"}, "ab", kgo.Record{}, `no key separator ":"`},
		{produceOptions{headers: []string{"x=1=2"}}, "v", kgo.Record{Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "x", Value: []byte("1=2")}}}, ""},
		{produceOptions{headers: []string{"x=1"}, headerSeparator: "|", keySeparator: ":"}, "y:2,z:|k:v", kgo.Record{Key: []byte("k"), Value: []byte("v"),
			Headers: []kgo.RecordHeader{{Key: "x", Value: []byte("1")}, {Key: "y", Value: []byte("2")}, {Key: "z", Value: []byte{}}}}, ""},
		{produceOptions{headerSeparator: "|"}, "|v", kgo.Record{Value: []byte("v")}, ""},
		{produceOptions{headerSeparator: "|"}, "y|v", kgo.Record{}, `header "y": want name:value`},
		{produceOptions{headerSeparator: "|"}, "v", kgo.Record{}, "no header separator"},
	} {
		c.o.acks, c.o.compression, c.o.partition = "all", "none", -1
		_, parse, err := c.o.resolve()
		if err != nil {
			t.Fatal(err)
		}
		r, err := parse([]byte(c.line))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v", c.line, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.line, err)
			continue
		}
		same := bytes.Equal(r.Key, c.want.Key) && (r.Key == nil) == (c.want.Key == nil) && bytes.Equal(r.Value, c.want.Value) && (r.Value == nil) == (c.want.Value == nil)
		if !same || !cmp.Equal(len(r.Headers), len(c.want.Headers)) {
			t.Errorf("%+v %q: %+v", c.o, c.line, r)
		}
		for i, h := range r.Headers {
			if h.Key != c.want.Headers[i].Key || !bytes.Equal(h.Value, c.want.Headers[i].Value) {
				t.Errorf("%q: header %+v", c.line, h)
			}
		}
	}
}

func TestLongLinesAreBounded(t *testing.T) {
	in := bufio.NewReaderSize(strings.NewReader("ab\n"+strings.Repeat("x", 5000)+"\nlast"), 16)
	for _, want := range []int{2, 5000, 4} {
		line, err := readLine(in, 5000)
		if len(line) != want || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, %v; want %d", len(line), err, want)
		}
	}
	if _, err := readLine(bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 5000)), 16), 100); err == nil || !strings.Contains(err.Error(), "--max-line") {
		t.Errorf("err = %v", err)
	}
}

func TestRecordsAsJSON(t *testing.T) {
	a := &app{output: "json"}
	print, err := a.recordPrinter("")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for _, r := range []*kgo.Record{
		{Topic: "a", Partition: 1, Offset: 2, Timestamp: time.UnixMilli(3), Key: []byte("k"), Value: []byte("<v>"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{0xff}}}},
		{Topic: "a", Timestamp: time.UnixMilli(0), Key: []byte{0xfe}},
	} {
		if err := print(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `{"topic":"a","partition":1,"offset":2,"timestamp_ms":3,"key":"k","value":"<v>","headers":[{"name":"h","value":null,"value_base64":"/w=="}]}
{"topic":"a","partition":0,"offset":0,"timestamp_ms":0,"key":null,"key_base64":"/g==","value":null}
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	a.output = "table"
	if print, err = a.recordPrinter(`%p:%o %k=%v\n`); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := errors.Join(print(w, &kgo.Record{Partition: 1, Offset: 2, Key: []byte("k"), Value: []byte("v")}), w.Flush()); err != nil || out.String() != "1:2 k=v\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

func TestShiftDoesNotRunOver(t *testing.T) {
	for _, c := range [][3]int64{{10, 5, 15}, {10, -3, 7}, {10, 1<<63 - 1, 1<<63 - 1}, {0, -1 << 63, -1 << 63}} {
		if got := shifted(c[0], c[1]); got != c[2] {
			t.Errorf("shifted(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
