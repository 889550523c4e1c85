package replica

import (
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/segment"
)

// Error codes that a leader answers a follower with. They are on the wire, so
// this client of other brokers has to know them; api writes them.
const (
	codeNone               = 0
	codeOffsetOutOfRange   = 1
	codeUnknownPartition   = 3
	codeNotLeader          = 6
	codeStorageError       = 56
	codeSessionIDNotFound  = 70
	codeInvalidSession     = 71
	codeFencedLeaderEpoch  = 74
	codeUnknownLeaderEpoch = 75
	codeUnknownTopicID     = 100
	codeInconsistentID     = 103
	codeSessionTopicID     = 106
	codeMovedToTier        = 109
)

// errLeader is an error that only the leader knows the reason of.
var errLeader = errors.New("leader answers with an error")

// errorOf is the error a code stands for.
func errorOf(code int16) error {
	switch code {
	case codeNone:
		return nil
	case codeOffsetOutOfRange:
		return segment.ErrOffsetOutOfRange
	case codeUnknownPartition:
		return ErrUnknownPartition
	case codeNotLeader:
		return ErrNotLeader
	case codeStorageError:
		return fmt.Errorf("%w: its log directory is offline", errLeader)
	case codeSessionIDNotFound, codeInvalidSession, codeSessionTopicID:
		return errSession
	case codeFencedLeaderEpoch:
		return ErrFencedEpoch
	case codeUnknownLeaderEpoch:
		return ErrUnknownEpoch
	case codeUnknownTopicID, codeInconsistentID: // the name may be another topic's by now
		return ErrUnknownTopicID
	case codeMovedToTier:
		return ErrMovedToTier
	default:
		return fmt.Errorf("%w: code %d", errLeader, code)
	}
}
