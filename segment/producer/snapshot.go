package producer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	snapshotVersion = 1
	snapshotHeader  = 10
	snapshotEntry   = 46
	crcStart        = 6
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot returns the state as the content of a .snapshot file, which Kafka reads
// too. Its name is End. The same state gives the same bytes.
func (m *Manager) Snapshot() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, snapshotHeader+len(m.producers)*snapshotEntry)
	b = be.AppendUint16(b, snapshotVersion)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(len(m.producers)))
	for _, s := range m.Producers() {
		b = be.AppendUint64(b, uint64(s.ProducerID))
		b = be.AppendUint16(b, uint16(s.Epoch))
		b = be.AppendUint32(b, uint32(s.LastSequence))
		b = be.AppendUint64(b, uint64(s.LastOffset))
		b = be.AppendUint32(b, uint32(s.lastDelta))
		b = be.AppendUint64(b, uint64(s.LastTimestamp))
		b = be.AppendUint32(b, uint32(s.CoordinatorEpoch))
		b = be.AppendUint64(b, uint64(s.TxnFirstOffset))
	}
	be.PutUint32(b[2:], crc32.Checksum(b[crcStart:], castagnoli))
	return b
}

// LoadSnapshot reads the content of a .snapshot file, for Manager.Restore. It
// returns ErrCorruptSnapshot for anything but a whole, sound snapshot.
func LoadSnapshot(b []byte) ([]State, error) {
	be := binary.BigEndian
	if len(b) < snapshotHeader {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorruptSnapshot, len(b))
	}
	if v := int16(be.Uint16(b)); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d", ErrCorruptSnapshot, v)
	}
	if got, want := crc32.Checksum(b[crcStart:], castagnoli), be.Uint32(b[2:]); got != want {
		return nil, fmt.Errorf("%w: CRC32C %08x, want %08x", ErrCorruptSnapshot, got, want)
	}
	n := int64(be.Uint32(b[crcStart:]))
	if int64(len(b)) != snapshotHeader+n*snapshotEntry {
		return nil, fmt.Errorf("%w: %d bytes for %d entries", ErrCorruptSnapshot, len(b), n)
	}
	out := make([]State, 0, n)
	for b = b[snapshotHeader:]; len(b) > 0; b = b[snapshotEntry:] {
		s := State{
			ProducerID:       int64(be.Uint64(b)),
			Epoch:            int16(be.Uint16(b[8:])),
			LastSequence:     int32(be.Uint32(b[10:])),
			LastOffset:       int64(be.Uint64(b[14:])),
			lastDelta:        int32(be.Uint32(b[22:])),
			LastTimestamp:    int64(be.Uint64(b[26:])),
			CoordinatorEpoch: int32(be.Uint32(b[34:])),
			TxnFirstOffset:   int64(be.Uint64(b[38:])),
		}
		if s.ProducerID < 0 || s.lastDelta < 0 {
			return nil, fmt.Errorf("%w: producer %d with offset delta %d", ErrCorruptSnapshot, s.ProducerID, s.lastDelta)
		}
		out = append(out, s)
	}
	return out, nil
}
