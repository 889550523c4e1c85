package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// createTopics is CreateTopics (key 19), versions 2–7. v4: defaults by -1
// (KIP-464). v5: the created configuration (KIP-525). v7: topic ids.
func (a *API) createTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	named := make(map[string]int)
	total := 0
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
		total += max(a.partitionsAsked(&req.Topics[i]), 1)
	}
	created := 0
	for i := range req.Topics {
		q := &req.Topics[i]
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor, rt.Configs = q.Topic, -1, -1, []kmsg.CreateTopicsResponseTopicConfig{}
		var err error
		switch {
		case named[q.Topic] > 1:
			err = errDuplicateTopic
		case total > maxNewPartitions:
			err = errTooMany
		default:
			err = a.createAsked(ctx, c, req, q, &rt)
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
		} else if !req.ValidateOnly {
			created += a.partitionsAsked(q)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	a.mutated(c, created)
	return resp
}

// partitionsAsked is how many partitions a topic shall have, 0 if that makes no sense.
func (a *API) partitionsAsked(q *kmsg.CreateTopicsRequestTopic) int {
	switch {
	case len(q.ReplicaAssignment) > 0:
		return len(q.ReplicaAssignment)
	case q.NumPartitions == -1:
		return int(a.o.Settings().Broker().NumPartitions)
	}
	return max(int(q.NumPartitions), 0)
}

// mutated charges partitions that were created or deleted to the client's
// controller mutation quota (KIP-599).
func (a *API) mutated(c *call, partitions int) {
	if partitions > 0 {
		c.throttle = max(c.throttle, a.o.Quotas.Record(quota.ControllerMutation, c.principal.Name, c.ClientID, float64(partitions), c.Received))
	}
}

var (
	errDuplicateTopic = errors.New("topic is named more than once in the request")
	errDenied         = errors.New("not authorized")
	errClusterDenied  = errors.New("not authorized for the cluster")
	errInternalTopic  = errors.New("internal topics are made and deleted by the broker only")
	errProtected      = errors.New("topic has delete.protection=true")
	errDisabled       = errors.New("delete.topic.enable is false")
	errUnknownID      = errors.New("no topic has this id")
)

func (a *API) createAsked(ctx context.Context, c *call, req *kmsg.CreateTopicsRequest, q *kmsg.CreateTopicsRequestTopic, rt *kmsg.CreateTopicsResponseTopic) error {
	if !a.clusterAllowed(ctx, c, auth.Create) && a.topicAllowed(ctx, c, auth.Create, q.Topic) != 0 {
		return errDenied
	}
	if err := newTopicName(a.o.Metadata.Image(), q.Topic); err != nil {
		return err
	}
	if reservedTopic(q.Topic) {
		return errInternalTopic
	}
	if _, exists := a.o.Metadata.Image().Topic(q.Topic); exists {
		return fmt.Errorf("topic %q: %w", q.Topic, metadata.ErrTopicExists)
	}
	s, err := specOf(q)
	if err != nil {
		return err
	}
	if s.configs, err = a.o.Settings().CreateTopic(s.configs); err != nil {
		return err
	}
	if err := a.place(&s); err != nil {
		return err
	}
	if !req.ValidateOnly {
		t, err := a.createTopic(ctx, s)
		if err != nil {
			return err
		}
		rt.TopicID = t.ID
	}
	if req.Version < 5 {
		return nil
	}
	if a.topicAllowed(ctx, c, auth.DescribeConfigs, q.Topic) != 0 {
		rt.ConfigErrorCode = kerr.TopicAuthorizationFailed.Code
		return nil
	}
	rt.NumPartitions, rt.ReplicationFactor = s.partitions, s.replication
	rt.Configs = a.createdConfigs(s.configs)
	return nil
}

func specOf(q *kmsg.CreateTopicsRequestTopic) (topicSpec, error) {
	s := topicSpec{name: q.Topic, partitions: q.NumPartitions, replication: q.ReplicationFactor, configs: make(map[string]string)}
	for _, kv := range q.Configs {
		if _, twice := s.configs[kv.Name]; twice {
			return s, fmt.Errorf("%w: configuration %s is given twice", config.ErrInvalidRequest, kv.Name)
		}
		if kv.Value == nil {
			return s, fmt.Errorf("%w: null value not supported for topic configs: %s", config.ErrInvalid, kv.Name)
		}
		s.configs[kv.Name] = *kv.Value
	}
	if len(q.ReplicaAssignment) == 0 {
		return s, nil
	}
	if q.NumPartitions != -1 || q.ReplicationFactor != -1 {
		return s, fmt.Errorf("%w: partitions and replication factor must be -1 when replicas are assigned", config.ErrInvalidRequest)
	}
	s.assignments = make([][]metadata.BrokerID, len(q.ReplicaAssignment))
	for _, as := range q.ReplicaAssignment {
		if as.Partition < 0 || int(as.Partition) >= len(s.assignments) || s.assignments[as.Partition] != nil {
			return s, fmt.Errorf("%w: partitions must be 0 to %d, each once; got %d", errInvalidAssignment, len(s.assignments)-1, as.Partition)
		}
		s.assignments[as.Partition] = typedIDs(as.Replicas)
	}
	return s, nil
}

func typedIDs(ids []int32) []metadata.BrokerID {
	out := make([]metadata.BrokerID, len(ids))
	for i, id := range ids {
		out[i] = metadata.BrokerID(id)
	}
	return out
}

func (a *API) createdConfigs(overrides map[string]string) []kmsg.CreateTopicsResponseTopicConfig {
	entries := a.o.Settings().DescribeTopic(overrides)
	out := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(entries))
	for _, e := range entries {
		rc := kmsg.NewCreateTopicsResponseTopicConfig()
		rc.Name, rc.Value, rc.ReadOnly, rc.IsSensitive, rc.Source = e.Name, e.Value, e.ReadOnly, e.Sensitive, int8(e.Source)
		out = append(out, rc)
	}
	return out
}

