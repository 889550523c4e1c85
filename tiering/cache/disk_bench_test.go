package cache

import (
	"context"
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// One chunk of 1 MiB from memory, from a file (of a real disk, past the page cache), and from a store in memory,
// which has no network.
func BenchmarkLevels(b *testing.B) {
	const chunk, chunks = 1 << 20, 64
	store := object.NewMem()
	if _, err := store.Put(b.Context(), "a.log", object.Bytes(make([]byte, chunks*chunk)), object.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	var fetched int
	get := func(b *testing.B, c *Cache, n int64) {
		p, err := c.Get(b.Context(), Reader{}, Key{"a.log", n}, chunk, func(ctx context.Context, dst []byte) (int, error) {
			fetched++
			return object.ReadFull(ctx, store, "a.log", n%chunks*chunk, dst)
		})
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
	for _, bench := range []struct {
		name   string
		memory int64
		disk   bool
		warm   int64
		keys   int64 // 0: each time another
	}{
		{"memory", (chunks + 1) * chunk, false, chunks, chunks},
		{"disk", 8 * chunk, true, chunks, chunks},
		{"store", 8 * chunk, false, 0, 0},
		{"store beside a busy disk", 8 * chunk, true, 0, 0},
	} {
		b.Run(bench.name, func(b *testing.B) {
			o := Options{MemoryBytes: bench.memory, ChunkBytes: chunk}
			if bench.disk {
				var err error
				if o.Disk, err = OpenDisk(DiskOptions{FS: vfs.NewOS(), Dir: b.TempDir(), Bytes: 128 * chunk}); err != nil {
					b.Fatal(err)
				}
			}
			c := start(b, o)
			for n := range bench.warm {
				for get(b, c, n); bench.disk && o.Disk.Stats().Pieces <= n; get(b, c, n) {
				}
			}
			fetched = 0
			b.SetBytes(chunk)
			b.ReportAllocs()
			b.ResetTimer()
			for i := int64(0); b.Loop(); i++ {
				if bench.keys > 0 {
					get(b, c, i%bench.keys)
				} else {
					get(b, c, i)
				}
			}
			b.ReportMetric(float64(fetched)/float64(b.N), "fetches/op")
		})
	}
}
