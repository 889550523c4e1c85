package segment

import "time"

// RemoteView is what is known of a partition's part in the tier. It is declared
// here so that replica and tiering need not import each other.
type RemoteView struct {
	Loaded           bool
	HighestOffset    int64 // last offset in the tier, inclusive, -1 = none
	HighestEpoch     int32 // leader epoch of HighestOffset, -1 = none
	StartOffset      int64
	Bytes            int64
	Segments         int64
	PendingSegments  int64 // sealed and not uploaded
	PendingBytes     int64
	OldestUnuploaded time.Time // when the oldest of them was sealed, zero = none
}

// AuxState is what a replica needs to go on from the tier's end (KIP-405's
// remote log auxiliary state).
type AuxState struct {
	LogStart, EndOffset int64        // EndOffset is exclusive
	Epochs              []EpochEntry // lineage up to EndOffset
	ProducerSnapshot    []byte       // Kafka's .snapshot at EndOffset
}

var _ RemoteData = (*Chunk)(nil)
