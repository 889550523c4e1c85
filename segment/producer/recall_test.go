package producer

import (
	"testing"
	"time"
)

// data is a batch of two records of producer 1.
func data(epoch int16, seq int32, offset int64) BatchInfo {
	return BatchInfo{ProducerID: 1, Epoch: epoch, FirstSequence: seq, LastSequence: seq + 1, FirstOffset: offset, LastOffset: offset + 1}
}

// TestRecalledBatchesAreRecognized: what a run of the log before a snapshot says
// is added to what is known, as far as batches are remembered and of one epoch.
func TestRecalledBatchesAreRecognized(t *testing.T) {
	older, all := NewManager(time.Hour, time.Hour), NewManager(time.Hour, time.Hour)
	older.Update(data(0, 50, 0))
	for i := range int32(7) {
		older.Update(data(1, 2*i, int64(10*i+10)))
	}
	all.Update(data(1, 12, 70)) // the snapshot's
	all.Update(data(1, 14, 80)) // replayed
	if ids := all.Incomplete(); len(ids) != 1 {
		t.Fatalf("incomplete: %v", ids)
	}
	all.Recall(older)
	for i := int32(3); i <= 7; i++ {
		v, err := all.Check(data(1, 2*i, 1000), true)
		if err != nil || !v.Duplicate || v.Of.FirstOffset != int64(10*i+10) {
			t.Errorf("sequence %d: %+v, %v", 2*i, v, err)
		}
	}
	if _, err := all.Check(data(1, 4, 1000), true); err == nil {
		t.Error("a batch before the last five passed")
	}
	if v, err := all.Check(data(1, 16, 1000), true); err != nil || v.Duplicate {
		t.Errorf("the next: %+v, %v", v, err)
	}
	if ids := all.Incomplete(); len(ids) != 0 {
		t.Errorf("incomplete: %v", ids)
	}

	later := NewManager(time.Hour, time.Hour)
	later.Update(data(2, 0, 200))
	later.Recall(older)
	if v, err := later.Check(data(2, 12, 1000), true); err == nil || v.Duplicate {
		t.Errorf("a sequence of the epoch before: %+v, %v", v, err)
	}
}
