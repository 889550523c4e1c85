package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// noOperations says that authorized operations were not asked for.
const noOperations = -2147483648

// metadata is Metadata (key 3), versions 0–13. v4: auto creation is the
// client's choice. v7: leader epochs. v10: topic ids (KIP-516).
func (a *API) metadata(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	// Version 0 has no null: an empty list asks for all topics.
	all := req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
	if !all {
		a.autoCreate(ctx, c, req)
	}
	img := a.o.Metadata.Image()
	for _, b := range img.Brokers() {
		host, port := endpoint(b, c.Conn.Listener())
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), host, port, rack(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	id := img.ClusterID()
	resp.ClusterID = &id
	resp.ControllerID = int32(img.Controller())
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = a.operations(ctx, c, auth.Cluster, auth.ClusterName)
	} else {
		resp.AuthorizedOperations = noOperations
	}
	if all {
		for _, t := range img.Topics() {
			if a.topicAllowed(ctx, c, auth.Describe, t.Name) == 0 {
				resp.Topics = append(resp.Topics, a.metadataTopic(ctx, c, req, img, t))
			}
		}
		return resp
	}
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, a.askedTopic(ctx, c, req, img, &req.Topics[i]))
	}
	return resp
}

// askedTopic answers one topic of the request, by name or by id.
func (a *API) askedTopic(ctx context.Context, c *call, req *kmsg.MetadataRequest, img *metadata.Image, q *kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	var t *metadata.Topic
	found := false
	missing := kerr.UnknownTopicOrPartition.Code
	if q.Topic != nil {
		t, found = img.Topic(*q.Topic)
	} else {
		t, found = img.TopicByID(q.TopicID)
		missing = kerr.UnknownTopicID.Code
	}
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.AuthorizedOperations = q.Topic, q.TopicID, noOperations
	switch {
	case q.Topic != nil && a.topicAllowed(ctx, c, auth.Describe, *q.Topic) != 0:
		rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
	case q.Topic != nil && metadata.ValidTopicName(*q.Topic) != nil:
		rt.ErrorCode = kerr.InvalidTopicException.Code
	case !found || a.topicAllowed(ctx, c, auth.Describe, t.Name) != 0:
		rt.ErrorCode = missing
	default:
		return a.metadataTopic(ctx, c, req, img, t)
	}
	return rt
}

func (a *API) metadataTopic(ctx context.Context, c *call, req *kmsg.MetadataRequest, img *metadata.Image, t *metadata.Topic) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal, rt.AuthorizedOperations = &t.Name, t.ID, internalTopic(t.Name), noOperations
	if req.IncludeTopicAuthorizedOperations {
		rt.AuthorizedOperations = a.operations(ctx, c, auth.Topic, t.Name)
	}
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for n := range t.Partitions {
		p, rp := &t.Partitions[n], &rt.Partitions[n]
		rp.Default()
		rp.Partition, rp.Leader, rp.LeaderEpoch = int32(n), int32(p.Leader), p.LeaderEpoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = brokerIDs(p.Replicas), brokerIDs(p.ISR), offline(img, p.Replicas)
		if _, alive := img.Broker(p.Leader); p.Leader == metadata.NoBroker || !alive {
			rp.Leader, rp.ErrorCode = -1, kerr.LeaderNotAvailable.Code
		}
	}
	return rt
}

// autoCreate creates missing topics where client and broker both want it.
func (a *API) autoCreate(ctx context.Context, c *call, req *kmsg.MetadataRequest) {
	if req.Version >= 4 && !req.AllowAutoTopicCreation || !a.o.Settings().Broker().AutoCreateTopics {
		return
	}
	img := a.o.Metadata.Image()
	for i := range req.Topics {
		q := &req.Topics[i]
		if q.Topic == nil {
			continue
		}
		if _, ok := img.Topic(*q.Topic); ok || metadata.ValidTopicName(*q.Topic) != nil || internalTopic(*q.Topic) {
			continue
		}
		if a.topicAllowed(ctx, c, auth.Create, *q.Topic) != 0 && !a.clusterAllowed(ctx, c, auth.Create) {
			continue
		}
		if _, err := a.createOnce(ctx, topicSpec{name: *q.Topic, partitions: -1, replication: -1}); err != nil {
			a.log.Warn("create topic automatically", "topic", *q.Topic, "err", err)
		}
	}
}

func (a *API) operations(ctx context.Context, c *call, kind auth.ResourceType, name string) int32 {
	return a.o.Authorizer.AuthorizedOperations(ctx, c.principal, c.host, auth.Resource{Type: kind, Name: name})
}

func rack(b metadata.Broker) *string {
	if b.Rack == "" {
		return nil
	}
	return &b.Rack
}

// endpoint is the broker's address for clients of the named listener.
func endpoint(b metadata.Broker, listener string) (host string, port int32) {
	for _, l := range b.Listeners {
		if l.Name == listener {
			return l.Host, l.Port
		}
	}
	if len(b.Listeners) > 0 {
		return b.Listeners[0].Host, b.Listeners[0].Port
	}
	return "", -1
}

func brokerIDs(ids []metadata.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

func offline(img *metadata.Image, replicas []metadata.BrokerID) []int32 {
	out := []int32{}
	for _, id := range replicas {
		if _, ok := img.Broker(id); !ok {
			out = append(out, int32(id))
		}
	}
	return out
}
