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
	for i := range req.Topics {
		q := &req.Topics[i]
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = q.Topic
		err := errDuplicateTopic
		if named[q.Topic] == 1 {
			err = a.growTopic(ctx, c, q, req.ValidateOnly)
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (a *API) growTopic(ctx context.Context, c *call, q *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	if a.topicAllowed(ctx, c, auth.Alter, q.Topic) != 0 {
		return errDenied
	}
	img := a.o.Metadata.Image()
	t, ok := img.Topic(q.Topic)
	if !ok {
		return fmt.Errorf("topic %q: %w", q.Topic, metadata.ErrUnknownTopic)
	}
	have, want := len(t.Partitions), int(q.Count)
	if internalTopic(q.Topic) {
		return errInternalTopic
	}
	if want <= have {
		return fmt.Errorf("%w: topic %q has %d partitions, %d asked for", errInvalidPartitions, q.Topic, have, want)
	}
	factor := len(t.Partitions[0].Replicas)
	var added [][]metadata.BrokerID
	if len(q.Assignment) > 0 {
		if len(q.Assignment) != want-have {
			return fmt.Errorf("%w: %d new partitions, %d assignments", errInvalidAssignment, want-have, len(q.Assignment))
		}
		for _, as := range q.Assignment {
			if len(as.Replicas) != factor {
				return fmt.Errorf("%w: the topic has replication factor %d", errInvalidAssignment, factor)
			}
			added = append(added, typedIDs(as.Replicas))
		}
		if err := checkAssignments(img, added); err != nil {
			return err
		}
	} else {
		var err error
		if added, err = controller.Place(img.Brokers(), want-have, factor, have); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	if err := a.o.Metadata.AddPartitions(ctx, q.Topic, added); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, topicReady)
	defer cancel()
	if err := a.o.Replicas.WaitTopic(ctx, t.ID); err != nil {
		a.log.Warn("partitions created but not served yet", "topic", t.Name, "err", err)
	}
	return nil
}
