package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
)

// produced is one partition of a produce request after its append.
type produced struct {
	topic     int // index in the request
	partition int32
	appended  replica.Appended
	code      int16
	message   string
	index     int32 // of the record at fault, -1 if none
}

// produce is Produce (key 0), versions 3–13. It appends in arrival order on
// the read loop; the wait for acks is pending, so many requests of one
// connection are in flight. v8: record errors (KIP-467). v10: current leader
// (KIP-951). v13: topic ids.
func (a *API) produce(ctx context.Context, c *call) (wire.Response, wire.Pending) {
	req := c.req.(*kmsg.ProduceRequest)
	now := time.Now()
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	parts := make([]produced, 0, n)
	for i := range req.Topics {
		parts = a.produceTopic(ctx, c, req, i, now, parts)
	}
	if req.Acks == 0 {
		for i := range parts {
			if parts[i].code != 0 {
				// Nobody reads an answer: closing is how Kafka tells.
				return wire.Response{Close: true}, nil
			}
		}
		return wire.Response{None: true}, nil
	}
	throttle := a.o.Quotas.Record(quota.Produce, c.principal.Name, c.ClientID, float64(len(c.Body)), now)
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
		a.awaitAcks(ctx, req, parts)
		resp := produceResponse(req, parts)
		resp.ThrottleMillis = int32(throttle.Milliseconds())
		out := respond(resp)
		out.Throttle = throttle
		return out, nil
	}
}

func (a *API) produceTopic(ctx context.Context, c *call, req *kmsg.ProduceRequest, i int, now time.Time, parts []produced) []produced {
	t := &req.Topics[i]
	name, id, code := t.Topic, metadata.TopicID(t.TopicID), int16(0)
	if c.Version >= 13 {
		if topic, ok := a.o.Metadata.Image().TopicByID(id); ok {
			name = topic.Name
		} else {
			code = kerr.UnknownTopicID.Code
		}
	}
	if code == 0 {
		code = a.topicAllowed(ctx, c, auth.Write, name)
	}
	switch {
	case req.Acks < -1 || req.Acks > 1:
		code = kerr.InvalidRequiredAcks.Code
	case code == 0 && internalTopic(name) && c.ClientID != adminClient:
		code = kerr.InvalidTopicException.Code
	}
	for j := range t.Partitions {
		p := produced{topic: i, partition: t.Partitions[j].Partition, code: code, index: -1}
		if code == 0 {
			a.produceOne(&p, name, t.Partitions[j].Records, replica.Acks(req.Acks), now)
		}
		parts = append(parts, p)
	}
	return parts
}

// adminClient may write to internal topics: Kafka checks for the same client id.
const adminClient = "__admin_client"

func (a *API) produceOne(p *produced, topic string, records []byte, acks replica.Acks, now time.Time) {
	tp := metadata.TopicPartition{Topic: topic, Partition: p.partition}
	var err error
	if p.appended, err = a.o.Replicas.Append(tp, records, acks, segment.Client, now); err == nil {
		return
	}
	p.fail(err)
	if p.code == kerr.UnknownServerError.Code {
		a.log.Error("append", "partition", tp, "err", err)
	}
}

func (p *produced) fail(err error) {
	p.code = codeOf(err)
	var re *record.RecordError
	if errors.As(err, &re) {
		p.index = int32(re.Index)
	}
	if p.code != kerr.NotLeaderForPartition.Code {
		p.message = err.Error()
	}
}

// awaitAcks waits for all partitions within the request's timeout.
func (a *API) awaitAcks(ctx context.Context, req *kmsg.ProduceRequest, parts []produced) {
	var cancel context.CancelFunc
	for i := range parts {
		p := &parts[i]
		if p.code != 0 || p.appended.Done() {
			continue
		}
		if cancel == nil {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(req.TimeoutMillis)*time.Millisecond)
			defer cancel()
		}
		if err := p.appended.Wait(ctx); err != nil {
			p.fail(err)
		}
	}
}

func produceResponse(req *kmsg.ProduceRequest, parts []produced) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.Topics))
	all := make([]kmsg.ProduceResponseTopicPartition, len(parts))
	for i := range req.Topics {
		t := &resp.Topics[i]
		t.Default()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		n := len(req.Topics[i].Partitions)
		t.Partitions, all = all[:n:n], all[n:]
		for j := range t.Partitions {
			parts[j].answer(&t.Partitions[j])
		}
		parts = parts[n:]
	}
	return resp
}

func (p *produced) answer(r *kmsg.ProduceResponseTopicPartition) {
	r.Default()
	r.Partition, r.ErrorCode = p.partition, p.code
	if p.code != 0 {
		r.BaseOffset, r.LogAppendTime, r.LogStartOffset = -1, -1, -1
		if p.message != "" {
			r.ErrorMessage = &p.message
		}
		if p.index >= 0 {
			e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			e.RelativeOffset, e.ErrorMessage = p.index, &p.message
			r.ErrorRecords = append(r.ErrorRecords, e)
		}
		return
	}
	r.BaseOffset, r.LogAppendTime, r.LogStartOffset = p.appended.FirstOffset, p.appended.LogAppendTime, p.appended.LogStart
}
