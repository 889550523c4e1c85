package segment

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// modelBatch is what the model remembers of a batch.
type modelBatch struct {
	base, last int64
	epoch      int32
	values     []string
}

// logModel is a log over a list of batches: all that a Log promises, but for the
// segments, indexes and files. It checks a Log as it goes.
type logModel struct {
	mem     *vfs.Mem
	d       *Dir
	l       *Log
	cfg     Config
	batches []modelBatch
	epoch   int32
	start   int64
	hw      int64
	synced  int64
	count   int
}

func (m *logModel) end() int64 {
	if len(m.batches) == 0 {
		return m.l.LogStart()
	}
	return m.batches[len(m.batches)-1].last + 1
}

func (m *logModel) open(t *rapid.T) {
	d, err := OpenDir(DirOptions{FS: m.mem, Path: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: m.cfg})
	if err != nil {
		t.Fatal(err)
	}
	m.d, m.l = d, l
}

func (m *logModel) appendSome(t *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(t, "records")
	size := rapid.IntRange(0, 120).Draw(t, "size")
	follower := rapid.Bool().Draw(t, "follower")
	base := m.l.LogEnd()
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: base, LeaderEpoch: m.epoch})
	if !follower {
		b.Reset(record.BuilderOptions{})
	}
	mb := modelBatch{base: base, last: base + int64(n) - 1, epoch: m.epoch}
	for i := range n {
		m.count++
		v := fmt.Sprintf("%d.%d.%0*d", m.count, i, size, 0)
		mb.values = append(mb.values, v)
		b.Append(int64(1000+rapid.IntRange(0, 500).Draw(t, "ts")), nil, []byte(v))
	}
	var info AppendInfo
	var err error
	if follower {
		info, err = m.l.AppendAsFollower(b.Build(), m.epoch)
	} else {
		info, err = m.l.AppendAsLeader(b.Build(), AppendOptions{LeaderEpoch: m.epoch, Now: t0})
	}
	if err != nil {
		t.Fatal(err)
	}
	if info.FirstOffset != mb.base || info.LastOffset != mb.last {
		t.Fatalf("appended at %d to %d, want %d to %d", info.FirstOffset, info.LastOffset, mb.base, mb.last)
	}
	m.batches = append(m.batches, mb)
}

// cut makes the model end where a truncation to offset ends it.
func (m *logModel) cut(offset int64) {
	i := slices.IndexFunc(m.batches, func(b modelBatch) bool { return b.last >= offset })
	if i >= 0 {
		m.batches = m.batches[:i]
	}
	m.synced, m.hw = min(m.synced, m.end()), min(m.hw, m.end())
}

func (m *logModel) truncate(t *rapid.T) {
	if m.l.LogEnd() == m.l.LocalLogStart() {
		return
	}
	to := rapid.Int64Range(m.l.LocalLogStart()+1, m.l.LogEnd()).Draw(t, "to")
	// Followers truncate where an epoch ended: at the border of a batch.
	i := slices.IndexFunc(m.batches, func(b modelBatch) bool { return b.last >= to })
	if i >= 0 {
		to = m.batches[i].base
	}
	if to <= m.l.LocalLogStart() || to < m.start {
		return
	}
	if err := m.l.TruncateTo(to); err != nil {
		t.Fatal(err)
	}
	m.cut(to)
	if m.l.LogEnd() != to {
		t.Fatalf("log end %d after truncation to %d", m.l.LogEnd(), to)
	}
	m.synced = m.l.SyncedOffset()
}

func (m *logModel) setLogStart(t *rapid.T) {
	to := rapid.Int64Range(0, m.l.LogEnd()).Draw(t, "log start")
	err := m.l.SetLogStart(to)
	if to > m.hw {
		if !errors.Is(err, ErrOffsetOutOfRange) {
			t.Fatalf("log start %d above high watermark %d: %v", to, m.hw, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.start = max(m.start, to)
}

// crash loses power: the model keeps what the log kept, which must be a prefix.
func (m *logModel) crash(t *rapid.T) {
	keep := rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "keep")
	m.mem = m.mem.Crash(rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))), keep)
	m.open(t)
	end := m.l.LogEnd()
	if end < m.synced {
		t.Fatalf("log end %d after a crash, %d was durable", end, m.synced)
	}
	for len(m.batches) > 0 && m.batches[len(m.batches)-1].last >= end {
		m.batches = m.batches[:len(m.batches)-1]
	}
	if end == m.start {
		m.batches = nil // all that the log start lets one see was lost
	}
	if len(m.batches) > 0 && m.end() != end {
		t.Fatalf("log end %d after a crash, the batch before ends at %d", end, m.end())
	}
	m.hw = m.l.HighWatermark()
	m.synced = m.l.SyncedOffset()
}

