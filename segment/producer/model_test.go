package producer

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"pgregory.net/rapid"
)

// event is one entry of the log: a batch, or the marker that ends a transaction.
type event struct {
	b           BatchInfo
	marker      bool
	commit      bool
	coordinator int32
}

func (e event) apply(t *rapid.T, m *Manager) {
	if !e.marker {
		m.Update(e.b)
		return
	}
	if _, err := m.EndTxn(e.b.ProducerID, e.b.Epoch, e.commit, e.coordinator, e.b.FirstOffset, e.b.Timestamp); err != nil {
		t.Fatal(err)
	}
}

// key is a sequence number of a producer's epoch.
type key struct {
	pid   int64
	epoch int16
	seq   int32
}

// logModel is what a Manager is checked against: the log itself, and where each
// sequence number was appended.
type logModel struct {
	log      []event
	end, hw  int64
	appended map[key]int64
	open     map[int64]int64 // producer to first offset
	ended    []transaction
}

func (l *logModel) firstUnstable() (int64, bool) {
	first, ok := int64(0), false
	take := func(at int64) {
		if !ok || at < first {
			first, ok = at, true
		}
	}
	for _, at := range l.open {
		take(at)
	}
	for _, e := range l.ended {
		if e.last >= l.hw {
			take(e.first)
		}
	}
	return first, ok
}

func (l *logModel) sequences(b BatchInfo, fn func(i int64, k key)) {
	seq := b.FirstSequence
	for i := range b.LastOffset - b.FirstOffset + 1 {
		fn(i, key{b.ProducerID, b.Epoch, seq})
		seq = record.AddSequence(seq, 1)
	}
}

// TestEveryRecordIsAppendedOnce lets producers send, retry, skip and change epochs
// at random. Whatever Check answers has to be true of the log, and replaying the
// log, from the start or from any snapshot, has to give the same state.
func TestEveryRecordIsAppendedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewManager(time.Minute, time.Hour)
		l := &logModel{appended: map[key]int64{}, open: map[int64]int64{}}
		var sent []BatchInfo
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				b := drawBatch(t, m, l)
				send(t, m, l, b)
				sent = append(sent, b)
			},
			"retry": func(t *rapid.T) {
				if len(sent) == 0 {
					t.Skip("nothing sent")
				}
				b := sent[rapid.IntRange(max(0, len(sent)-12), len(sent)-1).Draw(t, "which")]
				size := b.LastOffset - b.FirstOffset
				b.FirstOffset, b.LastOffset = l.end, l.end+size
				send(t, m, l, b)
			},
			"end": func(t *rapid.T) { endTxn(t, m, l) },
			"high watermark": func(t *rapid.T) {
				l.hw = rapid.Int64Range(l.hw, l.end).Draw(t, "hw")
				m.OnHighWatermark(l.hw)
			},
			"": func(t *rapid.T) {
				at, ok := m.FirstUnstableOffset()
				if wantAt, want := l.firstUnstable(); ok != want || ok && at != wantAt {
					t.Fatalf("unstable from %d (%v), want %d (%v)", at, ok, wantAt, want)
				}
				if m.End() != l.end {
					t.Fatalf("End %d, want %d", m.End(), l.end)
				}
			},
		})
		checkReplay(t, m, l)
	})
}

// drawBatch draws the batch a producer sends next: most often the right one.
func drawBatch(t *rapid.T, m *Manager, l *logModel) BatchInfo {
	pid := rapid.Int64Range(0, 2).Draw(t, "pid")
	b := BatchInfo{ProducerID: pid, Timestamp: 1000, FirstOffset: l.end}
	if e := m.producers[pid]; e != nil {
		b.Epoch = e.epoch
		b.FirstSequence = record.AddSequence(max(e.lastSequence(), 0), 1)
		if e.empty() {
			b.FirstSequence = 0
		}
	} else if rapid.Bool().Draw(t, "near the wrap") {
		b.FirstSequence = 2147483640
	}
	switch rapid.IntRange(0, 9).Draw(t, "how") {
	case 0:
		b.Epoch = max(0, b.Epoch+int16(rapid.IntRange(-1, 1).Draw(t, "epoch")))
		b.FirstSequence = 0
	case 1:
		b.FirstSequence = max(0, b.FirstSequence+int32(rapid.IntRange(-9, 3).Draw(t, "shift")))
	}
	n := rapid.Int32Range(1, 4).Draw(t, "records")
	b.LastSequence = record.AddSequence(b.FirstSequence, n-1)
	b.LastOffset = b.FirstOffset + int64(n) - 1
	_, open := l.open[pid]
	b.Transactional = open != (rapid.IntRange(0, 4).Draw(t, "switch") == 0)
	return b
}

// send checks a batch, holds the answer against the log, and appends it if allowed.
func send(t *rapid.T, m *Manager, l *logModel, b BatchInfo) {
	v, err := m.Check(b, true)
	present, absent := 0, 0
	l.sequences(b, func(_ int64, k key) {
		if _, ok := l.appended[k]; ok {
			present++
		} else {
			absent++
		}
	})
	switch {
	case v.Duplicate:
		l.sequences(b, func(i int64, k key) {
			if l.appended[k] != v.Of.FirstOffset+i {
				t.Fatalf("%+v is no duplicate of %+v", b, v.Of)
			}
		})
	case errors.Is(err, ErrDuplicateSequence):
		if absent > 0 {
			t.Fatalf("%+v called a duplicate, but %d records of it were never appended", b, absent)
		}
	case err == nil:
		if present > 0 {
			t.Fatalf("%+v would append %d records twice", b, present)
		}
		l.sequences(b, func(i int64, k key) { l.appended[k] = b.FirstOffset + i })
		if _, ok := l.open[b.ProducerID]; b.Transactional && !ok {
			l.open[b.ProducerID] = b.FirstOffset
		}
		appendEvent(t, m, l, event{b: b})
	}
}

