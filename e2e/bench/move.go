package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// moveRows add a fourth broker and move a partition to it that has much in the
// tier and little on local disks.
func moveRows(ctx context.Context, b *bench) error {
	const topic = "move"
	g, err := b.startGroup(ctx, "move", map[string]string{
		"log.retention.check.interval.ms": "1000", "remote.log.manager.task.interval.ms": "1000", "follower.fetch.last.tiered.offset.enable": "true"})
	if err != nil {
		return err
	}
	defer g.end(ctx)
	// One replica while it is filled: three would only take the disk's time.
	if err := g.createTopic(ctx, topic, 1, map[string]string{"segment.bytes": "134217728", "local.retention.bytes": "1", "min.insync.replicas": "1"}, 1); err != nil {
		return fmt.Errorf("%w\n%s", err, g.logs())
	}
	leader := g.process(1)
	if err := g.fillTier(ctx, leader, topic, int64(b.tierGB*1e9)); err != nil {
		return fmt.Errorf("%w\n%s", err, g.logs())
	}
	list, err := leader.Tier(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Topic == topic {
			b.add(row{Name: "partition to move, in the tier", Value: float64(p.RemoteBytes) / 1e6, Unit: "MB"})
			b.add(row{Name: "partition to move, on local disk", Value: float64(p.LocalBytes) / 1e6, Unit: "MB"})
		}
	}
	if err := b.move(ctx, g, topic); err != nil {
		return fmt.Errorf("%w\n%s", err, g.logs())
	}
	return nil
}

func (b *bench) move(ctx context.Context, g *group, topic string) error {
	start := time.Now()
	if _, err := g.Add(ctx, nil); err != nil {
		return err
	}
	if err := g.Broker(4).Start(ctx); err != nil {
		return err
	}
	b.add(row{Name: "a fourth broker is ready after", Value: float64(time.Since(start).Milliseconds()), Unit: "ms"})
	cl, err := g.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	before, err := g.received(ctx, 4)
	if err != nil {
		return err
	}
	start = time.Now()
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign(topic, 0, []int32{4})
	if resp, err := adm.AlterPartitionAssignments(ctx, req); err != nil {
		return err
	} else if err := resp.Error(); err != nil {
		return err
	}
	err = poll(ctx, 5*time.Minute, func() error {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		if p := topics[topic].Partitions[0]; len(p.Replicas) != 1 || p.Leader != 4 {
			return fmt.Errorf("the partition is at %v, led by %d", p.Replicas, p.Leader)
		}
		return nil
	})
	if err != nil {
		return err
	}
	took := time.Since(start)
	after, err := g.received(ctx, 4)
	if err != nil {
		return err
	}
	b.add(row{Name: "the partition has moved after", Value: float64(took.Milliseconds()), Unit: "ms", Want: "seconds"})
	if after > 0 {
		b.add(row{Name: "received over the network by the fourth broker", Value: float64(after-before) / 1e6, Unit: "MB", Want: "the local tail"})
	}
	return nil
}

// received is 0 where brokers have no network of their own.
func (g *group) received(ctx context.Context, id int32) (int64, error) {
	if !g.HasLinks() {
		return 0, nil
	}
	n, _, err := g.Traffic(ctx, id)
	return n, err
}

// localTail is what stays on local disk, of segments of 128 MiB.
const localTail = 50_000_000

// fillTier produces until n bytes are in the tier and about localTail more are
// local only.
func (g *group) fillTier(ctx context.Context, leader *process, topic string, n int64) error {
	load := produceLoad{topic: topic, partitions: 1, records: 510, conns: 1, inFlight: 3, acks: 1}
	var total int64
	for total < n {
		res, err := load.run(ctx, leader.Kafka(), 2*time.Second)
		if err != nil {
			return err
		}
		total += res.bytes
		if err := g.awaitCopied(ctx, leader, topic, 2<<30); err != nil { // the disk is for the tier
			return err
		}
	}
	if err := g.awaitCopied(ctx, leader, topic, 256<<20); err != nil {
		return err
	}
	load.inFlight = 1
	for {
		local, err := localBytes(ctx, leader, topic)
		if err != nil || local >= localTail && local < 2*localTail {
			return err
		}
		if _, err := load.run(ctx, leader.Kafka(), 20*time.Millisecond); err != nil {
			return err
		}
		if local >= 2*localTail { // until the segment is full and goes
			wait(ctx, 100*time.Millisecond)
		}
	}
}

func localBytes(ctx context.Context, p *process, topic string) (int64, error) {
	list, err := p.Tier(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range list {
		if t.Topic == topic {
			return t.LocalBytes, nil
		}
	}
	return 0, fmt.Errorf("no topic %s in the tier's status", topic)
}

// awaitCopied waits until no more than so much is local.
func (g *group) awaitCopied(ctx context.Context, p *process, topic string, most int64) error {
	return poll(ctx, 10*time.Minute, func() error {
		local, err := localBytes(ctx, p, topic)
		if err == nil && local > most {
			err = fmt.Errorf("%d bytes are local", local)
		}
		return err
	})
}