func (m *logModel) check(t *rapid.T) {
	l := m.l
	if l.LogStart() != m.start || l.LogEnd() != max(m.end(), m.start) {
		t.Fatalf("log from %d to %d, want %d to %d", l.LogStart(), l.LogEnd(), m.start, m.end())
	}
	if !(l.LogStart() <= l.LocalLogStart() && l.LastStableOffset() <= l.HighWatermark() && l.HighWatermark() <= l.LogEnd()) {
		t.Fatalf("start %d local %d stable %d hw %d end %d", l.LogStart(), l.LocalLogStart(), l.LastStableOffset(), l.HighWatermark(), l.LogEnd())
	}
	got := m.read(t, rapid.SampledFrom([]int{1, 200, 1000, 1 << 20}).Draw(t, "max bytes"))
	want := map[int64]string{}
	for _, b := range m.batches {
		for i, v := range b.values {
			if o := b.base + int64(i); o >= m.start {
				want[o] = v
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("records (-want +got):\n%s", diff)
	}
}

func (m *logModel) read(t *rapid.T, maxBytes int) map[int64]string {
	got := map[int64]string{}
	for at := m.l.LocalLogStart(); at < m.l.LogEnd(); {
		c, err := m.l.Read(at, ReadOptions{UpTo: m.l.LogEnd(), MaxBytes: maxBytes, MinOne: true})
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		b, err := c.AppendTo(nil)
		if err != nil || len(b) == 0 {
			t.Fatalf("read at %d of %d: %d bytes, %v", at, m.l.LogEnd(), len(b), err)
		}
		at = c.NextOffset()
		c.Release()
		for n := 0; len(b) > 0; n++ {
			batch, rest, err := record.Next(b)
			if err := errors.Join(err, batch.Verify()); err != nil {
				t.Fatal(err)
			}
			if n > 0 && len(b) > maxBytes {
				t.Fatalf("read of %d bytes gave more", maxBytes)
			}
			if err := batch.Each(nil, func(r record.Record) error {
				if r.Offset >= m.start {
					got[r.Offset] = string(r.Value)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b = rest
		}
	}
	return got
}

func (m *logModel) bounded(t *rapid.T) {
	if m.l.LogEnd() == m.l.LocalLogStart() {
		return
	}
	from := rapid.Int64Range(m.l.LocalLogStart(), m.l.LogEnd()).Draw(t, "from")
	upTo := rapid.Int64Range(0, m.l.LogEnd()+2).Draw(t, "up to")
	c, err := m.l.Read(from, ReadOptions{UpTo: upTo, MaxBytes: rapid.IntRange(0, 2000).Draw(t, "bytes"), MinOne: rapid.Bool().Draw(t, "min one")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	b, err := c.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for first := true; len(b) > 0; first = false {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if batch.NextOffset() > upTo || first && (batch.LastOffset() < from || batch.BaseOffset() > from) {
			t.Fatalf("read from %d up to %d gave a batch %d to %d", from, upTo, batch.BaseOffset(), batch.LastOffset())
		}
		if len(rest) == 0 && batch.NextOffset() != c.NextOffset() {
			t.Fatalf("next offset %d, the last batch ends with %d", c.NextOffset(), batch.LastOffset())
		}
		b = rest
	}
}

func (m *logModel) byTime(t *rapid.T) {
	ts := int64(rapid.IntRange(900, 1600).Draw(t, "time"))
	got, ok, err := m.l.OffsetForTimestamp(ts)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(-1)
	eachRecord(t, m.l, func(r record.Record) {
		if want < 0 && r.Timestamp >= ts && r.Offset >= m.l.LocalLogStart() {
			want = r.Offset
		}
	})
	if ok != (want >= 0) || ok && got.Offset != want {
		t.Fatalf("first record of time %d: %v %v, want offset %d", ts, got, ok, want)
	}
	largest, at := int64(-1), int64(-1)
	eachRecord(t, m.l, func(r record.Record) {
		if r.Timestamp > largest && r.Offset >= m.start {
			largest, at = r.Timestamp, r.Offset
		}
	})
	got, ok, err = m.l.MaxTimestamp()
	if err != nil || ok != (at >= 0) || ok && (got.Timestamp != largest || got.Offset != at) {
		t.Fatalf("largest timestamp %v %v %v, want %d at %d", got, ok, err, largest, at)
	}
}

func eachRecord(t *rapid.T, l *Log, fn func(record.Record)) {
	for at := l.LocalLogStart(); at < l.LogEnd(); {
		c, err := l.Read(at, ReadOptions{UpTo: l.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := c.AppendTo(nil)
		at = c.NextOffset()
		c.Release()
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := batch.Each(nil, func(r record.Record) error { fn(r); return nil }); err != nil {
				t.Fatal(err)
			}
			b = rest
		}
	}
}

var modelConfigs = []Config{
	{SegmentBytes: 400, IndexIntervalBytes: 1},
	{SegmentBytes: 1000, IndexIntervalBytes: 200},
	{SegmentBytes: 1500, IndexIntervalBytes: 60, IndexBytes: 36},
	{SegmentBytes: 1 << 20, IndexIntervalBytes: 100},
	{},
}

// TestLogIsAListOfBatches is ARCHITECTURE.md §4, invariants 1, 2 and 3, under any
// sequence of operations, crashes among them, and under any settings.
func TestLogIsAListOfBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &logModel{mem: vfs.NewMem(), cfg: rapid.SampledFrom(modelConfigs).Draw(t, "config")}
		m.open(t)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"append": m.appendSome,
			"more":   m.appendSome,
			"sync": func(*rapid.T) {
				must(m.l.Sync())
				m.synced = m.l.LogEnd()
			},
			"roll": func(*rapid.T) {
				must(m.l.Roll())
			},
			"checkpoint":    func(*rapid.T) { must(m.d.Checkpoint()) },
			"truncate":      m.truncate,
			"set log start": m.setLogStart,
			"watermark": func(t *rapid.T) {
				hw := rapid.Int64Range(0, m.l.LogEnd()).Draw(t, "hw")
				m.l.SetHighWatermark(hw)
				m.hw = max(m.hw, hw)
			},
			"epoch": func(*rapid.T) { m.epoch++ },
			"read":  m.bounded,
			"time":  m.byTime,
			"expire": func(*rapid.T) {
				_, err := m.l.ExpireLocal(t0, -1, true)
				must(err)
			},
			"restart": func(t *rapid.T) {
				end := m.l.LogEnd()
				must(m.d.Close())
				m.open(t)
				if m.l.LogEnd() != end || !m.d.Clean() {
					t.Fatalf("log end %d after a restart, want %d", m.l.LogEnd(), end)
				}
				m.hw, m.synced = m.l.HighWatermark(), end
			},
			"crash": m.crash,
			"config": func(t *rapid.T) {
				m.cfg = rapid.SampledFrom(modelConfigs).Draw(t, "config")
				m.l.SetConfig(m.cfg)
			},
		})
	})
}

// TestSettingsDoNotChangeWhatIsRead is the metamorphic half: one history under
// many settings reads the same.
func TestSettingsDoNotChangeWhatIsRead(t *testing.T) {
	var want map[int64]string
	configs := append(slices.Clone(modelConfigs), Config{SegmentBytes: 700, FlushMessages: 10, FlushInterval: time.Second}, Config{Preallocate: true, SegmentBytes: 1 << 16})
	for i, cfg := range configs {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		l := openLog(t, d, cfg)
		for n := range 60 {
			mustAppend(t, l, int32(n/20), plain(int64(n), fmt.Sprint("v", n), fmt.Sprint("w", n)))
			if n == 30 {
				if err := l.TruncateTo(50); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.SetHighWatermark(l.LogEnd())
		if err := l.SetLogStart(12); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, openDir(t, mem), cfg)
		got := values(t, l, 12)
		for o := range got {
			if o < 12 {
				delete(got, o)
			}
		}
		if i == 0 {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) != 96 {
			t.Fatalf("config %d: %d records (-first +this):\n%s", i, len(got), diff)
		}
	}
}