func endTxn(t *rapid.T, m *Manager, l *logModel) {
	pid := rapid.Int64Range(0, 2).Draw(t, "pid")
	e := event{marker: true, commit: rapid.Bool().Draw(t, "commit"), coordinator: rapid.Int32Range(0, 2).Draw(t, "coordinator")}
	e.b = BatchInfo{ProducerID: pid, Timestamp: 2000, FirstOffset: l.end, LastOffset: l.end}
	if p := m.producers[pid]; p != nil {
		e.b.Epoch = max(0, p.epoch+int16(rapid.IntRange(-1, 1).Draw(t, "epoch")))
	}
	if m.CheckEndTxn(Marker{ProducerID: pid, Epoch: e.b.Epoch, CoordinatorEpoch: e.coordinator}) != nil {
		return
	}
	if first, ok := l.open[pid]; ok {
		l.ended = append(l.ended, transaction{pid, first, l.end})
		delete(l.open, pid)
	}
	appendEvent(t, m, l, e)
}

func appendEvent(t *rapid.T, m *Manager, l *logModel, e event) {
	e.apply(t, m)
	l.log = append(l.log, e)
	l.end = e.b.LastOffset + 1
}

func checkReplay(t *rapid.T, m *Manager, l *logModel) {
	cut := rapid.IntRange(0, len(l.log)).Draw(t, "snapshot after")
	all, tail := NewManager(time.Minute, time.Hour), NewManager(time.Minute, time.Hour)
	for i, e := range l.log {
		if i == cut {
			states, err := LoadSnapshot(all.Snapshot())
			if err != nil {
				t.Fatal(err)
			}
			tail.Restore(states, all.End(), time.Time{})
		}
		e.apply(t, all)
		if i >= cut {
			e.apply(t, tail)
		}
	}
	if !bytes.Equal(m.Snapshot(), all.Snapshot()) || fmt.Sprint(m.open) != fmt.Sprint(all.open) {
		t.Fatalf("replay from the start gives another state")
	}
	if cut < len(l.log) && !bytes.Equal(m.Snapshot(), tail.Snapshot()) {
		t.Fatalf("replay from the snapshot after %d gives another state", cut)
	}
}

// TestCheckAllSeesBatchesBefore checks that batches of one append are judged in
// order, and that judging changes nothing.
func TestCheckAllSeesBatchesBefore(t *testing.T) {
	m := NewManager(time.Minute, time.Hour)
	batch := func(seq int32, offset int64) BatchInfo {
		return BatchInfo{ProducerID: 1, FirstSequence: seq, LastSequence: seq, FirstOffset: offset, LastOffset: offset}
	}
	m.Update(batch(0, 0))
	before := m.Snapshot()
	if v, err := m.CheckAll([]BatchInfo{batch(1, 1), batch(2, 2), {ProducerID: 2, FirstOffset: 3, LastOffset: 3}}, true); err != nil || v.Duplicate {
		t.Errorf("CheckAll = %+v, %v", v, err)
	}
	if _, err := m.CheckAll([]BatchInfo{batch(1, 1), batch(3, 2)}, true); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Errorf("CheckAll with a gap = %v", err)
	}
	if v, err := m.CheckAll([]BatchInfo{batch(1, 1), batch(0, 2)}, true); err != nil || !v.Duplicate || v.Of.FirstOffset != 0 {
		t.Errorf("CheckAll with a duplicate = %+v, %v", v, err)
	}
	if !bytes.Equal(m.Snapshot(), before) {
		t.Error("CheckAll changed the state")
	}
}

func TestInfoOf(t *testing.T) {
	b := record.NewBuilder(record.BuilderOptions{
		BaseOffset: 10, Transactional: true, Producer: &record.Producer{ID: 1, Epoch: 2, BaseSequence: 2147483647},
	})
	b.Append(5, nil, nil)
	b.Append(6, nil, nil)
	want := BatchInfo{ProducerID: 1, Epoch: 2, FirstSequence: 2147483647, LastSequence: 0, FirstOffset: 10, LastOffset: 11, Timestamp: 6, Transactional: true}
	if got := InfoOf(b.Build()); got != want {
		t.Errorf("InfoOf = %+v, want %+v", got, want)
	}
}

func BenchmarkCheckAndUpdate(b *testing.B) {
	m := NewManager(time.Minute, time.Hour)
	var offset int64
	var seq int32
	b.ReportAllocs()
	for b.Loop() {
		info := BatchInfo{ProducerID: offset % 1000, FirstOffset: offset, LastOffset: offset, FirstSequence: seq, LastSequence: seq}
		if _, err := m.Check(info, true); err != nil {
			b.Fatal(err)
		}
		m.Update(info)
		if offset++; offset%1000 == 0 {
			seq++
		}
	}
}
