package segment

import (
	"errors"
	"fmt"
	"testing"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

func TestBehindIsWhatLiesFromAnOffsetOn(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{SegmentBytes: 2000, IndexIntervalBytes: 300, RetentionBytes: -1, RetentionAge: -1})
	type at struct{ before, time int64 }
	var want []at // by offset
	total := int64(0)
	for n := range 60 {
		ts := t0.UnixMilli() + int64(n)*1000
		batch := plain(ts, fmt.Sprintf("%0*d", 10+n*3%70, n), "b", "c")
		for i := range 3 {
			want = append(want, at{total, ts + int64(i)})
		}
		mustAppend(t, l, 0, batch)
		total += int64(batch.Size())
	}
	if l.Segments() < 3 || l.LocalBytes() != total {
		t.Fatalf("%d segments of %d bytes, want some of %d", l.Segments(), l.LocalBytes(), total)
	}
	for offset, w := range want {
		bytes, ts, err := l.Behind(int64(offset))
		if err != nil || bytes != total-w.before || ts != w.time {
			t.Errorf("offset %d: %d bytes, time %d, %v; want %d, %d", offset, bytes, ts, err, total-w.before, w.time)
		}
	}
	if bytes, ts, err := l.Behind(l.LogEnd()); bytes != 0 || ts != -1 || err != nil {
		t.Errorf("at the end: %d bytes, time %d, %v", bytes, ts, err)
	}
	l.SetHighWatermark(l.LogEnd())
	if err := l.SetLogStart(100); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{99, l.LogEnd() + 1} {
		if _, _, err := l.Behind(offset); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Errorf("offset %d: %v", offset, err)
		}
	}
}

func TestTimeInsideABatchIsToldFromItsHeader(t *testing.T) {
	batch := plain(1000, "a", "b", "c", "d", "e")
	batch.SetBaseOffset(10)
	for offset, want := range map[int64]int64{10: 1000, 12: 1002, 14: 1004} {
		if got := timeIn(batch, offset); got != want {
			t.Errorf("offset %d: %d, want %d", offset, got, want)
		}
	}
	batch.SetMaxTimestamp(record.LogAppendTime, 5000)
	if got := timeIn(batch, 10); got != 5000 {
		t.Errorf("with the broker's time: %d", got)
	}
}
