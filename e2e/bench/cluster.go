package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// clusterParts are measured with --cluster: three brokers as processes with an
// etcd in this process and a MinIO, each broker in a network namespace of its
// own where that can be made.
var clusterParts = []part{{"replication", replicationRows}, {"failover", failoverRows}, {"etcd", etcdRows}, {"move", moveRows}}

// group is a cluster under test.
type group struct {
	*cluster.Cluster
	minio *servers.S3Server
}

func (b *bench) startGroup(ctx context.Context, name string, settings map[string]string) (*group, error) {
	dir := filepath.Join(b.dir, name)
	minio, err := servers.StartMinIO(ctx, filepath.Join(dir, "minio"))
	if err != nil {
		return nil, err
	}
	g := &group{minio: minio}
	if err := minio.CreateBucket(ctx, "bench"); err != nil {
		return nil, errors.Join(err, minio.Stop())
	}
	g.Cluster, err = cluster.NewCluster(ctx, cluster.ClusterOptions{
		Kind: cluster.Subprocess, Dir: dir, Binary: b.broker, Links: cluster.CanLink() == nil,
		StoreURL: minio.MinIOURL("bench"), Env: minio.Env(), Settings: settings,
	})
	if err != nil {
		return nil, errors.Join(err, minio.Stop())
	}
	if err := g.Start(ctx); err != nil {
		g.end(ctx)
		return nil, err
	}
	return g, nil
}

// end ends everything; what it thinks of that does not matter any more.
func (g *group) end(ctx context.Context) {
	_ = g.Close(ctx)
	_ = g.minio.Stop()
}

func (g *group) process(id int32) *process { return &process{Broker: g.Broker(id)} }

func (g *group) logs() string {
	var s string
	for _, b := range g.Brokers {
		log := b.Log()
		s += fmt.Sprintf("broker %d:\n%s\n", b.ID(), log[max(0, len(log)-4<<10):])
	}
	return s
}

func (g *group) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(opts, kgo.SeedBrokers(g.Kafka()...), kgo.MetadataMinAge(20*time.Millisecond))...)
}

// createTopic makes a topic whose partitions are all on the brokers given, the
// first of which leads; without brokers it is placed by the cluster.
func (g *group) createTopic(ctx context.Context, topic string, partitions int32, settings map[string]string, on ...int32) error {
	cl, err := g.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 3
	if len(on) > 0 {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		for n := range partitions {
			a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			a.Partition, a.Replicas = n, on
			t.ReplicaAssignment = append(t.ReplicaAssignment, a)
		}
	}
	for name, value := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, &value
		t.Configs = append(t.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics, req.TimeoutMillis = append(req.Topics, t), 60_000
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	if msg := resp.Topics[0].ErrorMessage; resp.Topics[0].ErrorCode != 0 {
		return fmt.Errorf("create topic %s: error %d: %v", topic, resp.Topics[0].ErrorCode, deref(msg))
	}
	return g.awaitSynced(ctx, topic, int(partitions))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// awaitSynced waits until every partition has a leader and all replicas in sync.
func (g *group) awaitSynced(ctx context.Context, topic string, partitions int) error {
	cl, err := g.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	return poll(ctx, 2*time.Minute, func() error {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		good := 0
		for _, p := range topics[topic].Partitions {
			if p.Err == nil && p.Leader > 0 && len(p.ISR) == len(p.Replicas) {
				good++
			}
		}
		if good < partitions {
			return fmt.Errorf("%d of %d partitions of %s are in sync", good, partitions, topic)
		}
		return nil
	})
}

// poll asks until there is no error.
func poll(ctx context.Context, within time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", within, err)
		}
	}
}

// cpu is the time of all processes of brokers so far, by node id.
func (g *group) cpu() (map[int32]time.Duration, error) {
	all := make(map[int32]time.Duration)
	for _, b := range g.Brokers {
		var err error
		if all[b.ID()], err = g.process(b.ID()).cpu(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// replicationRows produce with acks=all to one replica and to three, all led by
// broker 1, and say what it costs the leader and a follower.
func replicationRows(ctx context.Context, b *bench) error {
	g, err := b.startGroup(ctx, "replication", nil)
	if err != nil {
		return err
	}
	defer g.end(ctx)
	for _, c := range []struct {
		name    string
		records int
	}{{"64 KiB", 63}, {"512 KiB", 510}} {
		for _, on := range [][]int32{{1}, {1, 2, 3}} {
			topic := fmt.Sprintf("replication-%d-%d", c.records, len(on))
			settings := map[string]string{"min.insync.replicas": fmt.Sprint(min(2, len(on)))}
			if err := g.createTopic(ctx, topic, 6, settings, on...); err != nil {
				return fmt.Errorf("%w\n%s", err, g.logs())
			}
			if err := b.replicationRow(ctx, g, topic, c.name, c.records, len(on)); err != nil {
				return fmt.Errorf("%w\n%s", err, g.logs())
			}
		}
	}
	return nil
}

func (b *bench) replicationRow(ctx context.Context, g *group, topic, size string, records, replicas int) error {
	load := produceLoad{topic: topic, partitions: 6, records: records, conns: 4, inFlight: 5, acks: -1}
	leader := g.process(1)
	err := poll(ctx, time.Minute, func() error { // warm up; the leader may know last that it leads
		_, err := load.run(ctx, leader.Kafka(), b.length/4)
		return err
	})
	if err != nil {
		return err
	}
	cpu0, err := g.cpu()
	if err != nil {
		return err
	}
	r, err := b.measured(ctx, leader, row{Name: fmt.Sprintf("produce %s batches, acks=all, replicas %d", size, replicas)}, func() (result, error) {
		return load.run(ctx, leader.Kafka(), b.length)
	})
	if err != nil {
		return err
	}
	cpu1, err := g.cpu()
	if err != nil {
		return err
	}
	b.add(r)
	gb := r.MBps * b.length.Seconds() / 1e3
	for id, role := range map[int32]string{1: "leader", 2: "follower"} {
		if replicas > 1 {
			b.add(row{Name: fmt.Sprintf("  CPU of a %s, %s batches, replicas %d", role, size, replicas), Value: (cpu1[id] - cpu0[id]).Seconds() / gb, Unit: "s/GB"})
		}
	}
	return nil
}
