package compat

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// startCluster starts three brokers in the racks a, b and c.
func startCluster(t *testing.T, settings map[string]string) *cluster.Cluster {
	t.Helper()
	store := servers.MinIO(t)
	store.Bucket(t, "compat")
	all := scenario.Settings()
	for name, value := range settings {
		all[name] = value
	}
	c, err := cluster.NewCluster(t.Context(), cluster.ClusterOptions{Kind: cluster.Subprocess, Binary: binary(t), Dir: t.TempDir(),
		StoreURL: store.MinIOURL("compat"), Env: store.Env(), Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, b := range c.Brokers {
				t.Log(b.Log())
			}
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClientsMeetACluster is TestClientsReadWhatOthersWrote against three
// brokers, of which clients are told one, with three replicas of all.
func TestClientsMeetACluster(t *testing.T) {
	c := startCluster(t, nil)
	meet(t, c.Brokers...)
}

// nearReaders read a topic from its start as clients of a rack; count is how many
// records there are.
var nearReaders = map[string]func(ctx context.Context, addr, topic, rack string, count int) error{
	"franz-go": func(ctx context.Context, addr, topic, rack string, count int) error {
		return franzReads(ctx, addr, topic, rack, replayClient, count)
	},
	"confluent-kafka-go": func(ctx context.Context, addr, topic, rack string, count int) (err error) {
		c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": addr, "group.id": "near-" + rack, "client.rack": rack, "auto.offset.reset": "earliest"})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		if err := c.SubscribeTopics([]string{topic}, nil); err != nil {
			return err
		}
		for n := 0; n < count; {
			_, err := c.ReadMessage(time.Second)
			var ke kafka.Error
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("after %d records: %w", n, ctx.Err())
			case errors.As(err, &ke) && ke.IsTimeout():
			case err != nil:
				return fmt.Errorf("after %d records: %w", n, err)
			default:
				n++
			}
		}
		return nil
	},
	"kcat": func(ctx context.Context, addr, topic, rack string, count int) error {
		out, err := exec.CommandContext(ctx, "kcat", "-C", "-b", addr, "-t", topic, "-X", "client.rack="+rack, "-o", "beginning", "-c", fmt.Sprint(count), "-q", "-f", "%o\n").Output()
		if err != nil {
			return err
		}
		if n := strings.Count(string(out), "\n"); n != count {
			return fmt.Errorf("%d of %d records", n, count)
		}
		return nil
	},
}

// replayClient is a client id that replay.client.ids names, without which
// franz-go does not go to a broker that is no replica.
const replayClient = "replay-compat"

func franzReads(ctx context.Context, addr, topic, rack, id string, count int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.Rack(rack), kgo.ClientID(id), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for n := 0; n < count; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d records: %w", n, err)
		}
		n += fetches.NumRecords()
	}
	return nil
}

// near lets each reader read as a client of a rack and expects the bytes to come
// from one broker.
func near(t *testing.T, c *cluster.Cluster, topic, rack string, from *cluster.Broker, count int, least float64) {
	t.Helper()
	for name, read := range nearReaders {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			before := fetched(ctx, t, c)
			if err := read(ctx, c.Brokers[0].Kafka(), topic, rack, count); err != nil {
				t.Fatal(err)
			}
			for id, bytes := range fetched(ctx, t, c) {
				bytes -= before[id]
				if id == from.ID() && bytes < least || id != from.ID() && bytes > least/10 {
					t.Errorf("broker %d has sent %.0f bytes of a topic of %.0f that broker %d should send", id, bytes, least, from.ID())
				}
			}
		})
	}
}

// fetched is what each broker has sent in answers to Fetch.
func fetched(ctx context.Context, t *testing.T, c *cluster.Cluster) map[int32]float64 {
	t.Helper()
	all := make(map[int32]float64)
	for _, b := range c.Brokers {
		var err error
		if all[b.ID()], err = b.Metric(ctx, "coldbrook_response_bytes_total", `request="Fetch"`); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// ledByFirst makes a topic of one partition, led by broker 1 and followed by the
// others, and writes n records of a kilobyte into it.
func ledByFirst(t *testing.T, c *cluster.Cluster, topic string, n int, settings map[string]string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(16<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	nt := kmsg.NewCreateTopicsRequestTopic()
	nt.Topic, nt.NumPartitions, nt.ReplicationFactor = topic, -1, -1
	a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	a.Replicas = []int32{1, 2, 3}
	nt.ReplicaAssignment = append(nt.ReplicaAssignment, a)
	for name, value := range settings {
		s := kmsg.NewCreateTopicsRequestTopicConfig()
		s.Name, s.Value = name, &value
		nt.Configs = append(nt.Configs, s)
	}
	req.Topics = append(req.Topics, nt)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("create %s: %v %+v", topic, err, resp)
	}
	value := make([]byte, 1024)
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Value: value}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestConsumersReadFromTheReplicaOfTheirRack is KIP-392.
func TestConsumersReadFromTheReplicaOfTheirRack(t *testing.T) {
	c := startCluster(t, map[string]string{"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"})
	const n = 4000
	ledByFirst(t, c, "near", n, nil)
	near(t, c, "near", "rack-b", c.Broker(2), n, n*1024)
}

// TestReplaysAreServedByTheReplayBroker lets consumers of a replay broker's rack
// read what is in the tier only from it, and the rest from the leader.
func TestReplaysAreServedByTheReplayBroker(t *testing.T) {
	c := startCluster(t, map[string]string{"replay.client.ids": "replay-*"})
	replay, err := c.Add(t.Context(), map[string]string{"broker.role": "replay", "broker.rack": "rack-replay"})
	if err != nil {
		t.Fatal(err)
	}
	if err := replay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 4000
	ledByFirst(t, c, "replayed", n, map[string]string{"internal.segment.bytes": "65536", "local.retention.bytes": "1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	awaitCold(ctx, t, c.Broker(1), "replayed")
	near(t, c, "replayed", "rack-replay", replay, n, 0.9*n*1024)
	if err := franzReads(ctx, c.Brokers[0].Kafka(), "replayed", "rack-replay", "other", n); err != nil {
		t.Errorf("franz-go of the replay broker's rack with another client id: %v", err)
	}
}

// awaitCold waits until the only partition is remote but for its active segment.
func awaitCold(ctx context.Context, t *testing.T, b *cluster.Broker, topic string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := b.Tier(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if p.Topic == topic && p.PendingSegments == 0 && p.RemoteSegments > 0 && p.LocalLogStartOffset == p.HighestRemoteOffset+1 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not tiered: %+v", list)
		}
	}
}
