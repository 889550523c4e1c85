package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
)

const (
	// remoteListOffsetsWait is remote.list.offsets.request.timeout.ms, used where
	// the request (before v10) carries no timeout.
	remoteListOffsetsWait = 30 * time.Second
	// remoteLookups is how many partitions of a request look in the tier at once.
	remoteLookups = 32
)

// minListOffsets is the first version that knows each special timestamp. Other
// negative timestamps mean nothing, in no version.
var minListOffsets = map[int64]int16{
	replica.Latest:                1,
	replica.Earliest:              1,
	replica.MaxTimestamp:          7,
	replica.EarliestLocal:         8,
	replica.LatestTiered:          9,
	replica.EarliestPendingUpload: 11,
}

// listOffsets is ListOffsets (key 2), versions 1–11. v2: isolation level. v4:
// leader epochs (KIP-320). v5: OFFSET_NOT_AVAILABLE (KIP-207). v7: max timestamp
// (KIP-734). v8: earliest local. v9: latest tiered (KIP-1005). v10: timeout
// (KIP-1075). v11: earliest pending upload (KIP-1023).
func (a *API) listOffsets(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	wait := remoteListOffsetsWait
	if req.Version >= 10 && req.TimeoutMillis > 0 {
		wait = time.Duration(req.TimeoutMillis) * time.Millisecond
	}
	named := make(map[metadata.TopicPartition]int)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			named[metadata.TopicPartition{Topic: req.Topics[i].Topic, Partition: req.Topics[i].Partitions[j].Partition}]++
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var remote []func()
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t, rt := &req.Topics[i], &resp.Topics[i]
		rt.Default()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(t.Partitions))
		denied := a.topicAllowed(ctx, c, auth.Describe, t.Topic)
		for j := range t.Partitions {
			q, rp := offsetQuery(req, t, &t.Partitions[j]), &rt.Partitions[j]
			rp.Default()
			rp.Partition, rp.ErrorCode = q.TopicPartition.Partition, denied
			minVersion, special := minListOffsets[q.Timestamp]
			switch {
			case denied != 0:
			case named[q.TopicPartition] > 1:
				rp.ErrorCode = kerr.InvalidRequest.Code
			case q.Timestamp < 0 && (!special || req.Version < minVersion):
				rp.ErrorCode = kerr.UnsupportedVersion.Code
			case a.o.Replicas.MayWait(q):
				remote = append(remote, func() { a.listOffset(ctx, req, q, rp) })
			default:
				a.listOffset(ctx, req, q, rp)
			}
		}
	}
	// Look-ups that wait run side by side.
	var g errgroup.Group
	g.SetLimit(remoteLookups)
	for _, lookup := range remote {
		g.Go(func() error { lookup(); return nil })
	}
	_ = g.Wait() // the errors are in the answers
	return resp
}

func offsetQuery(req *kmsg.ListOffsetsRequest, t *kmsg.ListOffsetsRequestTopic, p *kmsg.ListOffsetsRequestTopicPartition) replica.OffsetQuery {
	return replica.OffsetQuery{
		TopicPartition: metadata.TopicPartition{Topic: t.Topic, Partition: p.Partition},
		Timestamp:      p.Timestamp,
		Epoch:          p.CurrentLeaderEpoch,
		ReadCommitted:  req.IsolationLevel == 1,
		Follower:       req.ReplicaID != -1, // also Kafka's debugging consumer, -2
	}
}

func (a *API) listOffset(ctx context.Context, req *kmsg.ListOffsetsRequest, q replica.OffsetQuery, rp *kmsg.ListOffsetsResponseTopicPartition) {
	found, err := a.o.Replicas.ListOffset(ctx, q)
	if err == nil {
		rp.Offset, rp.Timestamp, rp.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
		return
	}
	switch rp.ErrorCode = codeOf(err); {
	case rp.ErrorCode == kerr.UnknownServerError.Code:
		a.log.Error("list offset", "partition", q.TopicPartition, "timestamp", q.Timestamp, "err", err)
	case rp.ErrorCode == kerr.OffsetNotAvailable.Code && req.Version < 5:
		rp.ErrorCode = kerr.LeaderNotAvailable.Code
	}
}
