package segment

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testTP = metadata.TopicPartition{Topic: "orders", Partition: 3}
	testID = metadata.TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	t0     = time.UnixMilli(1_700_000_000_000)
)

// openDir opens a log directory over fs and fails the test if it cannot.
func openDir(t testing.TB, fs vfs.FS) *Dir {
	t.Helper()
	d, err := OpenDir(DirOptions{FS: fs, Path: "/data", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openLog(t testing.TB, d *Dir, cfg Config) *Log {
	t.Helper()
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// plain builds a batch of records with the given values at time ts.
func plain(ts int64, values ...string) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{})
	for i, v := range values {
		b.Append(ts+int64(i), []byte("key"), []byte(v))
	}
	return b.Build()
}

func mustAppend(t testing.TB, l *Log, epoch int32, batch []byte) AppendInfo {
	t.Helper()
	info, err := l.AppendAsLeader(bytes.Clone(batch), AppendOptions{LeaderEpoch: epoch, Now: t0})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// values returns the values of all records from offset on, by offset.
func values(t testing.TB, l *Log, from int64) map[int64]string {
	t.Helper()
	got := map[int64]string{}
	for at := from; at < l.LogEnd(); {
		c, err := l.Read(at, ReadOptions{UpTo: l.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		b, err := c.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			t.Fatalf("nothing at offset %d, log end %d", at, l.LogEnd())
		}
		next := c.NextOffset()
		c.Release()
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err == nil {
				err = batch.Verify()
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := batch.Each(nil, func(r record.Record) error {
				if _, ok := got[r.Offset]; ok {
					return errors.New("offset seen twice")
				}
				got[r.Offset] = string(r.Value)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b = rest
		}
		at = next
	}
	return got
}

// running starts Run and returns what stops it and waits.
func running(t testing.TB, d *Dir) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func TestAppendedRecordsAreReadAtTheirOffsets(t *testing.T) {
	d := openDir(t, vfs.NewMem())
	synced := make(chan int64, 100)
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, OnSynced: func(end int64) { synced <- end }})
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, d)
	info := mustAppend(t, l, 0, plain(1000, "a", "b", "c"))
	if info.FirstOffset != 0 || info.LastOffset != 2 {
		t.Fatalf("got %+v", info)
	}
	mustAppend(t, l, 0, plain(2000, "d"))
	for <-synced < 4 {
	}
	if got := l.SyncedOffset(); got != 4 {
		t.Fatalf("synced %d, want 4", got)
	}
	got := values(t, l, 0)
	if len(got) != 4 || got[0] != "a" || got[3] != "d" {
		t.Fatalf("got %v", got)
	}
	stop()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLogSurvivesCleanRestart(t *testing.T) {
	fs := vfs.NewMem()
	d := openDir(t, fs)
	cfg := Config{SegmentBytes: 2000, IndexIntervalBytes: 100}
	l := openLog(t, d, cfg)
	want := map[int64]string{}
	for i := range 100 {
		v := string(rune('a' + i%26))
		info := mustAppend(t, l, int32(i/30), plain(int64(i), v, v+v))
		want[info.FirstOffset], want[info.LastOffset] = v, v+v
	}
	l.SetHighWatermark(150)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, fs)
	if !d.Clean() {
		t.Fatal("not clean")
	}
	l = openLog(t, d, cfg)
	if l.LogEnd() != 200 || l.HighWatermark() != 150 || l.SyncedOffset() != 200 {
		t.Fatalf("end %d, high watermark %d, synced %d", l.LogEnd(), l.HighWatermark(), l.SyncedOffset())
	}
	got := values(t, l, 0)
	for o, v := range want {
		if got[o] != v {
			t.Fatalf("offset %d: %q, want %q", o, got[o], v)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	if e := l.LeaderEpochs(); len(e) != 4 || e[3] != (EpochEntry{3, 180}) {
		t.Fatalf("epochs %v", e)
	}
}

// crashed is the disk after a power loss that kept everything.
func crashed(mem *vfs.Mem) *vfs.Mem { return mem.Crash(rand.New(rand.NewSource(1)), 100) }
