package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// maxDescribedPartitions is max.request.partition.size.limit.
const maxDescribedPartitions = 2000

// describeTopicPartitions is DescribeTopicPartitions (key 75), version 0
// (KIP-966): topics in order of name, a page at a time.
func (a *API) describeTopicPartitions(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeTopicPartitionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	img := a.o.Metadata.Image()
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	all := len(names) == 0
	if all {
		for _, t := range img.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if at := req.Cursor; at != nil {
		from, found := slices.BinarySearch(names, at.Topic)
		if at.Partition < 0 || !all && !found {
			return badCursor(resp, names)
		}
		names = names[from:]
	}
	room := min(max(int(req.ResponsePartitionLimit), 1), maxDescribedPartitions)
	for _, name := range names {
		from := 0
		if req.Cursor != nil && name == req.Cursor.Topic {
			from = int(req.Cursor.Partition)
		}
		denied := a.topicAllowed(ctx, c, auth.Describe, name)
		if denied != 0 && all {
			continue
		}
		if room == 0 {
			resp.NextCursor = cursor(name, from)
			return resp
		}
		rt, next := a.describeTopic(ctx, c, img, name, denied, from, room)
		resp.Topics = append(resp.Topics, rt)
		if room -= len(rt.Partitions); next >= 0 {
			resp.NextCursor = cursor(name, next)
			return resp
		}
	}
	return resp
}

// badCursor answers a request that goes on where it cannot. There is no error
// code but the topics'.
func badCursor(resp *kmsg.DescribeTopicPartitionsResponse, names []string) kmsg.Response {
	for i := range names {
		rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
		rt.Topic, rt.ErrorCode, rt.AuthorizedOperations = &names[i], kerr.InvalidRequest.Code, noOperations
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func cursor(topic string, partition int) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	n := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	n.Topic, n.Partition = topic, int32(partition)
	return &n
}

// describeTopic answers at most room partitions from the given one; next is
// the first that did not fit, -1 if all did.
func (a *API) describeTopic(ctx context.Context, c *call, img *metadata.Image, name string, denied int16, from, room int) (kmsg.DescribeTopicPartitionsResponseTopic, int) {
	rt := kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.ErrorCode, rt.AuthorizedOperations = &name, denied, noOperations
	if denied != 0 {
		return rt, -1
	}
	t, ok := img.Topic(name)
	if !ok {
		rt.ErrorCode = unknownTopic(name)
		return rt, -1
	}
	rt.TopicID, rt.IsInternal = t.ID, internalTopic(name)
	rt.AuthorizedOperations = a.operations(ctx, c, auth.Topic, name)
	for n := from; n < len(t.Partitions); n++ {
		if n-from == room {
			return rt, n
		}
		p := &t.Partitions[n]
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		rp.Partition, rp.LeaderID, rp.LeaderEpoch = int32(n), int32(p.Leader), p.LeaderEpoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = brokerIDs(p.Replicas), brokerIDs(p.ISR), offline(img, p)
		rp.EligibleLeaderReplicas, rp.LastKnownELR = []int32{}, []int32{}
		leader, alive := img.Broker(p.Leader)
		if _, _, listens := endpoint(leader, c.Conn.Listener()); !alive {
			rp.LeaderID, rp.ErrorCode = -1, kerr.LeaderNotAvailable.Code
		} else if !listens {
			rp.LeaderID, rp.ErrorCode = -1, kerr.ListenerNotFound.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, -1
}
