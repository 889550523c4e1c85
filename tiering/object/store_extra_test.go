package object_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestFaultsReplaceLoseAndBreakOff(t *testing.T) {
	lost := errors.New("lost")
	var fail func(object.Op) error
	var ops []object.Op
	mem := object.NewMem()
	s := object.WithFaults(mem, func(_ context.Context, op object.Op) error {
		ops = append(ops, op)
		return fail(op)
	})
	on := func(kind object.OpKind, after bool) {
		fail = func(op object.Op) error {
			if op.Kind == kind && op.After == after {
				return lost
			}
			return nil
		}
	}
	body := object.Bytes([]byte("0123456789"))

	on(object.OpPut, false)
	if _, err := s.Put(t.Context(), "k", body, object.PutOptions{}); !errors.Is(err, lost) {
		t.Errorf("put: %v", err)
	}
	if _, err := mem.Head(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("a replaced put took effect: %v", err)
	}
	on(object.OpPut, true)
	if _, err := s.Put(t.Context(), "k", body, object.PutOptions{}); !errors.Is(err, lost) {
		t.Errorf("put: %v", err)
	}
	if got := get(t, mem, "k"); string(got) != "0123456789" {
		t.Errorf("a put whose answer was lost stored %q", got)
	}
	on(object.OpGet, false)
	if _, err := s.Get(t.Context(), "k", 0, 4); !errors.Is(err, lost) {
		t.Errorf("get: %v", err)
	}
	on(object.OpRead, false)
	got := make([]byte, 8)
	if n, err := object.ReadFull(t.Context(), s, "k", 1, got); !errors.Is(err, lost) || string(got[:n]) != "1234" {
		t.Errorf("read: %q, %v", got[:n], err)
	}
	on(object.OpHead, false)
	if _, err := s.Head(t.Context(), "k"); !errors.Is(err, lost) {
		t.Errorf("head: %v", err)
	}
	on(object.OpList, false)
	for _, err := range s.List(t.Context(), "", "") {
		if !errors.Is(err, lost) {
			t.Errorf("list: %v", err)
		}
	}
	on(object.OpDelete, true)
	if err := s.Delete(t.Context(), "k"); !errors.Is(err, lost) {
		t.Errorf("delete: %v", err)
	}
	if _, err := mem.Head(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("a delete whose answer was lost did nothing: %v", err)
	}
	if last := ops[len(ops)-1]; last.N != 7 || last.Key != "k" || last.Kind.String() != "delete" {
		t.Errorf("last operation %+v", last)
	}
}

func TestCheckNamesTheStepThatFails(t *testing.T) {
	denied := &object.Error{Op: "x", Store: "y", Kind: object.ErrAccess}
	for kind := object.OpPut; kind <= object.OpList; kind++ {
		mem := object.NewMem()
		s := object.WithFaults(mem, func(_ context.Context, op object.Op) error {
			if op.Kind == kind {
				return denied
			}
			return nil
		})
		if err := object.Check(t.Context(), s); !errors.Is(err, object.ErrAccess) {
			t.Errorf("%v denied: got %v", kind, err)
		}
		for info := range mem.List(t.Context(), "", "") {
			if kind != object.OpDelete {
				t.Errorf("%v denied: check left %s", kind, info.Key)
			}
		}
	}
}

