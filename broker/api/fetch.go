package api

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
)

// fetchMaxBytes is Kafka's fetch.max.bytes of the broker.
const fetchMaxBytes = 57671680

// fetch is Fetch (key 1), versions 4–18. v7: sessions (KIP-227). v9: current
// leader epoch (KIP-320). v12: diverging epoch (KIP-595). v13: topic ids
// (KIP-516). v15: replica state (KIP-903). v16: node endpoints (KIP-951).
// v17 and v18 concern the quorum and follower high watermarks only.
func (a *API) fetch(_ context.Context, c *call) (wire.Response, wire.Pending) {
	req := c.req.(*kmsg.FetchRequest)
	fc, code := a.openFetch(req, time.Now())
	if code != 0 {
		e := fetchEncoder{version: req.Version, code: code}
		return e.response(nil), nil
	}
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
		return a.runFetch(ctx, c, req, fc), nil
	}
}

func (a *API) runFetch(ctx context.Context, c *call, req *kmsg.FetchRequest, fc *fetchContext) wire.Response {
	fr, answers := a.fetchPlan(ctx, c, req, fc)
	for i, r := range a.o.Replicas.Fetch(ctx, fr) {
		answers[fr.Partitions[i].Tag].result(a, r)
	}
	out := a.settle(fc, answers)
	size := 0
	for i := range out {
		size += out[i].size()
	}
	throttle := a.o.Quotas.Record(quota.Fetch, c.principal.Name, c.ClientID, float64(size), time.Now())
	e := fetchEncoder{version: req.Version, throttle: throttle, sessionID: fc.sessionID}
	return e.response(out)
}

// fetchAnswer is one partition of a fetch response.
type fetchAnswer struct {
	part *sessionPartition
	code int16
	replica.FetchResult
}

func (f *fetchAnswer) size() int {
	if f.Data == nil {
		return 0
	}
	return int(f.Data.Len())
}

func (f *fetchAnswer) result(a *API, r replica.FetchResult) {
	f.FetchResult = r
	if f.code = codeOf(r.Err); f.code == kerr.UnknownServerError.Code {
		a.log.Error("fetch", "partition", f.part.name, "offset", f.part.offset, "err", r.Err)
	}
}

// fetchPlan turns the session's partitions into what the replica manager
// reads; those that may not be read have their answer already.
func (a *API) fetchPlan(ctx context.Context, c *call, req *kmsg.FetchRequest, fc *fetchContext) (*replica.FetchRequest, []fetchAnswer) {
	fr := &replica.FetchRequest{
		Replica:       metadata.BrokerID(req.ReplicaID),
		MaxWait:       time.Duration(req.MaxWaitMillis) * time.Millisecond,
		MinBytes:      int(req.MinBytes),
		MaxBytes:      min(int(req.MaxBytes), fetchMaxBytes),
		ReadCommitted: req.IsolationLevel == 1,
		Partitions:    make([]replica.FetchPartition, 0, len(fc.parts)),
	}
	if req.Version >= 15 {
		fr.Replica = metadata.BrokerID(req.ReplicaState.ID)
	}
	answers := make([]fetchAnswer, len(fc.parts))
	for i, p := range fc.parts {
		answers[i] = fetchAnswer{part: p, FetchResult: replica.FetchResult{HighWatermark: -1, LastStable: -1, LogStart: -1, DivergingEpoch: -1}}
		if req.Version >= 13 {
			topic, ok := a.o.Metadata.Image().TopicByID(p.id.Topic)
			if !ok {
				answers[i].code = kerr.UnknownTopicID.Code
			} else {
				p.name.Topic = topic.Name
			}
		}
		if answers[i].code == 0 {
			answers[i].code = a.topicAllowed(ctx, c, auth.Read, p.name.Topic)
		}
		if answers[i].code != 0 {
			fr.MaxWait = 0
			continue
		}
		q := replica.FetchPartition{Name: p.name, Offset: p.offset, MaxBytes: int(p.maxBytes), CurrentEpoch: p.currentEpoch, FetchedEpoch: p.fetchedEpoch, Tag: i}
		if req.Version >= 13 {
			q.ID, q.ByID = p.id, true
		}
		fr.Partitions = append(fr.Partitions, q)
	}
	return fr, answers
}

// settle decides which partitions the response names: all of a full fetch,
// of an incremental one those with something new.
func (a *API) settle(fc *fetchContext, answers []fetchAnswer) []fetchAnswer {
	if fc.session == nil {
		return answers
	}
	gave := make(map[*sessionPartition]bool)
	out := answers[:0:len(answers)]
	for i := range answers {
		f := &answers[i]
		p := f.part
		changed := f.code != 0 || f.Data != nil || f.DivergingEpoch >= 0 || p.failed ||
			f.HighWatermark != p.highWatermark || f.LogStart != p.logStart
		p.highWatermark, p.logStart, p.failed = f.HighWatermark, f.LogStart, f.code != 0
		if f.Data != nil {
			gave[p] = true
		}
		if changed || !fc.incremental {
			out = append(out, *f)
		}
	}
	fc.session.rotate(gave)
	return out
}
