package api

import (
	"context"
	"errors"
	"fmt"
	"syscall"
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
	topic     string // "" when it is not known
	partition int32
	appended  replica.Appended
	code      int16
	message   string
	index     int32 // of the record at fault, -1 if none
	leader    *leaderHint
}

// produce is Produce (key 0), versions 3–13. It appends in arrival order on
// the read loop; the wait for acks is pending, so many requests of one
// connection are in flight. v7: zstd (KIP-110). v8: record errors (KIP-467).
// v10: current leader (KIP-951). v13: topic ids (KIP-516).
func (a *API) produce(ctx context.Context, c *call) (wire.Response, wire.Pending) {
	req := c.req.(*kmsg.ProduceRequest)
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	parts := make([]produced, 0, n)
	denied := a.transactionDenied(ctx, c, req)
	for i := range req.Topics {
		parts = a.produceTopic(ctx, c, req, &req.Topics[i], denied, parts)
	}
	throttle := max(c.throttle, a.o.Quotas.Record(quota.Produce, c.principal.Name, c.ClientID, float64(c.Size), c.Received))
	if req.Acks == 0 {
		if anyOf(parts, func(p *produced) int16 { return p.code }) {
			// Nobody reads an answer: closing is how Kafka tells.
			return wire.Response{Close: true, Failed: true}, nil
		}
		return wire.Response{None: true, Throttle: throttle}, nil
	}
	return wire.Response{}, func(ctx context.Context) (wire.Response, error) {
		a.awaitAcks(ctx, req, parts)
		e := produceEncoder{version: req.Version, throttle: throttle, topics: req.Topics, parts: parts}
		for i := range parts {
			p := &parts[i]
			switch {
			case p.code == kerr.KafkaStorageError.Code && req.Version <= 3:
				// Clients of that age do not know the code; this one makes them retry.
				p.code = kerr.NotLeaderForPartition.Code
			case p.code == kerr.NotLeaderForPartition.Code && req.Version >= 10:
				p.leader, e.nodes = a.hint(c, metadata.TopicPartition{Topic: p.topic, Partition: p.partition}, e.nodes)
			}
		}
		return e.response(), nil
	}
}

// transactionDenied is the error code of every partition of a request with records
// of a transaction that cannot be its sender's: KafkaApis.handleProduceRequest asks
// for a transactional id that it may use, ReplicaManager.handleProduceAppend for one
// producer. Whether the transaction is open, the log asks.
func (a *API) transactionDenied(ctx context.Context, c *call, req *kmsg.ProduceRequest) int16 {
	producer, transactional := record.NoProducerID, false
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			b, _, err := record.Next(req.Topics[i].Partitions[j].Records)
			if err != nil || !b.IsTransactional() {
				continue
			}
			switch {
			case transactional && b.ProducerID() != producer:
				return kerr.InvalidProducerIDMapping.Code
			case !transactional && (req.TransactionID == nil || !a.allowed(ctx, c, auth.Write, auth.TransactionalID, *req.TransactionID)):
				return kerr.TransactionalIDAuthorizationFailed.Code
			}
			producer, transactional = b.ProducerID(), true
		}
	}
	return 0
}

func (a *API) produceTopic(ctx context.Context, c *call, req *kmsg.ProduceRequest, t *kmsg.ProduceRequestTopic, code int16, parts []produced) []produced {
	var topic *metadata.Topic
	if code == 0 {
		topic, code = a.topicToWrite(ctx, c, t)
	}
	name := t.Topic
	if topic != nil {
		name = topic.Name
	}
	for j := range t.Partitions {
		q := &t.Partitions[j]
		p := produced{topic: name, partition: q.Partition, code: code, index: -1, appended: replica.NotAppended()}
		if code == 0 {
			a.produceOne(c, &p, topic, q.Records, replica.Acks(req.Acks))
		}
		parts = append(parts, p)
	}
	return parts
}

