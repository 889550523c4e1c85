package api

import (
	"context"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
)

// fetch is Fetch (key 1), versions 4–18. v7: sessions (KIP-227). v9: current
// leader epoch (KIP-320). v11: preferred read replicas (KIP-392). v12: diverging
// epoch (KIP-595). v13: topic ids (KIP-516). v15: replica state with the broker
// epoch (KIP-903). v16: node endpoints (KIP-951). v17 and v18 concern the quorum
// of controllers only.
//
// What is fetched, by which topics' ids and in which step of the session, is
// settled on arrival; only the wait for records is pending.
//
// Followers replicate under a quota of their own (KIP-73), so nothing that
// clients are held to counts their fetches.
func (a *API) fetch(ctx context.Context, c *call) (wire.Response, wire.Pending) {
	req := c.req.(*kmsg.FetchRequest)
	fc, code := a.openFetch(req, c.Received)
	if code != 0 {
		e := fetchEncoder{version: req.Version, code: code}
		return e.response(), nil
	}
	c.exempt = isFollower(req) && a.clusterAllowed(ctx, c, auth.ClusterAction)
	if c.exempt && a.registered(req) {
		c.Prefer()
	}
	if err := c.Charge(ctx, int64(len(fc.targets))*fetchTargetBytes); err != nil {
		return wire.Response{Close: true, Failed: true}, nil // the connection is gone
	}
	fc.plan, fc.answers = a.fetchPlan(ctx, c, req, fc)
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) { return a.runFetch(ctx, c, req, fc), nil }
}

// registered says whether a fetch is of a broker of this cluster, which knows its own
// epoch, and not of somebody who calls himself one.
func (a *API) registered(req *kmsg.FetchRequest) bool {
	b, ok := a.o.Metadata.Image().Broker(replicaOf(req))
	return ok && b.Epoch == replicaEpochOf(req)
}

// fetchTargetBytes is what a partition takes while it is fetched: the target, its
// plan, its answer, and as many bytes of the response as it has without records.
const fetchTargetBytes = int64(unsafe.Sizeof(fetchTarget{})+unsafe.Sizeof(fetchAnswer{})+unsafe.Sizeof(replica.FetchPartition{})+unsafe.Sizeof(replica.FetchResult{})) + 64

// runFetch waits for the records that a fetch has asked for, and answers.
func (a *API) runFetch(ctx context.Context, c *call, req *kmsg.FetchRequest, fc *fetchContext) wire.Response {
	if !c.exempt {
		fc.plan.Remote = a.o.Quotas.Remote(c.principal.Name, c.ClientID, time.Now())
	}
	if len(fc.plan.Partitions) > 0 {
		for i, r := range a.o.Replicas.Fetch(wire.Idle(ctx), fc.plan) {
			fc.answers[fc.plan.Partitions[i].Tag].take(a, req.Version, r)
		}
	}
	now := time.Now()
	e := fetchEncoder{version: req.Version, committed: req.IsolationLevel == 1}
	if !c.exempt {
		e.throttle = max(c.throttle, a.chargeFetch(c, fc.plan, fc.answers, now))
	}
	e.answers, e.sessionID, e.code = a.settle(req, fc, fc.answers, now)
	for i := range e.answers {
		f := &e.answers[i]
		if e.version >= 16 && (f.code == kerr.NotLeaderForPartition.Code || f.code == kerr.FencedLeaderEpoch.Code) {
			f.leader, e.nodes = a.hint(c, metadata.TopicPartition{Topic: f.topic, Partition: f.partition}, e.nodes)
		}
	}
	return e.response()
}

// chargeFetch counts what a fetch gives against the client's quotas. A client that
// came back too early, by another connection, gets no records, as in Kafka.
func (a *API) chargeFetch(c *call, fr *replica.FetchRequest, answers []fetchAnswer, now time.Time) time.Duration {
	size := 0
	for i := range answers {
		size += answers[i].Size()
	}
	throttle, ok := a.o.Quotas.Spend(quota.Fetch, c.principal.Name, c.ClientID, float64(size), now)
	if !ok {
		release(answers)
		for i := range answers {
			answers[i].Data, answers[i].Aborted = nil, nil
		}
		fr.Remote.Undo(now)
	}
	return max(throttle, fr.Remote.Throttled())
}

func (f *fetchAnswer) take(a *API, version int16, r replica.FetchResult) {
	f.FetchResult = r
	f.code = codeOf(r.Err)
	switch {
	case f.code == kerr.UnknownServerError.Code:
		a.log.Error("fetch", "topic", f.topic, "partition", f.partition, "offset", f.offset, "err", r.Err)
	case f.code == kerr.UnknownTopicID.Code && version < 13:
		f.code = kerr.UnknownTopicOrPartition.Code
	case f.code == kerr.KafkaStorageError.Code && version <= 5:
		// Clients of that age do not know the code; this one makes them retry.
		f.code = kerr.NotLeaderForPartition.Code
	}
}

