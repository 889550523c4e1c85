package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
)

// remoteListOffsetsWait is remote.list.offsets.request.timeout.ms, used where
// the request (before v10) carries no timeout.
const remoteListOffsetsWait = 30 * time.Second

// minListOffsets is the first version that knows each special timestamp.
var minListOffsets = map[int64]int16{
	replica.MaxTimestamp:          7,
	replica.EarliestLocal:         8,
	replica.LatestTiered:          9,
	replica.EarliestPendingUpload: 11,
}

// listOffsets is ListOffsets (key 2), versions 1–11. v2: isolation level. v4:
// leader epochs (KIP-320). v7: max timestamp (KIP-734). v8: earliest local.
// v9: latest tiered (KIP-1005). v10: timeout (KIP-1075). v11: earliest pending
// upload (KIP-1023).
func (a *API) listOffsets(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	wait := remoteListOffsetsWait
	if req.Version >= 10 && req.TimeoutMillis > 0 {
		wait = time.Duration(req.TimeoutMillis) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for i := range req.Topics {
		t := &req.Topics[i]
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		denied := a.topicAllowed(ctx, c, auth.Describe, t.Topic)
		for j := range t.Partitions {
			rp := a.listOffset(ctx, req, t.Topic, &t.Partitions[j], denied)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (a *API) listOffset(ctx context.Context, req *kmsg.ListOffsetsRequest, topic string, q *kmsg.ListOffsetsRequestTopicPartition, denied int16) kmsg.ListOffsetsResponseTopicPartition {
	rp := kmsg.NewListOffsetsResponseTopicPartition()
	rp.Partition, rp.ErrorCode, rp.Offset, rp.Timestamp = q.Partition, denied, -1, -1
	if denied != 0 {
		return rp
	}
	if min, special := minListOffsets[q.Timestamp]; special && req.Version < min {
		rp.ErrorCode = kerr.UnsupportedVersion.Code
		return rp
	}
	found, err := a.o.Replicas.ListOffset(ctx, replica.OffsetQuery{
		TopicPartition: metadata.TopicPartition{Topic: topic, Partition: q.Partition},
		Timestamp:      q.Timestamp,
		Epoch:          q.CurrentLeaderEpoch,
		ReadCommitted:  req.IsolationLevel == 1,
		Follower:       req.ReplicaID >= 0,
	})
	if rp.ErrorCode = codeOf(err); err != nil {
		if rp.ErrorCode == kerr.UnknownServerError.Code {
			a.log.Error("list offset", "topic", topic, "partition", q.Partition, "timestamp", q.Timestamp, "err", err)
		}
		return rp
	}
	rp.Offset, rp.Timestamp, rp.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
	return rp
}
