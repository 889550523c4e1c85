package replica_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// answerer answers followers as broker/api does, without sessions.
type answerer struct{ m *replica.Manager }

func (answerer) Terms(int16, int16) (wire.Terms, bool) {
	return wire.Terms{MaxBytes: 1 << 20, Pipelined: true}, true
}

func (a answerer) Handle(_ context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	req := kmsg.RequestForKey(r.Key)
	req.SetVersion(r.Version)
	if err := req.ReadFrom(slices.Clone(r.Body)); err != nil {
		return wire.Response{Close: true}, nil
	}
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
		switch req := req.(type) {
		case *kmsg.FetchRequest:
			return wire.Encode(a.fetch(ctx, req)), nil
		case *kmsg.ListOffsetsRequest:
			return wire.Encode(a.listOffsets(ctx, req)), nil
		}
		return wire.Response{Close: true}, nil
	}
}

func (a answerer) fetch(ctx context.Context, req *kmsg.FetchRequest) *kmsg.FetchResponse {
	q := &replica.FetchRequest{
		Replica: metadata.BrokerID(req.ReplicaState.ID), ReplicaEpoch: req.ReplicaState.Epoch, MaxWait: time.Duration(req.MaxWaitMillis) * time.Millisecond,
		MinBytes: int(req.MinBytes), MaxBytes: int(req.MaxBytes),
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			q.Partitions = append(q.Partitions, replica.FetchPartition{
				ID: metadata.TopicIDPartition{Topic: t.TopicID, Partition: p.Partition}, Offset: p.FetchOffset, LogStart: p.LogStartOffset,
				MaxBytes: int(p.PartitionMaxBytes), CurrentEpoch: p.CurrentLeaderEpoch, FetchedEpoch: p.LastFetchedEpoch,
			})
		}
	}
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for i, r := range a.m.Fetch(ctx, q) {
		rt, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		rt.TopicID, rp.Partition, rp.ErrorCode = q.Partitions[i].ID.Topic, q.Partitions[i].ID.Partition, codeOf(r.Err)
		rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = r.HighWatermark, r.LastStable, r.LogStart
		if r.DivergingEpoch >= 0 {
			rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = r.DivergingEpoch, r.DivergingEnd
		}
		if r.Data != nil {
			rp.RecordBatches, _ = r.Data.AppendTo(nil) // a short read shows as a torn batch
			r.Data.Release()
		}
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (a answerer) listOffsets(ctx context.Context, req *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			at, err := a.m.ListOffset(ctx, replica.OffsetQuery{
				TopicPartition: metadata.TopicPartition{Topic: t.Topic, Partition: p.Partition}, Timestamp: p.Timestamp, Epoch: p.CurrentLeaderEpoch, Follower: true,
			})
			rp.Partition, rp.Offset, rp.Timestamp, rp.LeaderEpoch, rp.ErrorCode = p.Partition, at.Offset, at.Timestamp, at.LeaderEpoch, codeOf(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func codeOf(err error) int16 {
	for _, c := range []struct {
		err  error
		code *kerr.Error
	}{
		{replica.ErrNotLeader, kerr.NotLeaderForPartition}, {replica.ErrFencedEpoch, kerr.FencedLeaderEpoch}, {replica.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
		{replica.ErrMovedToTier, kerr.OffsetMovedToTieredStorage}, {segment.ErrOffsetOutOfRange, kerr.OffsetOutOfRange}, {replica.ErrUnknownTopicID, kerr.UnknownTopicID},
	} {
		if errors.Is(err, c.err) {
			return c.code.Code
		}
	}
	if err != nil {
		return kerr.KafkaStorageError.Code
	}
	return 0
}