// replicaOf is the broker id of a follower, negative for a consumer.
func replicaOf(req *kmsg.FetchRequest) metadata.BrokerID {
	if req.Version >= 15 {
		return metadata.BrokerID(req.ReplicaState.ID)
	}
	return metadata.BrokerID(req.ReplicaID)
}

// replicaEpochOf is the follower's broker epoch, -1 where it did not say one.
func replicaEpochOf(req *kmsg.FetchRequest) int64 {
	if req.Version >= 15 {
		return req.ReplicaState.Epoch
	}
	return -1
}

// fetchPlan turns targets into what the replica manager reads; those that may
// not be read or do not exist have their answer already. As in Kafka those do
// not end the wait for the others: a client that asks again and again for a
// topic that is gone does not spin.
func (a *API) fetchPlan(ctx context.Context, c *call, req *kmsg.FetchRequest, fc *fetchContext) (*replica.FetchRequest, []fetchAnswer) {
	maxBytes := min(int(req.MaxBytes), int(a.limits().fetchMaxBytes))
	if burst, ok := a.o.Quotas.Burst(quota.Fetch, c.principal.Name, c.ClientID); ok && !c.exempt {
		maxBytes = int(min(float64(maxBytes), burst)) // more could only be throttled
	}
	fr := &replica.FetchRequest{
		Replica:       replicaOf(req),
		ReplicaEpoch:  replicaEpochOf(req),
		Rack:          req.Rack,
		User:          c.principal.Name,
		ClientID:      c.ClientID,
		Conn:          c.Conn.ID(),
		AnyReplica:    req.Version >= 11,
		ReplicasOnly:  franzGo(c),
		MaxWait:       time.Duration(req.MaxWaitMillis) * time.Millisecond,
		MinBytes:      min(int(req.MinBytes), maxBytes),
		MaxBytes:      maxBytes,
		ReadCommitted: req.IsolationLevel == 1,
		Partitions:    make([]replica.FetchPartition, 0, len(fc.targets)),
	}
	denied := int16(0)
	if fr.Replica >= 0 && !c.exempt {
		denied = kerr.TopicAuthorizationFailed.Code
	}
	answers := make([]fetchAnswer, len(fc.targets))
	var topic *metadata.Topic
	var code int16
	for i := range fc.targets {
		t := &fc.targets[i]
		f := &answers[i]
		f.fetchTarget, f.FetchResult = *t, replica.NoFetchResult(nil)
		f.named = t.key()
		if i == 0 || !t.sameTopic(&fc.targets[i-1]) {
			if topic, code = a.fetchTopic(ctx, c, req.Version, t, fr.Replica >= 0); denied != 0 {
				code = denied
			}
		}
		if topic != nil {
			f.topic = topic.Name
		}
		f.code = code
		if (code == 0 || code == kerr.InconsistentTopicID.Code) && (t.partition < 0 || int(t.partition) >= len(topic.Partitions)) {
			f.code = kerr.UnknownTopicOrPartition.Code
		}
		if f.code == kerr.InconsistentTopicID.Code {
			fr.MaxWait = 0 // Kafka finds this in the log, which ends the wait
		}
		if f.code != 0 {
			continue
		}
		fr.Partitions = append(fr.Partitions, replica.FetchPartition{
			ID:     metadata.TopicIDPartition{Topic: topic.ID, Partition: t.partition},
			Offset: t.offset, MaxBytes: int(t.maxBytes), CurrentEpoch: t.currentEpoch, FetchedEpoch: t.fetchedEpoch, LogStart: t.replicaStart, Tag: i,
		})
	}
	return fr, answers
}

// fetchTopic finds a target's topic and says whether it may be read. An id stands
// for the name that it had when it was resolved, as in Kafka's sessions: if no topic
// has the name any more, or another one has it, the client is told which.
func (a *API) fetchTopic(ctx context.Context, c *call, version int16, t *fetchTarget, follower bool) (*metadata.Topic, int16) {
	img := a.o.Metadata.Image()
	name := t.topic
	if version >= 13 {
		if name = t.known; name == "" {
			return nil, kerr.UnknownTopicID.Code
		}
	}
	if !follower {
		if code := a.topicAllowed(ctx, c, auth.Read, name); code != 0 {
			return nil, code
		}
	}
	topic, ok := img.Topic(name)
	switch {
	case !ok:
		return nil, kerr.UnknownTopicOrPartition.Code
	case version >= 13 && topic.ID != t.id:
		return topic, kerr.InconsistentTopicID.Code
	}
	return topic, 0
}
