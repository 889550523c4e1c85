package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// createPartitions is CreatePartitions (key 37), versions 0–3 (KIP-195).
func (a *API) createPartitions(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	named := make(map[string]int)
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	created := 0
	for i := range req.Topics {
		q := &req.Topics[i]
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = q.Topic
		n, err := 0, errDuplicateTopic
		if named[q.Topic] == 1 {
			n, err = a.growTopic(ctx, c, q, req.ValidateOnly, maxNewPartitions-created)
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
		}
		created += n
		resp.Topics = append(resp.Topics, rt)
	}
	if !req.ValidateOnly {
		a.mutated(c, created)
	}
	return resp
}

// growTopic adds at most so many partitions to a topic and returns how many.
func (a *API) growTopic(ctx context.Context, c *call, q *kmsg.CreatePartitionsRequestTopic, validateOnly bool, most int) (int, error) {
	if a.topicAllowed(ctx, c, auth.Alter, q.Topic) != 0 {
		return 0, errDenied
	}
	img := a.o.Metadata.Image()
	t, ok := img.Topic(q.Topic)
	have, want := 0, int(q.Count)
	if ok {
		have = len(t.Partitions)
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("topic %q: %w", q.Topic, metadata.ErrUnknownTopic)
	case internalTopic(q.Topic):
		return 0, errInternalTopic
	case want <= have:
		return 0, fmt.Errorf("%w: topic %q has %d partitions, %d asked for", errInvalidPartitions, q.Topic, have, want)
	case want-have > most:
		return 0, errTooMany
	}
	added, err := placeMore(img, t, q, want-have)
	if err != nil || validateOnly {
		return len(added), err
	}
	if err := a.o.Metadata.AddPartitions(ctx, q.Topic, added); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, topicReady)
	defer cancel()
	if err := a.o.Replicas.WaitTopic(ctx, t.ID); err != nil {
		a.log.Warn("partitions created but not served yet", "topic", t.Name, "err", err)
	}
	return len(added), nil
}

// placeMore chooses replicas for n more partitions, or takes those of the request.
func placeMore(img *metadata.Image, t *metadata.Topic, q *kmsg.CreatePartitionsRequestTopic, n int) ([][]metadata.BrokerID, error) {
	factor := len(t.Partitions[0].Replicas)
	if q.Assignment == nil {
		return controller.Place(img.Brokers(), n, factor, len(t.Partitions))
	}
	if len(q.Assignment) != n {
		return nil, fmt.Errorf("%w: %d new partitions, %d assignments", errInvalidAssignment, n, len(q.Assignment))
	}
	added := make([][]metadata.BrokerID, n)
	for i, as := range q.Assignment {
		if len(as.Replicas) != factor {
			return nil, fmt.Errorf("%w: the topic has replication factor %d", errInvalidAssignment, factor)
		}
		added[i] = typedIDs(as.Replicas)
	}
	return added, checkAssignments(img, added)
}
