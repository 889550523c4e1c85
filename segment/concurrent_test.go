package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestReadersAndWritersDoNotDisturbEachOther appends, reads, rolls, checkpoints
// and removes at the same time, with fewer descriptors than files in use.
func TestReadersAndWritersDoNotDisturbEachOther(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.NewOS()} {
		t.Run(name, func(t *testing.T) {
			path := "/data"
			if name == "disk" {
				path = t.TempDir()
			}
			d, err := OpenDir(DirOptions{FS: fs, Path: path, OpenFiles: 2})
			if err != nil {
				t.Fatal(err)
			}
			var synced atomic.Int64
			grew := make(chan struct{}, 1)
			l, err := d.OpenLog(LogOptions{
				TopicPartition: testTP,
				Config:         Config{SegmentBytes: 4000, IndexIntervalBytes: 200, Delete: true, RetentionBytes: 20_000, RetentionAge: -1},
				OnSynced: func(end int64) {
					synced.Store(end)
					select {
					case grew <- struct{}{}:
					default:
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			stop := running(t, d)
			const total = 3000
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() { appendNumbers(t, l, total/3) })
			}
			done := make(chan struct{})
			var readers sync.WaitGroup
			for range 3 {
				readers.Go(func() { readNumbers(t, l, done) })
			}
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-grew:
					}
					l.SetHighWatermark(synced.Load())
					if _, err := l.ExpireLocal(time.Now(), -1, true); err != nil {
						t.Error(err)
					}
					if _, err := l.RollIfDue(time.Now()); err != nil {
						t.Error(err)
					}
					l.Sealed(0)
				}
			})
			wg.Wait()
			if err := errors.Join(d.Checkpoint(), l.Roll()); err != nil {
				t.Error(err)
			}
			close(done)
			readers.Wait()
			stop()
			if l.LogEnd() != total {
				t.Fatalf("log end %d, want %d", l.LogEnd(), total)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// appendNumbers appends records whose value is the offset they must get, which
// only works if nobody gets the same.
func appendNumbers(t *testing.T, l *Log, n int) {
	for range n {
		b := plain(1, "12345678")
		info, err := l.AppendAsLeader(b, AppendOptions{Now: t0})
		if err != nil {
			t.Error(err)
			return
		}
		if info.FirstOffset != info.LastOffset || record.Batch(b).BaseOffset() != info.FirstOffset {
			t.Errorf("appended at %d to %d, batch says %d", info.FirstOffset, info.LastOffset, b.BaseOffset())
		}
	}
}

// readNumbers reads from the log start to the end, again and again.
func readNumbers(t *testing.T, l *Log, done chan struct{}) {
	at := int64(0)
	for {
		select {
		case <-done:
			return
		default:
		}
		c, err := l.Read(at, ReadOptions{UpTo: l.LogEnd(), MaxBytes: 3000, MinOne: true})
		if errors.Is(err, ErrOffsetOutOfRange) {
			at = l.LocalLogStart()
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		b, err := c.AppendTo(nil)
		c.Release()
		if err != nil {
			t.Error(err)
			return
		}
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err = errors.Join(err, batch.Verify()); err != nil || batch.BaseOffset() != at {
				t.Errorf("read at %d: offset %d, %v", at, int64(binary.BigEndian.Uint64(b)), err)
				return
			}
			at, b = batch.NextOffset(), rest
		}
		if at >= l.LogEnd() {
			at = l.LocalLogStart()
		}
	}
}

// TestOneSyncPaysForAllWhoWait: while the syncs of a log are busy, any number of
// appends come together in the next one.
func TestOneSyncPaysForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		hold := make(chan struct{})
		fs := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasSuffix(op.Path, logSuffix) {
				syncs.Add(1)
				<-hold
			}
			return nil
		})
		d := openDir(t, fs)
		var acked atomic.Int64
		l, err := d.OpenLog(LogOptions{TopicPartition: testTP, OnSynced: acked.Store})
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, d)
		defer stop()
		for range 2 {
			mustAppend(t, l, 0, plain(1, "a"))
			synctest.Wait()
		}
		for range 100 {
			mustAppend(t, l, 0, plain(1, "b"))
		}
		synctest.Wait()
		if syncs.Load() != syncSlots || acked.Load() != 0 {
			t.Fatalf("%d syncs at work, %d acked", syncs.Load(), acked.Load())
		}
		close(hold)
		synctest.Wait()
		if acked.Load() != 102 || syncs.Load() > syncSlots+2 {
			t.Fatalf("%d acked with %d syncs", acked.Load(), syncs.Load())
		}
	})
}

// TestSlowSyncOfOneLogDoesNotHoldOthers: there is no barrier between logs.
func TestSlowSyncOfOneLogDoesNotHoldOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		fs := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && op.Path == "/data/t-0/00000000000000000000.log" {
				<-hold
			}
			return nil
		})
		d := openDir(t, fs)
		stop := running(t, d)
		defer stop()
		var acked [5]atomic.Int64
		for i := range acked {
			l, err := d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "t", Partition: int32(i)}, OnSynced: acked[i].Store})
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, 0, plain(1, "a"))
		}
		synctest.Wait()
		for i := range acked {
			if want := int64(min(i, 1)); acked[i].Load() != want {
				t.Errorf("log %d: acked %d, want %d", i, acked[i].Load(), want)
			}
		}
		close(hold)
		synctest.Wait()
		if acked[0].Load() != 1 {
			t.Errorf("the slow log: acked %d", acked[0].Load())
		}
	})
}

// BenchmarkOpen1000 is the start of a broker with 1,000 partitions.
func BenchmarkOpen1000(b *testing.B) {
	for _, clean := range []bool{true, false} {
		b.Run(fmt.Sprintf("clean=%v", clean), func(b *testing.B) {
			dir := benchDir(b)
			const partitions = 1000
			open := func() (*Dir, []*Log) {
				d, err := OpenDir(DirOptions{FS: vfs.NewOS(), Path: dir, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				logs := make([]*Log, partitions)
				var wg sync.WaitGroup
				work := make(chan int)
				for range 16 {
					wg.Go(func() {
						for i := range work {
							l, err := d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "t", Partition: int32(i)}})
							if err != nil {
								b.Error(err)
								return
							}
							logs[i] = l
						}
					})
				}
				for i := range partitions {
					work <- i
				}
				close(work)
				wg.Wait()
				return d, logs
			}
			d, logs := open()
			batch := benchBatch(16 << 10)
			var closing, opening time.Duration
			for b.Loop() {
				for _, l := range logs {
					batch.SetBaseOffset(0)
					if _, err := l.AppendAsLeader(batch, AppendOptions{}); err != nil {
						b.Fatal(err)
					}
				}
				start := time.Now()
				if clean {
					if err := d.Close(); err != nil {
						b.Fatal(err)
					}
				} else {
					d.files.closeAll()
					_ = d.lock.Close()
				}
				closing += time.Since(start)
				start = time.Now()
				d, logs = open()
				opening += time.Since(start)
			}
			b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "open-ms")
			b.ReportMetric(float64(closing.Milliseconds())/float64(b.N), "close-ms")
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
