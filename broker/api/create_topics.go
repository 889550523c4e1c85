package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
)

// createTopics is CreateTopics (key 19), versions 2–7. v4: defaults by -1
// (KIP-464). v5: the created configuration (KIP-525). v7: topic ids.
func (a *API) createTopics(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	named := make(map[string]int)
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		q := &req.Topics[i]
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = q.Topic, -1, -1
		var err error
		if named[q.Topic] > 1 {
			err = errDuplicateTopic
		} else {
			err = a.createAsked(ctx, c, req, q, &rt)
		}
		if err != nil {
			rt.ErrorCode, rt.ErrorMessage = adminError(err)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
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
	switch _, exists := a.o.Metadata.Image().Topic(q.Topic); {
	case !a.clusterAllowed(ctx, c, auth.Create) && a.topicAllowed(ctx, c, auth.Create, q.Topic) != 0:
		return errDenied
	case metadata.ValidTopicName(q.Topic) != nil:
		return metadata.ValidTopicName(q.Topic)
	case internalTopic(q.Topic):
		return errInternalTopic
	case exists:
		return fmt.Errorf("topic %q: %w", q.Topic, metadata.ErrTopicExists)
	}
	s, err := specOf(q)
	if err != nil {
		return err
	}
	if s.configs, err = a.o.Settings().ReplaceTopic(nil, s.configs); err != nil {
		return err
	}
	if err := a.place(&s); err != nil {
		return err
	}
	rt.NumPartitions, rt.ReplicationFactor = s.partitions, s.replication
	rt.Configs = a.createdConfigs(s.configs)
	if req.ValidateOnly {
		return nil
	}
	t, err := a.createTopic(ctx, s)
	if err != nil {
		return err
	}
	rt.TopicID = t.ID
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
		{metadata.ErrInvalidTopicName, kerr.InvalidTopicException},
		{config.ErrInvalidRequest, kerr.InvalidRequest},
		{config.ErrInvalid, kerr.InvalidConfig},
	} {
		if errors.Is(err, m.err) {
			return m.code.Code, &msg
		}
	}
	return codeOf(err), &msg
}
