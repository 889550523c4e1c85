package segment

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// benchDir returns a directory on a real disk. COLDBROOK_BENCH_DIR overrides it.
func benchDir(b *testing.B) string {
	if dir := os.Getenv("COLDBROOK_BENCH_DIR"); dir != "" {
		dir, err := os.MkdirTemp(dir, "segment")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return b.TempDir()
}

func benchBatch(size int) record.Batch {
	value := make([]byte, min(size, 1024))
	rand.Read(value)
	bb := record.NewBuilder(record.BuilderOptions{})
	for bb.Append(1000, nil, value); bb.Size()+len(value)+16 < size; {
		bb.Append(1000, nil, value)
	}
	return bb.Build()
}

// BenchmarkBareLoop is what the disk gives to one loop that checks a CRC, writes
// and syncs: the bar for BenchmarkAppendSynced.
func BenchmarkBareLoop(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			f, err := vfs.NewOS().Create(filepath.Join(benchDir(b), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			batch := benchBatch(size)
			b.SetBytes(int64(len(batch)))
			var pos int64
			for b.Loop() {
				if crc32.Checksum(batch[21:], castagnoli) != batch.CRC() {
					b.Fatal("CRC")
				}
				if _, err := f.WriteAt(batch, pos); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				pos += int64(len(batch))
			}
		})
	}
}

// waiter lets appends wait for SyncedOffset.
type waiter struct {
	mu   sync.Mutex
	cond *sync.Cond
	at   int64
}

func (w *waiter) synced(end int64) {
	w.mu.Lock()
	w.at = max(w.at, end)
	w.mu.Unlock()
	w.cond.Broadcast()
}

func (w *waiter) wait(end int64) {
	w.mu.Lock()
	for w.at < end {
		w.cond.Wait()
	}
	w.mu.Unlock()
}

// BenchmarkAppendSynced is produce as the log sees it: batches are validated,
// appended to several logs and waited for until they are durable.
func BenchmarkAppendSynced(b *testing.B) {
	for _, c := range []struct{ size, logs, outstanding int }{
		{64 << 10, 6, 20}, {512 << 10, 6, 20}, {64 << 10, 1, 5}, {1 << 10, 6, 20}, {1 << 10, 1, 1}, {1 << 10, 100, 200},
	} {
		b.Run(fmt.Sprintf("%dKiB/logs=%d/outstanding=%d", c.size>>10, c.logs, c.outstanding), func(b *testing.B) {
			benchAppend(b, c.size, c.logs, c.outstanding)
		})
	}
}

func benchAppend(b *testing.B, size, logs, outstanding int) {
	d, err := OpenDir(DirOptions{FS: vfs.NewOS(), Path: benchDir(b), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	list := make([]*Log, logs)
	waiters := make([]*waiter, logs)
	for i := range list {
		w := &waiter{}
		w.cond = sync.NewCond(&w.mu)
		waiters[i] = w
		if list[i], err = d.OpenLog(LogOptions{
			TopicPartition: metadata.TopicPartition{Topic: "bench", Partition: int32(i)},
			OnSynced:       w.synced,
		}); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = d.Run(ctx) })
	batch := benchBatch(size)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for g := range outstanding {
		wg.Go(func() {
			mine := append(record.Batch(nil), batch...)
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				i := (int(n) + g) % logs
				mine.SetBaseOffset(0)
				info, err := list[i].AppendAsLeader(mine, AppendOptions{})
				if err != nil {
					b.Error(err)
					return
				}
				waiters[i].wait(info.LastOffset + 1)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "appends/s")
	b.StopTimer()
	cancel()
	run.Wait()
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendMemory is the cost of an append without a disk: validation,
// offsets, one copy.
func BenchmarkAppendMemory(b *testing.B) {
	d := openDir(b, vfs.NewMem())
	l := openLog(b, d, Config{SegmentBytes: 64 << 20})
	batch := benchBatch(64 << 10)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		batch.SetBaseOffset(0)
		if _, err := l.AppendAsLeader(batch, AppendOptions{Now: t0}); err != nil {
			b.Fatal(err)
		}
		if l.end.Load()%(1<<16) < 64 {
			l.SetHighWatermark(l.LogEnd())
			if err := errorsJoin(l.Sync(), l.seal(), l.SetLogStart(l.LogEnd())); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
