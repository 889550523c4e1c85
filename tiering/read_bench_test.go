package tiering

import (
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// BenchmarkColdRead replays a partition from a directory through the cache, as one consumer does; the cache holds a
// quarter of it, so every pass fetches and checks all bytes again.
func BenchmarkColdRead(b *testing.B) {
	const total = 256 << 20
	w := newWorld(b)
	w.fs = nil
	store, err := object.NewDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	cfg := smallLog()
	cfg.SegmentBytes, cfg.IndexIntervalBytes = 32<<20, 4096
	br := w.mustStart(settings{config: cfg, store: store, memory: 64 << 20, bufferBytes: 4 << 20, fs: mustChdir(b)})
	value := make([]byte, 64<<10)
	if _, err := rand.Read(value); err != nil {
		b.Fatal(err)
	}
	bl := record.NewBuilder(record.BuilderOptions{})
	for br.log.LogEnd() < total/int64(len(value)) {
		bl.Reset(record.BuilderOptions{})
		bl.Append(testTime(br.log.LogEnd()), nil, value)
		info, err := br.log.AppendAsLeader(bl.Build(), segment.AppendOptions{Now: time.Now()})
		if err != nil {
			b.Fatal(err)
		}
		br.log.SetHighWatermark(info.LastOffset + 1)
	}
	br.uploaded()
	end := br.m.View(br.tip()).HighestOffset + 1
	for _, max := range []int{1 << 20, 8 << 20} {
		b.Run(map[int]string{1 << 20: "fetch=1MiB", 8 << 20: "fetch=8MiB"}[max], func(b *testing.B) {
			var bytes int64
			for b.Loop() {
				for at := int64(0); at < end; {
					d, err := br.m.Read(b.Context(), br.tip(), at, segment.ReadOptions{UpTo: end, MaxBytes: max, MinOne: true})
					if err != nil {
						b.Fatal(err)
					}
					n, _ := d.WriteTo(io.Discard)
					bytes += n
					at = d.NextOffset()
					d.Release()
				}
			}
			b.ReportMetric(float64(bytes)/b.Elapsed().Seconds()/(1<<20), "MiB/s")
		})
	}
}

// mustChdir gives the log a disk of its own: the harness's paths are relative.
func mustChdir(b *testing.B) vfs.FS {
	b.Chdir(b.TempDir())
	return vfs.NewOS()
}
