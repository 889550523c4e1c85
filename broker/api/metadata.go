package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// noOperations says that authorized operations were not asked for.
const noOperations = -2147483648

// metadata is Metadata (key 3), versions 0–13. v4: auto creation is the
// client's choice. v5: offline replicas. v7: leader epochs. v10: topic ids
// (KIP-516). v12: topics by id alone.
func (a *API) metadata(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	// Version 0 has no null: an empty list asks for all topics.
	all := req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
	asked := uniqueTopics(req.Topics)
	if !all && req.Version < 12 && slices.ContainsFunc(asked, namedByID) {
		return idsNotKnown(resp, asked)
	}
	// What is made now is not in the answer: it is UNKNOWN_TOPIC_OR_PARTITION this
	// time, as in Kafka, and clients ask again.
	img := a.o.Metadata.Image()
	var denied map[string]bool
	if !all {
		denied = a.autoCreate(ctx, c, req, img, asked)
	}
	for _, b := range img.Brokers() {
		host, port, ok := endpoint(b, c.Conn.Listener())
		if !ok || leaving(img, b) {
			continue
		}
		rb := kmsg.NewMetadataResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), host, port, rack(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	id := img.ClusterID()
	resp.ClusterID = &id
	resp.ControllerID = int32(a.controllerID(img, c.Conn.Listener()))
	resp.AuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = a.operations(ctx, c, auth.Cluster, auth.ClusterName)
	}
	if all {
		for _, t := range img.Topics() {
			if a.topicAllowed(ctx, c, auth.Describe, t.Name) == 0 {
				resp.Topics = append(resp.Topics, a.metadataTopic(ctx, c, req, img, t))
			}
		}
		return resp
	}
	resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(asked))
	for _, q := range asked {
		rt := a.askedTopic(ctx, c, req, img, q)
		if q.Topic != nil && denied[*q.Topic] {
			rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// leaving says whether a broker is about to stop and has nothing left that
// clients would come to it for. Whoever asks for metadata now should not choose
// it for his next request: it would meet a closed port.
func leaving(img *metadata.Image, b metadata.Broker) bool {
	if !b.Draining {
		return false
	}
	for _, t := range img.Topics() {
		for i := range t.Partitions {
			if t.Partitions[i].Leader == b.ID {
				return false
			}
		}
	}
	return true
}

// uniqueTopics leaves out what is asked again: a topic named a thousand times
// must not be answered so often.
func uniqueTopics(topics []kmsg.MetadataRequestTopic) []*kmsg.MetadataRequestTopic {
	type key struct {
		name string
		id   metadata.TopicID
	}
	out := make([]*kmsg.MetadataRequestTopic, 0, len(topics))
	seen := make(map[key]struct{}, len(topics))
	for i := range topics {
		q := &topics[i]
		k := key{id: q.TopicID}
		if q.Topic != nil {
			k.name = *q.Topic
		}
		if _, again := seen[k]; !again {
			seen[k] = struct{}{}
			out = append(out, q)
		}
	}
	return out
}

func namedByID(q *kmsg.MetadataRequestTopic) bool {
	return q.Topic == nil || !metadata.TopicID(q.TopicID).IsZero()
}

// idsNotKnown refuses a request of a version that has a field for ids and no use for
// them: KafkaApis.handleTopicMetadataRequest.
func idsNotKnown(resp *kmsg.MetadataResponse, asked []*kmsg.MetadataRequestTopic) kmsg.Response {
	for _, q := range asked {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.TopicID, rt.ErrorCode, rt.AuthorizedOperations = q.Topic, q.TopicID, kerr.InvalidRequest.Code, noOperations
		if q.Topic == nil {
			rt.Topic = kmsg.StringPtr("")
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// askedTopic answers one topic of the request: by id if it has one, else by name.
func (a *API) askedTopic(ctx context.Context, c *call, req *kmsg.MetadataRequest, img *metadata.Image, q *kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.AuthorizedOperations = q.Topic, q.TopicID, noOperations
	if id := metadata.TopicID(q.TopicID); !id.IsZero() || q.Topic == nil {
		t, ok := img.TopicByID(id)
		switch {
		case !ok:
			rt.ErrorCode = kerr.UnknownTopicID.Code
		case a.topicAllowed(ctx, c, auth.Describe, t.Name) != 0:
			rt.ErrorCode = kerr.TopicAuthorizationFailed.Code // the id is no secret, the name is
		default:
			return a.metadataTopic(ctx, c, req, img, t)
		}
		if req.Version >= 12 {
			rt.Topic = nil
		}
		return rt
	}
	name := *q.Topic
	rt.IsInternal = internalTopic(name)
	t, ok := img.Topic(name)
	switch {
	case a.topicAllowed(ctx, c, auth.Describe, name) != 0:
		rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
	case ok:
		return a.metadataTopic(ctx, c, req, img, t)
	default:
		rt.ErrorCode = unknownTopic(name)
	}
	return rt
}

// unknownTopic is the code for a topic that does not exist, or never can.
func unknownTopic(name string) int16 {
	if metadata.ValidTopicName(name) != nil {
		return kerr.InvalidTopicException.Code
	}
	return kerr.UnknownTopicOrPartition.Code
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
		rp.Replicas, rp.ISR, rp.OfflineReplicas = brokerIDs(p.Replicas), brokerIDs(p.ISR), offline(img, p)
		if franzGo(c) && a.o.Settings().Broker().ReplayClient(c.ClientID) {
			rp.Replicas = append(rp.Replicas, replayBrokers(img)...)
		}
		leader, alive := img.Broker(p.Leader)
		_, _, listens := endpoint(leader, c.Conn.Listener())
		switch {
		case !alive:
			rp.Leader, rp.ErrorCode = -1, kerr.LeaderNotAvailable.Code
		case !listens && req.Version < 6:
			rp.Leader, rp.ErrorCode = -1, kerr.LeaderNotAvailable.Code
		case !listens:
			rp.Leader, rp.ErrorCode = -1, kerr.ListenerNotFound.Code
		case req.Version == 0 && len(rp.OfflineReplicas) > 0:
			// Clients of that age get replicas that live, and an error for the rest.
			rp.ErrorCode = kerr.ReplicaNotAvailable.Code
		}
		if req.Version == 0 {
			gone := func(id int32) bool { return slices.Contains(rp.OfflineReplicas, id) }
			rp.Replicas, rp.ISR = slices.DeleteFunc(rp.Replicas, gone), slices.DeleteFunc(rp.ISR, gone)
		}
	}
	return rt
}

// franzGo says whether a client is franz-go, which follows a preferred read
// replica only to brokers that it has seen among the replicas of a topic it
// reads (kgo 1.22, metadata.go), and would else ask its leader for ever.
// Consumers whose client id is one of replay.client.ids see replay brokers there.
func franzGo(c *call) bool {
	name, _ := c.Conn.Software()
	return name == "kgo"
}

func replayBrokers(img *metadata.Image) []int32 {
	var ids []int32
	for _, b := range img.Brokers() {
		if b.Role == metadata.RoleReplay && !b.Draining {
			ids = append(ids, int32(b.ID))
		}
	}
	return ids
}

// controllerID is the broker that clients are to send what a controller decides
// to. Here any broker does that work, so while none is elected, or the one that
// is cannot be reached from the client's listener, it is this one.
func (a *API) controllerID(img *metadata.Image, listener string) metadata.BrokerID {
	b, live := img.Broker(img.Controller())
	if _, _, listens := endpoint(b, listener); live && listens {
		return b.ID
	}
	return a.o.Broker
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
func endpoint(b metadata.Broker, listener string) (host string, port int32, ok bool) {
	for _, l := range b.Listeners {
		if l.Name == listener {
			return l.Host, l.Port, true
		}
	}
	return "", -1, false
}

func brokerIDs(ids []metadata.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

func offline(img *metadata.Image, p *metadata.Partition) []int32 {
	out := []int32{}
	for _, id := range p.Replicas {
		if _, ok := img.Broker(id); !ok || slices.Contains(p.Offline, id) {
			out = append(out, int32(id))
		}
	}
	return out
}