// topicToWrite finds a topic by id or name and says whether it may be written.
// From here on it is its id that counts: not another topic of that name.
func (a *API) topicToWrite(ctx context.Context, c *call, t *kmsg.ProduceRequestTopic) (*metadata.Topic, int16) {
	img := a.o.Metadata.Image()
	if c.Version >= 13 {
		topic, ok := img.TopicByID(t.TopicID)
		if !ok {
			return nil, kerr.UnknownTopicID.Code
		}
		return topic, a.topicAllowed(ctx, c, auth.Write, topic.Name)
	}
	if code := a.topicAllowed(ctx, c, auth.Write, t.Topic); code != 0 {
		return nil, code
	}
	topic, ok := img.Topic(t.Topic)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition.Code
	}
	return topic, 0
}

// adminClient may write to internal topics: Kafka checks for the same client id.
const adminClient = "__admin_client"

var (
	errZstd  = errors.New("produce requests before version 7 cannot carry zstd")
	errAcks  = errors.New("acks must be -1, 0 or 1")
	errInner = errors.New("internal topics are written by the broker only")
)

// produceOne appends one partition's records. What is wrong with them is said by
// any broker, whoever leads the partition.
func (a *API) produceOne(c *call, p *produced, topic *metadata.Topic, records []byte, acks replica.Acks) {
	err := checkProduce(c.Version, records)
	switch {
	case p.partition < 0 || int(p.partition) >= len(topic.Partitions):
		err = replica.ErrUnknownPartition
	case err != nil:
	case acks < replica.AcksAll || acks > replica.Acks1:
		err = errAcks
	case internalTopic(p.topic) && c.ClientID != adminClient:
		err = errInner
	default:
		var partition *replica.Partition
		partition, err = a.o.Replicas.PartitionByID(metadata.TopicIDPartition{Topic: topic.ID, Partition: p.partition})
		if err == nil {
			p.appended, err = a.o.Replicas.AppendTo(partition, records, acks, segment.Client, c.Received)
		}
	}
	if err == nil {
		return
	}
	p.fail(err)
	if p.code == kerr.UnknownServerError.Code {
		a.log.Error("append", "topic", p.topic, "partition", p.partition, "err", err)
	}
}

// checkProduce holds what a producer sends to ProduceRequest.validateRecords:
// one batch, of the present format, compressed as the version may know.
func checkProduce(version int16, records []byte) error {
	b, rest, err := record.Next(records)
	switch {
	case len(records) == 0:
		return fmt.Errorf("%w: no record batch", record.ErrInvalidRecord)
	case err != nil:
		return err
	case len(rest) > 0:
		return fmt.Errorf("%w: more than one record batch", record.ErrInvalidRecord)
	case version < 7 && b.Compression() == record.Zstd:
		return errZstd
	}
	return nil
}

// fail notes why nothing was appended or acknowledged. What is wrong with this
// broker's disks is not told to clients.
func (p *produced) fail(err error) {
	p.code, p.message = codeOf(err), ""
	if p.code == kerr.UnknownTopicID.Code {
		p.code = kerr.UnknownTopicOrPartition.Code // found a moment ago, by whatever name
	}
	var re *record.RecordError
	if errors.As(err, &re) {
		p.index = int32(re.Index)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		p.message = "the disk of the log directory is full"
	case p.code == kerr.NotLeaderForPartition.Code, p.code == kerr.KafkaStorageError.Code, p.code == kerr.UnknownServerError.Code:
	default:
		p.message = err.Error()
	}
}

// awaitAcks waits for all partitions. The request's timeout bounds the wait for
// followers, as in Kafka, where the leader's own write is no part of it: this
// broker's sync takes the time that it takes. A producer that asks for no time at
// all, and writes to a topic without followers, is answered when its records are
// durable, and does not send them again.
func (a *API) awaitAcks(ctx context.Context, req *kmsg.ProduceRequest, parts []produced) {
	for i := range parts {
		if p := &parts[i]; p.code == 0 {
			if err := p.appended.WaitSynced(ctx); err != nil {
				p.fail(err)
			}
		}
	}
	var timer *time.Timer
	var late error
	for i := range parts {
		p := &parts[i]
		if p.code != 0 || p.appended.Done() {
			continue
		}
		if late != nil {
			p.fail(late)
			continue
		}
		if timer == nil {
			timer = time.NewTimer(time.Duration(req.TimeoutMillis) * time.Millisecond)
			defer timer.Stop()
		}
		if err := p.appended.WaitOr(ctx, timer.C); err != nil {
			if errors.Is(err, replica.ErrTimedOut) {
				late = err
			}
			p.fail(err)
		}
	}
}
