package compat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segment "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// member takes part in a group, whose members all know the range assignor,
// until ctx ends, and tells what it reads.
type member func(ctx context.Context, addr, topic, group string, see func(partition int32, value string)) error

// members, each as quick to see a rebalance as it can.
var members = map[string]member{
	"franz-go":           franzMember,
	"confluent-kafka-go": confluentMember,
	"sarama":             saramaMember,
	"segmentio":          segmentioMember,
	"kcat":               kcatMember,
}

func franzMember(ctx context.Context, addr, topic, group string, see func(int32, string)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.RangeBalancer()), kgo.HeartbeatInterval(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { see(r.Partition, string(r.Value)) })
	}
	return nil
}

func confluentMember(ctx context.Context, addr, topic, group string, see func(int32, string)) (err error) {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "heartbeat.interval.ms": 100})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SubscribeTopics([]string{topic}, nil); err != nil {
		return err
	}
	for ctx.Err() == nil {
		m, err := c.ReadMessage(100 * time.Millisecond)
		var ke kafka.Error
		if errors.As(err, &ke) && ke.IsTimeout() {
			continue
		}
		if err != nil {
			return err
		}
		see(m.TopicPartition.Partition, string(m.Value))
	}
	return nil
}

func saramaMember(ctx context.Context, addr, topic, group string, see func(int32, string)) error {
	c := saramaClient{sarama.V3_6_0_0}.config()
	c.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	g, err := sarama.NewConsumerGroup([]string{addr}, group, c)
	if err != nil {
		return err
	}
	h := saramaHandler{make(chan rec)}
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil { // a rebalance ends a session
			if err := g.Consume(ctx, []string{topic}, h); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for {
		select {
		case r := <-h.out:
			see(r.Partition, r.Value)
		case err := <-ended:
			return errors.Join(err, g.Close())
		}
	}
}

func segmentioMember(ctx context.Context, addr, topic, group string, see func(int32, string)) (err error) {
	r := segment.NewReader(segment.ReaderConfig{Brokers: []string{addr}, Topic: topic, GroupID: group, StartOffset: segment.FirstOffset, MaxWait: 100 * time.Millisecond,
		HeartbeatInterval: 100 * time.Millisecond, JoinGroupBackoff: 100 * time.Millisecond})
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		m, err := r.ReadMessage(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		see(int32(m.Partition), string(m.Value))
	}
}

func kcatMember(ctx context.Context, addr, topic, group string, see func(int32, string)) error {
	cmd := exec.CommandContext(ctx, "kcat", "-b", addr, "-G", group, "-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=100", "-J", "-u", topic)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		var m struct {
			Partition int32
			Payload   string
		}
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s.Text(), err), cmd.Wait())
		}
		see(m.Partition, m.Payload)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type sighting struct {
	by        string
	partition int32
	value     string
}

// TestClientsShareOneGroup lets clients join one group with as many partitions:
// in the end each has one of its own. Then the first leaves, and the others take
// its partition.
func TestClientsShareOneGroup(t *testing.T) {
	b := startBroker(t)
	for name, group := range map[string][]string{
		"all kinds": {"sarama", "franz-go", "confluent-kafka-go", "kcat"},
		// It says version 1 of the members' metadata and writes version 0, which
		// leaders of other kinds cannot read.
		"segmentio": {"segmentio", "segmentio"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			share(ctx, t, b.Kafka(), group)
		})
	}
}

func share(ctx context.Context, t *testing.T, addr string, group []string) {
	topic := "shared-by-" + group[0]
	createTopic(t, addr, topic, len(group))
	seen := make(chan sighting)
	running, stop := context.WithCancel(ctx)
	first, leave := context.WithCancel(running)
	var all errgroup.Group
	for i, name := range group {
		ctx, who := running, fmt.Sprint(name, " ", i)
		if i == 0 {
			ctx = first
		}
		all.Go(func() error {
			err := members[name](ctx, addr, topic, topic, func(partition int32, value string) {
				select {
				case seen <- sighting{who, partition, value}:
				case <-running.Done():
				}
			})
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			return nil
		})
	}
	defer func() {
		leave()
		stop()
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
	}()
	producer, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	begin, rounds := time.Now(), 0
	for _, want := range []int{len(group), len(group) - 1} {
		for {
			rounds++
			by := round(ctx, t, producer, seen, len(group), fmt.Sprint("round ", rounds))
			if len(slices.Compact(slices.Sorted(slices.Values(by)))) == want {
				t.Logf("%d members after %d rounds and %s: %q", want, rounds, time.Since(begin).Round(time.Millisecond), by)
				break
			}
		}
		leave()
	}
}

// round writes one record to each partition and waits until each was read: by whom?
func round(ctx context.Context, t *testing.T, producer *kgo.Client, seen <-chan sighting, partitions int, value string) []string {
	t.Helper()
	records := make([]*kgo.Record, partitions)
	for n := range records {
		records[n] = &kgo.Record{Partition: int32(n), Value: []byte(value)}
	}
	if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	by := make([]string, partitions)
	for left := partitions; left > 0; {
		select {
		case s := <-seen:
			if s.value != value { // again, after a rebalance
				continue
			}
			if by[s.partition] == "" {
				left--
			}
			by[s.partition] = s.by
		case <-ctx.Done():
			t.Fatalf("%s was read in %q only", value, by)
		}
	}
	return by
}