func TestDirShowsNoUnfinishedObjects(t *testing.T) {
	dir := t.TempDir()
	s, err := object.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	o := object.PutOptions{Progress: func(int64) {
		if seen++; seen == 3 {
			cancel()
		}
	}}
	if _, err := s.Put(ctx, "a/b", object.Bytes(make([]byte, 8<<20)), o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// What a crash leaves, old and young, and a stranger's file.
	uploads := filepath.Join(dir, ".uploads")
	for name, age := range map[string]time.Duration{"put-old": 25 * time.Hour, "put-young": time.Hour} {
		if err := os.WriteFile(filepath.Join(uploads, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(uploads, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("listed %v", got)
	}
	if _, err := object.NewDir(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(uploads)
	if err != nil || len(left) != 1 || left[0].Name() != "put-young" {
		t.Errorf("after reopening: %v, %v", left, err)
	}
}

func TestDirRemovesFoldersItEmpties(t *testing.T) {
	dir := t.TempDir()
	s, err := object.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // also after the folders went
		put(t, s, "topics/t/0/segments/1.log", []byte("x"))
		put(t, s, "topics/t/1/segments/1.log", []byte("x"))
		if err := s.Delete(t.Context(), "topics/t/0/segments/1.log"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "topics/t/0")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the empty folder is still there: %v", err)
		}
		if err := s.Delete(t.Context(), "topics/t/1/segments/1.log"); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

func TestDirBodyGoesOutByWriteTo(t *testing.T) {
	s, err := object.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(100_000, 9)
	put(t, s, "k", want)
	body, err := s.Get(t.Context(), "k", 10, 90_000)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(body, head); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	if n, err := io.Copy(&rest, body); n != 89_900 || err != nil {
		t.Errorf("copied %d, %v", n, err)
	}
	if got := append(head, rest.Bytes()...); !bytes.Equal(got, want[10:90_010]) {
		t.Error("other bytes")
	}
}

func TestCancelledLargeUploadLeavesNoParts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts MinIO")
	}
	srv := servers.MinIO(t)
	srv.Bucket(t, "parts")
	c, err := minio.New(strings.TrimPrefix(srv.Endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(srv.AccessKey, srv.SecretKey, ""), Region: srv.Region})
	if err != nil {
		t.Fatal(err)
	}
	core := minio.Core{Client: c}
	for name, bucketURL := range map[string]func(string) string{"s3": srv.S3URL, "minio": srv.MinIOURL} {
		s := openURL(t, bucketURL("parts"), object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey})
		ctx, cancel := context.WithCancel(t.Context())
		b := pattern(40<<20, 1)
		var sent atomic.Int64
		o := object.PutOptions{CRC32C: castagnoli(b), HasCRC: true, Progress: func(n int64) {
			if sent.Add(n) > 20<<20 {
				cancel()
			}
		}}
		_, err := s.Put(ctx, name, object.Bytes(b), o)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
		up, err := core.ListMultipartUploads(t.Context(), "parts", name, "", "", "", 10)
		if err != nil || len(up.Uploads) != 0 {
			t.Errorf("%s: left %+v, %v", name, up.Uploads, err)
		}
		if _, err := s.Head(t.Context(), name); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("%s: head: %v", name, err)
		}
		_ = s.Close()
	}
}

func TestMetricsCountRequestsBytesAndFailures(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	broken := errors.New("broken")
	faulty := object.WithFaults(object.NewMem(), func(_ context.Context, op object.Op) error {
		if op.Key == "broken" {
			return broken
		}
		return nil
	})
	s, err := object.WithMetrics(faulty, meter)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", make([]byte, 1000))
	get(t, s, "a")
	if _, err := object.ReadFull(t.Context(), s, "a", 10, make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"missing", "broken"} {
		if _, err := s.Head(t.Context(), key); err == nil {
			t.Error("no error")
		}
	}
	list(t, s, "", "")
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range d.DataPoints {
				op, _ := p.Attributes.Value("op")
				got[m.Name+" "+op.AsString()] = p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range d.DataPoints {
				op, _ := p.Attributes.Value("op")
				got[m.Name+" "+op.AsString()] = int64(p.Count)
			}
		}
	}
	for name, want := range map[string]int64{
		"coldbrook_object_request_seconds put": 1, "coldbrook_object_request_seconds get": 2, "coldbrook_object_request_seconds head": 2,
		"coldbrook_object_request_seconds list": 1, "coldbrook_object_request_seconds delete": 1,
		"coldbrook_object_errors head": 1, "coldbrook_object_errors put": 0,
		"coldbrook_object_read_bytes ": 1020, "coldbrook_object_written_bytes ": 1000,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
}

// Whatever passes as a key stays below the directory and comes back from List.
func FuzzValidKeyStaysInTheDirectory(f *testing.F) {
	for _, key := range []string{"a", "a/b", "../a", "a/../../b", ".uploads/x", "topics/t.id/0/segments/00000000000000000000-1-u.log", "a//b", strings.Repeat("x", 300), "\x00", "a\\..\\b", " ", "~", "a/.uploads"} {
		f.Add(key)
	}
	s, err := object.NewDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if object.ValidKey(key) != nil {
			return
		}
		if !filepath.IsLocal(key) {
			t.Fatalf("key %q leaves the directory", key)
		}
		if len(key) > 512 { // the file system's own limit on paths depends on where the directory is
			return
		}
		put(t, s, key, []byte(key))
		if got := list(t, s, "", ""); len(got) != 1 || got[0] != key {
			t.Errorf("put %q, listed %q", key, got)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	})
}