// adminError is the code and message of an error of the admin APIs.
func adminError(err error) (int16, *string) {
	msg := err.Error()
	for _, m := range []struct {
		err  error
		code *kerr.Error
	}{
		{errDuplicateTopic, kerr.InvalidRequest},
		{errDenied, kerr.TopicAuthorizationFailed},
		{errClusterDenied, kerr.ClusterAuthorizationFailed},
		{errInternalTopic, kerr.InvalidTopicException},
		{errProtected, kerr.PolicyViolation},
		{errDisabled, kerr.TopicDeletionDisabled},
		{errUnknownID, kerr.UnknownTopicID},
		{errInvalidPartitions, kerr.InvalidPartitions},
		{errInvalidReplication, kerr.InvalidReplicationFactor},
		{errInvalidAssignment, kerr.InvalidReplicaAssignment},
		{controller.ErrInvalidReplicas, kerr.InvalidReplicaAssignment},
		{controller.ErrNoReassignment, kerr.NoReassignmentInProgress},
		{controller.ErrElectionNotNeeded, kerr.ElectionNotNeeded},
		{controller.ErrPreferredNotAvailable, kerr.PreferredLeaderNotAvailable},
		{controller.ErrNoEligibleLeader, kerr.EligibleLeadersNotAvailable},
		{errElectionType, kerr.InvalidRequest},
		{errDuplicatePartition, kerr.InvalidRequest},
		{metadata.ErrUnknownBroker, kerr.BrokerIDNotRegistered},
		{metadata.ErrBrokerLive, kerr.InvalidRequest},
		{metadata.ErrBrokerHasReplicas, kerr.InvalidRequest},
		{errTooMany, kerr.PolicyViolation},
		{errBothNames, kerr.InvalidRequest},
		{metadata.ErrInvalidTopicName, kerr.InvalidTopicException},
		{config.ErrInvalidRequest, kerr.InvalidRequest},
		{config.ErrInvalid, kerr.InvalidConfig},
		{quota.ErrInvalid, kerr.InvalidRequest},
		{errQuotaEntity, kerr.UnsupportedVersion},
	} {
		if errors.Is(err, m.err) {
			return m.code.Code, &msg
		}
	}
	return codeOf(err), &msg
}
