package compat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segment "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is twmb/franz-go, idempotent by default.
type franz struct{}

func (franz) produce(ctx context.Context, addr, topic, codec string, recs []rec) error {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[codec]))
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range recs {
		r := &kgo.Record{Partition: recs[i].Partition, Key: []byte(recs[i].Key), Value: []byte(recs[i].Value), Headers: []kgo.RecordHeader{{Key: recs[i].HeaderK, Value: []byte(recs[i].HeaderV)}}}
		if i%50 == 49 { // several batches
			if err := cl.Flush(ctx); err != nil {
				return err
			}
		}
		cl.Produce(ctx, r, func(_ *kgo.Record, e error) { err = errors.Join(err, e) })
	}
	return errors.Join(cl.Flush(ctx), err)
}

func (franz) consume(ctx context.Context, addr, topic, group string, n int) (out []rec, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for len(out) < n {
		fs := cl.PollRecords(ctx, n-len(out))
		if err := fs.Err(); err != nil {
			return out, err
		}
		fs.EachRecord(func(r *kgo.Record) {
			x := rec{Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), Value: string(r.Value), codec: codecs[r.Attrs.CompressionType()]}
			for _, h := range r.Headers {
				x.HeaderK, x.HeaderV = h.Key, string(h.Value)
			}
			out = append(out, x)
		})
	}
	return out, cl.CommitUncommittedOffsets(ctx)
}

// confluent is confluent-kafka-go: librdkafka, idempotent.
type confluent struct{}

func (confluent) produce(_ context.Context, addr, topic, codec string, recs []rec) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": addr, "enable.idempotence": true, "compression.codec": codec, "batch.num.messages": 50})
	if err != nil {
		return err
	}
	defer p.Close()
	done := make(chan kafka.Event, len(recs))
	for _, r := range recs {
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: r.Partition}, Key: []byte(r.Key), Value: []byte(r.Value), Headers: []kafka.Header{{Key: r.HeaderK, Value: []byte(r.HeaderV)}}}
		if err := p.Produce(m, done); err != nil {
			return err
		}
	}
	for range recs {
		if m, ok := (<-done).(*kafka.Message); ok && m.TopicPartition.Error != nil {
			return m.TopicPartition.Error
		}
	}
	return nil
}

func (confluent) consume(ctx context.Context, addr, topic, group string, n int) (out []rec, err error) {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": false})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SubscribeTopics([]string{topic}, nil); err != nil {
		return nil, err
	}
	for len(out) < n && ctx.Err() == nil {
		m, err := c.ReadMessage(time.Second)
		var ke kafka.Error
		if errors.As(err, &ke) && ke.IsTimeout() {
			continue
		}
		if err != nil {
			return out, err
		}
		x := rec{Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset), Key: string(m.Key), Value: string(m.Value)}
		for _, h := range m.Headers {
			x.HeaderK, x.HeaderV = h.Key, string(h.Value)
		}
		out = append(out, x)
	}
	_, err = c.Commit()
	return out, errors.Join(err, ctx.Err())
}

// saramaClient is IBM/sarama, idempotent, as if it met a broker of the version.
type saramaClient struct{ version sarama.KafkaVersion }

func (s saramaClient) config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = s.version
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	return c
}

func (s saramaClient) produce(_ context.Context, addr, topic, codec string, recs []rec) error {
	c := s.config()
	if err := c.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, c)
	if err != nil {
		return err
	}
	for start := 0; start < len(recs); start += 50 {
		var batch []*sarama.ProducerMessage
		for _, r := range recs[start:min(start+50, len(recs))] {
			batch = append(batch, &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Key: sarama.StringEncoder(r.Key), Value: sarama.StringEncoder(r.Value),
				Headers: []sarama.RecordHeader{{Key: []byte(r.HeaderK), Value: []byte(r.HeaderV)}}})
		}
		if err := p.SendMessages(batch); err != nil {
			return errors.Join(err, p.Close())
		}
	}
	return p.Close()
}

