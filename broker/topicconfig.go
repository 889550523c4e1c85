package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
)

// lateTxn is how long after transaction.max.timeout.ms an open transaction may
// still be aborted by its coordinator.
const lateTxn = 5 * time.Minute

// topicConfig resolves a topic's stored overrides into what its replicas need. With ErrInvalid the result is good
// all the same: the error says what was left out.
func topicConfig(s *config.Settings, overrides map[string]string) (replica.TopicConfig, error) {
	t, left := s.ResolveStored(overrides)
	target, err := record.ParseTarget(t.CompressionType)
	if err != nil {
		return replica.TopicConfig{}, fmt.Errorf("compression.type: %w", err)
	}
	b := s.Broker()
	c := segment.Config{
		SegmentBytes: t.SegmentBytes, SegmentAge: t.SegmentAge, SegmentJitter: t.SegmentJitter,
		IndexIntervalBytes: t.IndexIntervalBytes, IndexBytes: t.SegmentIndexBytes, MaxMessageBytes: t.MaxMessageBytes,
		RetentionBytes: t.RetentionBytes, RetentionAge: t.RetentionAge,
		LocalRetentionBytes: t.LocalRetentionBytes, LocalRetentionAge: t.LocalRetentionAge,
		DeleteDelay: t.FileDeleteDelay, FlushMessages: t.FlushMessages, FlushInterval: t.FlushInterval,
		TimestampBeforeMax: t.TimestampBefore, TimestampAfterMax: t.TimestampAfter,
		Compression: target, Preallocate: t.Preallocate,
		Compact: t.Compact, Delete: t.Delete,
		RemoteEnabled: t.RemoteEnabled, CopyMaxAge: t.RemoteCopyMaxAge,
		ProducerExpiration: b.ProducerExpiration, MaxTxnAge: b.MaxTransactionTimeout + lateTxn,
	}
	if t.RemoteCopyDisabled {
		c.CopyMaxAge = 0 // nothing is uploaded, so nothing need be sealed for it
	}
	if t.LogAppendTime {
		c.TimestampType = record.LogAppendTime
	}
	return replica.TopicConfig{
		Log: c, MinInSyncReplicas: int(t.MinInSyncReplicas), LeavesTier: !t.RemoteEnabled && t.RemoteDeleteOnDisable,
		LeaderThrottled: throttled(t.LeaderThrottled), FollowerThrottled: throttled(t.FollowerThrottled),
	}, left
}

// throttled is nil where no replica is.
func throttled(t config.ThrottledReplicas) func(partition int32, broker metadata.BrokerID) bool {
	if !t.All && len(t.Replicas) == 0 {
		return nil
	}
	return func(partition int32, broker metadata.BrokerID) bool { return t.Has(partition, int32(broker)) }
}

// tierNotNeeded refuses to run without tiered storage while the tier has records of topics that live: they would be
// out of reach, and gone once the log start had moved over them. Kafka refuses too.
func (b *Broker) tierNotNeeded(ctx context.Context) error {
	if b.settings.Load().Broker().RemoteEnabled {
		return nil
	}
	pointers, err := b.metadata.RemotePointers(ctx)
	if err != nil {
		return err
	}
	n := 0
	for tip, p := range pointers {
		if _, lives := b.metadata.Image().TopicByID(tip.Topic); lives && p.EndOffset > p.StartOffset {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("remote.log.storage.system.enable is false, but the object store has records of %d partitions: "+
			"delete their topics first, or set remote.storage.enable=false,remote.log.delete.on.disable=true for them", n)
	}
	return nil
}
