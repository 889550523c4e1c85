package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

const (
	// largeAnswers is how many large answers are made at the same time: nobody knows
	// what one takes before it is there.
	largeAnswers = 4
	// Up to smallBody bytes of a request, or so many partitions and configurations
	// that it names, an answer is small.
	smallBody       = 64 << 10
	smallPartitions = 1000
	smallConfigs    = 8
)

// answer makes the answer of a request that has its connection to itself. A large one
// is charged before another large one is made, so that those that wait for memory are
// few, however many clients ask and do not read.
func (a *API) answer(ctx context.Context, e *entry, c *call) (wire.Response, error) {
	if !a.answersLargely(c.req, len(c.Body)) {
		return a.made(ctx, e, c), nil
	}
	select {
	case a.making <- struct{}{}:
	case <-ctx.Done():
		return wire.Response{}, ctx.Err()
	}
	defer func() { <-a.making }()
	out := a.made(ctx, e, c)
	return out, c.Charge(ctx, int64(len(out.Buffers[0])))
}

// made runs the handler, charges its time to the client's quota unless it mostly waits,
// and encodes the answer.
func (a *API) made(ctx context.Context, e *entry, c *call) wire.Response {
	began := time.Now()
	resp := e.serve(a, ctx, c)
	if !e.waits {
		c.throttle = max(c.throttle, a.spent(c, began))
	}
	return respond(c, resp)
}

// answersLargely says whether an answer may be much larger than its request.
func (a *API) answersLargely(r kmsg.Request, body int) bool {
	switch req := r.(type) {
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest:
		return false // they wait for each other; the coordinator bounds what members bring
	case *kmsg.MetadataRequest:
		return a.namesManyPartitions(req)
	case *kmsg.DescribeConfigsRequest:
		return len(req.Resources) > smallConfigs
	case *kmsg.OffsetFetchRequest:
		all := req.Version < 8 && req.Topics == nil
		for i := range req.Groups {
			all = all || req.Groups[i].Topics == nil
		}
		return all || body > smallBody
	case *kmsg.ListGroupsRequest, *kmsg.DescribeGroupsRequest, *kmsg.DescribeLogDirsRequest, *kmsg.DescribeClientQuotasRequest,
		*kmsg.ListPartitionReassignmentsRequest, *kmsg.ElectLeadersRequest, *kmsg.CreateTopicsRequest:
		return true
	}
	return body > smallBody
}

func (a *API) namesManyPartitions(req *kmsg.MetadataRequest) bool {
	if req.Topics == nil || len(req.Topics) == 0 && req.Version == 0 || len(req.Topics) > smallPartitions {
		return true
	}
	img, n := a.o.Metadata.Image(), 0
	for i := range req.Topics {
		if name := req.Topics[i].Topic; name != nil {
			if t, ok := img.Topic(*name); ok {
				n += len(t.Partitions)
			}
		} else if t, ok := img.TopicByID(req.Topics[i].TopicID); ok {
			n += len(t.Partitions)
		}
	}
	return n > smallPartitions
}
