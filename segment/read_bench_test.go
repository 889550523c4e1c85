package segment

import (
	"fmt"
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// BenchmarkRead is the cost of finding 1 MiB of records, sealed or just appended;
// sending them is the kernel's.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, sealed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dKiB/sealed=%v", size>>10, sealed), func(b *testing.B) {
				d, err := OpenDir(DirOptions{FS: vfs.NewOS(), Path: benchDir(b)})
				if err != nil {
					b.Fatal(err)
				}
				l := openLog(b, d, Config{})
				batch := benchBatch(size)
				for n := 0; n < 64<<20; n += len(batch) {
					batch.SetBaseOffset(0)
					if _, err := l.AppendAsLeader(batch, AppendOptions{Now: t0}); err != nil {
						b.Fatal(err)
					}
				}
				if sealed {
					if err := l.Roll(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				var at int64
				for b.Loop() {
					if at >= l.LogEnd() {
						at = 0
					}
					c, err := l.Read(at, ReadOptions{UpTo: l.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
					if err != nil {
						b.Fatal(err)
					}
					at = c.NextOffset()
					c.Release()
				}
			})
		}
	}
}
