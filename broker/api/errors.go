package api

import (
	"context"
	"errors"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
)

// codes maps what the domain returns to Kafka's errors, most specific first.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	{replica.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{replica.ErrUnknownTopicID, kerr.UnknownTopicID},
	{replica.ErrNotLeader, kerr.NotLeaderForPartition},
	{replica.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{replica.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{replica.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{replica.ErrOffsetNotAvailable, kerr.OffsetNotAvailable},
	{replica.ErrNotEnoughReplicasAfterAppend, kerr.NotEnoughReplicasAfterAppend},
	{replica.ErrTimedOut, kerr.RequestTimedOut},
	{replica.ErrPartitionOffline, kerr.KafkaStorageError},
	{replica.ErrMovedToTier, kerr.OffsetMovedToTieredStorage},
	// The store is away or an object is damaged: a client retries, and does not
	// take it for the end of the log.
	{replica.ErrRemote, kerr.KafkaStorageError},
	{replica.ErrKeepsRecords, kerr.PolicyViolation},
	{segment.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{segment.ErrOffline, kerr.KafkaStorageError},
	{segment.ErrClosed, kerr.NotLeaderForPartition},
	{segment.ErrFenced, kerr.NotLeaderForPartition},
	// The log directory or its quota is full, or descriptors are short: retriable,
	// and it heals when there is room.
	{syscall.ENOSPC, kerr.KafkaStorageError},
	{syscall.EDQUOT, kerr.KafkaStorageError},
	{syscall.EMFILE, kerr.KafkaStorageError},
	{syscall.ENFILE, kerr.KafkaStorageError},
	{producer.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{producer.ErrDuplicateSequence, kerr.DuplicateSequenceNumber},
	{producer.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{producer.ErrInvalidTxnState, kerr.InvalidTxnState},
	{producer.ErrTransactionCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{record.ErrTooLarge, kerr.MessageTooLarge},
	{record.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{record.ErrInvalidRecord, kerr.InvalidRecord},
	{errZstd, kerr.UnsupportedCompressionType},
	{errAcks, kerr.InvalidRequiredAcks},
	{errInner, kerr.InvalidTopicException},
	{segment.ErrInvalidBatch, kerr.InvalidRecord},
	{record.ErrCorrupt, kerr.CorruptMessage},
	// Kafka finds no batch at all in bytes that end within the first.
	{record.ErrTorn, kerr.InvalidRecord},
	{record.ErrMagic, kerr.InvalidRecord}, // of a format before v2; of none, the batch is corrupt
	{segment.ErrCorrupt, kerr.KafkaStorageError},
	{metadata.ErrTopicExists, kerr.TopicAlreadyExists},
	{metadata.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
	{metadata.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{metadata.ErrConflict, kerr.RequestTimedOut}, // retriable, and nothing happened
	{controller.ErrTooFewBrokers, kerr.InvalidReplicationFactor},
	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

// codeOf is Kafka's error code for err; 0 for nil, UNKNOWN_SERVER_ERROR (-1)
// for what should not happen.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code.Code
		}
	}
	return kerr.UnknownServerError.Code
}
