package segment

import (
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestReachTellsWhereADamagedLogEnds by what its directory still says, and does not
// guess what damaged bytes at its end may have been.
func TestReachTellsWhereADamagedLogEnds(t *testing.T) {
	one := int64(len(plain(1, "a")))
	for name, q := range map[string]struct {
		base   int64 // of the file that is harmed
		change func(vfs.File) error
		end    int64
		known  bool
	}{
		"whole":                     {2, func(vfs.File) error { return nil }, 5, true},
		"short":                     {2, truncated(one), 4, true}, // the high watermark
		"zeros behind it":           {2, func(f vfs.File) error { return f.Truncate(5 * one) }, 5, true},
		"changed at its end":        {2, func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff}, 2*one+65); return err }, 4, false},
		"changed in another before": {0, func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff}, 65); return err }, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			d := openDir(t, mem)
			l := openLog(t, d, Config{})
			for i := range 5 {
				if i == 2 {
					noError(t, l.Roll())
				}
				mustAppend(t, l, 0, plain(1, "a"))
			}
			noError(t, l.Sync())
			l.SetHighWatermark(4)
			noError(t, d.persist(markHighWatermark))
			if _, _, err := d.Reach(testTP); err == nil {
				t.Error("told of a log that is open")
			}
			mem = killed(mem)
			harm(t, mem, fileName(q.base, logSuffix), q.change)
			end, known, err := openDir(t, mem).Reach(testTP)
			if err != nil || known != q.known || end != q.end {
				t.Errorf("%d, %t, %v, want %d, %t", end, known, err, q.end, q.known)
			}
		})
	}
}