type saramaHandler struct{ out chan rec }

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			x := rec{Partition: m.Partition, Offset: m.Offset, Key: string(m.Key), Value: string(m.Value)}
			for _, hd := range m.Headers {
				x.HeaderK, x.HeaderV = string(hd.Key), string(hd.Value)
			}
			select {
			case h.out <- x:
				s.MarkMessage(m, "")
			case <-s.Context().Done():
				return nil
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (s saramaClient) consume(ctx context.Context, addr, topic, group string, n int) (out []rec, err error) {
	g, err := sarama.NewConsumerGroup([]string{addr}, group, s.config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := saramaHandler{make(chan rec)}
	ended := make(chan error, 1)
	go func() { ended <- g.Consume(ctx, []string{topic}, h) }()
	for len(out) < n && err == nil {
		select {
		case r := <-h.out:
			out = append(out, r)
		case err = <-ended:
			err = errors.Join(err, fmt.Errorf("session ended after %d records", len(out)))
			return out, errors.Join(err, g.Close())
		}
	}
	cancel()
	<-ended // the context was ended on purpose
	return out, g.Close()
}

// segmentio is segmentio/kafka-go, not idempotent.
type segmentio struct{}

func (segmentio) produce(ctx context.Context, addr, topic, codec string, recs []rec) error {
	codecs := map[string]segment.Compression{"gzip": segment.Gzip, "snappy": segment.Snappy, "lz4": segment.Lz4, "zstd": segment.Zstd}
	// The default transport is shared and knows topics only as of seconds ago.
	transport := &segment.Transport{}
	defer transport.CloseIdleConnections()
	w := &segment.Writer{Transport: transport, Addr: segment.TCP(addr), Topic: topic, RequiredAcks: segment.RequireAll, Compression: codecs[codec], BatchSize: 50, BatchTimeout: 5 * time.Millisecond,
		Balancer: segment.BalancerFunc(func(m segment.Message, _ ...int) int { return m.WriterData.(int) })}
	var ms []segment.Message
	for _, r := range recs {
		ms = append(ms, segment.Message{Key: []byte(r.Key), Value: []byte(r.Value), Headers: []segment.Header{{Key: r.HeaderK, Value: []byte(r.HeaderV)}}, WriterData: int(r.Partition)})
	}
	return errors.Join(w.WriteMessages(ctx, ms...), w.Close())
}

func (segmentio) consume(ctx context.Context, addr, topic, group string, n int) (out []rec, err error) {
	r := segment.NewReader(segment.ReaderConfig{Brokers: []string{addr}, Topic: topic, GroupID: group, StartOffset: segment.FirstOffset, MaxWait: 200 * time.Millisecond})
	defer func() { err = errors.Join(err, r.Close()) }()
	var last []segment.Message
	for len(out) < n {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return out, err
		}
		x := rec{Partition: int32(m.Partition), Offset: m.Offset, Key: string(m.Key), Value: string(m.Value)}
		for _, h := range m.Headers {
			x.HeaderK, x.HeaderV = h.Key, string(h.Value)
		}
		out, last = append(out, x), append(last, m)
	}
	return out, r.CommitMessages(ctx, last...)
}

// kcat is the command line tool, librdkafka of Debian.
type kcat struct{}

// produce runs kcat once a partition: a run gives all its records one partition
// and, where asked, the same header, so kcat's records go without.
func (kcat) produce(ctx context.Context, addr, topic, codec string, recs []rec) error {
	groups := make(map[int32][]rec)
	for _, r := range recs {
		groups[r.Partition] = append(groups[r.Partition], r)
	}
	for n, list := range groups {
		var in strings.Builder
		for _, r := range list {
			fmt.Fprintf(&in, "%s\t%s\n", r.Key, r.Value)
		}
		cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", topic, "-p", fmt.Sprint(n), "-K", "\t", "-z", codec, "-X", "acks=all", "-X", "enable.idempotence=true", "-X", "batch.num.messages=50")
		cmd.Stdin = strings.NewReader(in.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kcat: %w\n%s", err, out)
		}
	}
	return nil
}

func (kcat) consume(ctx context.Context, addr, topic, group string, n int) (out []rec, err error) {
	cmd := exec.CommandContext(ctx, "kcat", "-b", addr, "-G", group, "-X", "auto.offset.reset=earliest", "-c", fmt.Sprint(n), "-J", "-u", topic)
	cmd.Stderr = nil
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kcat: %w", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var m struct {
			Partition    int32
			Offset       int64
			Key, Payload string
			Headers      []string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		x := rec{Partition: m.Partition, Offset: m.Offset, Key: m.Key, Value: m.Payload}
		if len(m.Headers) >= 2 {
			x.HeaderK, x.HeaderV = m.Headers[0], m.Headers[1]
		}
		out = append(out, x)
	}
	return out, nil
}
