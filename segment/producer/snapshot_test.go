package producer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// goldenSnapshot is laid out by hand from ProducerStateManager's schema. Never
// change it.
const goldenSnapshot = "" +
	"0001" + // version
	"79d8e08a" + // CRC32C
	"00000002" + // two entries
	// producer 7, epoch 3, last sequence 14, last offset 104, delta 4, timestamp,
	// coordinator epoch 2, transaction from offset 100
	"0000000000000007" + "0003" + "0000000e" + "0000000000000068" + "00000004" + "0000018bcfe56800" + "00000002" + "0000000000000064" +
	// producer 1000: only its marker is known
	"00000000000003e8" + "0001" + "ffffffff" + "ffffffffffffffff" + "00000000" + "0000018bcfe56801" + "00000005" + "ffffffffffffffff"

func goldenManager(t *testing.T) *Manager {
	t.Helper()
	m := NewManager(time.Minute, time.Hour)
	end := func(pid int64, epoch int16, coordinator int32, offset, ts int64) {
		if _, err := m.EndTxn(pid, epoch, true, coordinator, offset, ts); err != nil {
			t.Fatal(err)
		}
	}
	end(1000, 1, 5, 98, 1_700_000_000_001)
	end(7, 3, 2, 99, 1)
	m.Update(BatchInfo{ProducerID: 7, Epoch: 3, FirstSequence: 10, LastSequence: 14, FirstOffset: 100, LastOffset: 104,
		Timestamp: 1_700_000_000_000, Transactional: true})
	return m
}

func TestGoldenSnapshot(t *testing.T) {
	m := goldenManager(t)
	if got := hex.EncodeToString(m.Snapshot()); got != goldenSnapshot {
		t.Fatalf("Snapshot\n%s, want\n%s", got, goldenSnapshot)
	}
	raw, err := hex.DecodeString(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	states, err := LoadSnapshot(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := []State{
		{ProducerID: 7, Epoch: 3, LastSequence: 14, LastOffset: 104, LastTimestamp: 1_700_000_000_000, CoordinatorEpoch: 2, TxnFirstOffset: 100},
		{ProducerID: 1000, Epoch: 1, LastSequence: -1, LastOffset: -1, LastTimestamp: 1_700_000_000_001, CoordinatorEpoch: 5, TxnFirstOffset: -1},
	}
	if diff := cmp.Diff(want, states, cmpopts.IgnoreUnexported(State{})); diff != "" {
		t.Error(diff)
	}
	again := NewManager(time.Minute, time.Hour)
	again.Restore(states, m.End(), time.Time{})
	if !bytes.Equal(again.Snapshot(), raw) {
		t.Error("a restored snapshot gives another")
	}
	if at, ok := again.FirstUnstableOffset(); !ok || at != 100 || again.End() != 105 {
		t.Errorf("unstable from %d (%v), end %d", at, ok, again.End())
	}
}

// TestCorruptSnapshotIsRefused flips and cuts every byte.
func TestCorruptSnapshotIsRefused(t *testing.T) {
	good := goldenManager(t).Snapshot()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := LoadSnapshot(bad); !errors.Is(err, ErrCorruptSnapshot) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if _, err := LoadSnapshot(good[:i]); !errors.Is(err, ErrCorruptSnapshot) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := LoadSnapshot(append(bytes.Clone(good), 0)); !errors.Is(err, ErrCorruptSnapshot) {
		t.Errorf("with a byte more: %v", err)
	}
}

// FuzzLoadSnapshot gives arbitrary bytes a right CRC: no panic, memory bounded by
// the length, and what loads is written back.
func FuzzLoadSnapshot(f *testing.F) {
	raw, err := hex.DecodeString(goldenSnapshot)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:10])
	f.Add([]byte("\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= snapshotHeader {
			data = bytes.Clone(data)
			binary.BigEndian.PutUint32(data[2:], crc32.Checksum(data[crcStart:], castagnoli))
		}
		states, err := LoadSnapshot(data)
		if err != nil {
			return
		}
		if cap(states) > len(data)/snapshotEntry {
			t.Errorf("%d bytes became room for %d states", len(data), cap(states))
		}
		m := NewManager(time.Minute, time.Hour)
		m.Restore(states, 0, time.Time{})
		again, err := LoadSnapshot(m.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m.Producers(), again, cmp.AllowUnexported(State{})); diff != "" {
			t.Error(diff)
		}
	})
}
