package tiering

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// TestUploadLeavesThePageCacheAsItWas: a segment that nobody had read is not in memory after its upload, one that
// consumers have just read is, and both are in the bucket byte for byte.
func TestUploadLeavesThePageCacheAsItWas(t *testing.T) {
	t.Chdir(t.TempDir())
	w := newWorld(t)
	cfg := smallLog()
	cfg.SegmentBytes = 1 << 20
	b := w.mustStart(settings{config: cfg, fs: vfs.NewOS(), noLead: true})
	for b.log.Segments() < 3 || len(b.log.Sealed(0)) < 2 {
		info, err := b.log.AppendAsLeader(testBatch(b.log.LogEnd(), 300), segment.AppendOptions{LeaderEpoch: b.epoch, Origin: segment.Client, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.log.Sync(); err != nil {
			t.Fatal(err)
		}
		b.log.SetHighWatermark(info.LastOffset + 1)
	}
	sealed := b.log.Sealed(0)[:2]
	open := func(n int) *segment.SealedSegment {
		s, err := b.log.OpenSealed(sealed[n].BaseOffset)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	resident := func(n int) int64 {
		s := open(n)
		defer s.Release()
		bytes := s.Size()
		for _, r := range vfs.ColdRanges(s.LogFile(), 0, s.Size()) {
			bytes -= r.Len
		}
		return bytes
	}
	cold := open(0)
	vfs.DropCache(cold.LogFile(), 0, cold.Size())
	cold.Release()
	if resident(0) != 0 || resident(1) != sealed[1].Size {
		t.Skipf("%d and %d bytes are in memory, this file system does not let them go", resident(0), resident(1))
	}
	b.m.Lead(w.tip(), b.epoch, b.log)
	b.uploaded()
	settle(t, "the segment is released", func() bool { return resident(0) == 0 })
	if got := resident(1); got != sealed[1].Size {
		t.Errorf("%d bytes of %d are in memory of the segment that was", got, sealed[1].Size)
	}
	for n, s := range sealed {
		seg := open(n)
		want := make([]byte, s.Size)
		if _, err := seg.LogFile().ReadAt(want, 0); err != nil {
			t.Fatal(err)
		}
		seg.Release()
		found := false
		for key := range w.objects() {
			found = found || strings.HasSuffix(key, manifest.LogSuffix) && bytes.Equal(want, body(t, w.store, key))
		}
		if !found {
			t.Errorf("segment %d is not in the bucket as it is", s.BaseOffset)
		}
	}
}
