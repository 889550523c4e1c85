package api

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

const (
	// largeAnswers is how many large answers of a kind are made at the same time:
	// nobody knows what one takes before it is there.
	largeAnswers = 4
	// Up to smallBody bytes of a request, or so many partitions and configurations
	// that it names, an answer is small.
	smallBody       = 64 << 10
	smallPartitions = 1000
	smallConfigs    = 8
	// answerShare is more than what an answer that only says something of each thing
	// named takes for a byte of its request.
	answerShare = 8
)

// place is where a large answer is made.
type place chan struct{}

// places are those of each kind of large answer. One that waits for something keeps
// its place meanwhile: so while etcd is away, or the log of a coordinator does not
// get on, nobody who asks for metadata waits for those who wait for that.
type places struct {
	image  place // made of what this broker has in memory
	groups place // wait for a coordinator
	etcd   place // wait for a decision of the cluster
}

func newPlaces() places {
	return places{image: make(place, largeAnswers), groups: make(place, largeAnswers), etcd: make(place, largeAnswers)}
}

// answer makes the answer of a request that has its connection to itself. A large one
// is charged before another large one of its kind is made, so that those that wait for
// memory are few, however many clients ask and do not read.
func (a *API) answer(ctx context.Context, e *entry, c *call) (wire.Response, error) {
	at := a.placeOf(e, c)
	if at == nil {
		if e.waits && len(c.Body) > smallBody {
			// It may wait as long as its client likes, for a log, a follower or the tier.
			if err := c.Charge(ctx, answerShare*int64(len(c.Body))); err != nil {
				return wire.Response{}, err
			}
		}
		return a.made(ctx, e, c), nil
	}
	select {
	case at <- struct{}{}:
	case <-ctx.Done():
		return wire.Response{}, ctx.Err()
	}
	defer func() { <-at }()
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

// placeOf is where an answer is made that may be much larger than its request; nil
// for any other.
func (a *API) placeOf(e *entry, c *call) place {
	large := len(c.Body) > smallBody
	switch req := c.req.(type) {
	case *kmsg.MetadataRequest:
		if !a.namesManyPartitions(req) {
			return nil
		}
		if a.mayCreate(req) {
			return a.places.etcd
		}
		return a.places.image
	case *kmsg.DescribeConfigsRequest:
		large = len(req.Resources) > smallConfigs
	case *kmsg.OffsetFetchRequest:
		all := req.Version < 8 && req.Topics == nil
		for i := range req.Groups {
			all = all || req.Groups[i].Topics == nil
		}
		if all || large {
			return a.places.groups
		}
	case *kmsg.ListGroupsRequest, *kmsg.DescribeGroupsRequest:
		return a.places.groups
	case *kmsg.ElectLeadersRequest, *kmsg.CreateTopicsRequest:
		return a.places.etcd
	case *kmsg.DescribeLogDirsRequest, *kmsg.DescribeClientQuotasRequest, *kmsg.ListPartitionReassignmentsRequest:
		return a.places.image
	case *kmsg.FindCoordinatorRequest:
		if large {
			return a.places.etcd // it may make the topic of the groups
		}
	}
	switch {
	case !large || e.waits: // its answer says something of each thing named, no more
		return nil
	case e.decides:
		return a.places.etcd
	}
	return a.places.image
}

// mayCreate says whether a request may make topics: autoCreate.
func (a *API) mayCreate(req *kmsg.MetadataRequest) bool {
	if req.Version >= 4 && !req.AllowAutoTopicCreation || !a.limits().autoCreate {
		return false
	}
	img := a.o.Metadata.Image()
	return slices.ContainsFunc(req.Topics, func(q kmsg.MetadataRequestTopic) bool {
		if q.Topic == nil {
			return false
		}
		_, exists := img.Topic(*q.Topic)
		return !exists
	})
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
