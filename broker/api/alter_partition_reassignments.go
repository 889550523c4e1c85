package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// alterPartitionReassignments is AlterPartitionReassignments (key 45), versions
// 0–1 (KIP-455). Null replicas cancel. v1: whether the number of replicas may
// change (KIP-860). It returns when the moves have begun.
func (a *API) alterPartitionReassignments(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	if !a.clusterAllowed(ctx, c, auth.Alter) {
		resp.ErrorCode, resp.ErrorMessage = adminError(errClusterDenied)
		return resp
	}
	total := 0
	for i := range req.Topics {
		total += len(req.Topics[i].Partitions)
	}
	if total > maxDecisions {
		resp.ErrorCode, resp.ErrorMessage = adminError(errTooMany)
		return resp
	}
	asked := make([]decision, 0, total)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			asked = append(asked, reassignmentAsked(req, &req.Topics[i], &req.Topics[i].Partitions[j]))
		}
	}
	a.decide(ctx, asked)
	resp.Topics = make([]kmsg.AlterPartitionAssignmentsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		rt := &resp.Topics[i]
		rt.Default()
		rt.Topic = req.Topics[i].Topic
		rt.Partitions = make([]kmsg.AlterPartitionAssignmentsResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			rp.Default()
			if rp.Partition = asked[0].tp.Partition; asked[0].err != nil {
				rp.ErrorCode, rp.ErrorMessage = adminError(asked[0].err)
			}
			asked = asked[1:]
		}
	}
	return resp
}

func reassignmentAsked(req *kmsg.AlterPartitionAssignmentsRequest, t *kmsg.AlterPartitionAssignmentsRequestTopic, q *kmsg.AlterPartitionAssignmentsRequestTopicPartition) decision {
	var target []metadata.BrokerID
	if q.Replicas != nil {
		target = typedIDs(q.Replicas)
	}
	return decision{
		tp: metadata.TopicPartition{Topic: t.Topic, Partition: q.Partition},
		plan: func(im *metadata.Image, t *metadata.Topic) (metadata.PartitionChange, error) {
			p := &t.Partitions[q.Partition]
			// What a move in progress is to leave is what there is, as far as this is concerned.
			if have := len(p.Replicas) - len(p.Removing); target != nil && !req.AllowReplicationFactorChange && len(target) != have {
				return metadata.PartitionChange{}, fmt.Errorf("%w: the replication factor is changed from %d to %d", errInvalidReplication, have, len(target))
			}
			return controller.Reassign(im, t, q.Partition, target)
		},
	}
}
