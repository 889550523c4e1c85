package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is the type of a control record: what its key says.
type ControlType int16

// The control types of transactions.
const (
	ControlAbort  ControlType = 0
	ControlCommit ControlType = 1
)

// EndTxnMarker ends a transaction in one partition.
type EndTxnMarker struct {
	Commit           bool
	CoordinatorEpoch int32
}

// ParseControlType reads the key of a control record.
func ParseControlType(key []byte) (ControlType, error) {
	if len(key) < 4 {
		return 0, fmt.Errorf("%w: control key of %d bytes, want 4", ErrInvalidRecord, len(key))
	}
	if version := int16(binary.BigEndian.Uint16(key)); version < 0 {
		return 0, fmt.Errorf("%w: control key version %d", ErrInvalidRecord, version)
	}
	return ControlType(binary.BigEndian.Uint16(key[2:])), nil
}

// ParseEndTxnMarker reads key and value of a control record of type commit or
// abort. Newer versions of the value only add to its end.
func ParseEndTxnMarker(key, value []byte) (EndTxnMarker, error) {
	t, err := ParseControlType(key)
	if err != nil {
		return EndTxnMarker{}, err
	}
	if t != ControlAbort && t != ControlCommit {
		return EndTxnMarker{}, fmt.Errorf("%w: control type %d ends no transaction", ErrInvalidRecord, t)
	}
	if len(value) < 6 || int16(binary.BigEndian.Uint16(value)) < 0 {
		return EndTxnMarker{}, fmt.Errorf("%w: end of transaction marker %x", ErrInvalidRecord, value)
	}
	return EndTxnMarker{Commit: t == ControlCommit, CoordinatorEpoch: int32(binary.BigEndian.Uint32(value[2:]))}, nil
}

// Key returns the key of the marker's control record.
func (m EndTxnMarker) Key() []byte {
	if m.Commit {
		return []byte{0, 0, 0, byte(ControlCommit)}
	}
	return []byte{0, 0, 0, byte(ControlAbort)}
}

// Value returns the value of the marker's control record, version 0.
func (m EndTxnMarker) Value() []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(m.CoordinatorEpoch))
}

// NewEndTxnBatch returns the control batch that ends the transaction of a
// producer. The timestamp is in milliseconds.
func NewEndTxnBatch(producerID int64, epoch int16, m EndTxnMarker, timestamp int64) Batch {
	b := NewBuilder(BuilderOptions{
		Producer:      &Producer{ID: producerID, Epoch: epoch, BaseSequence: NoSequence},
		Transactional: true,
		Control:       true,
	})
	b.Append(timestamp, m.Key(), m.Value())
	return b.Build()
}
