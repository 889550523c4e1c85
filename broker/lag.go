package broker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// lagsAtOnce is how many partitions are measured at a time: one in the tier may wait for the store.
const lagsAtOnce = 8

// viewLags measures how far the ends of partitions are from offsets: here those that this broker leads, and unless
// local their leaders are asked about the others. It answers for each, in order.
func (b *Broker) viewLags(ctx context.Context, at []console.LagAt, local bool) (console.Lags, error) {
	out := console.Lags{ClusterID: b.addresses.ClusterID, Broker: int32(b.self()), Partitions: make([]console.PartitionLag, len(at))}
	img := b.metadata.Image()
	elsewhere := map[metadata.BrokerID][]int{}
	var work errgroup.Group
	work.SetLimit(lagsAtOnce)
	for i, l := range at {
		row := &out.Partitions[i]
		*row = console.PartitionLag{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset}
		t, ok := img.Topic(l.Topic)
		if !ok || int(l.Partition) >= len(t.Partitions) {
			row.Error = "there is no such partition"
			continue
		}
		if leader := t.Partitions[l.Partition].Leader; leader != b.self() && !local {
			elsewhere[leader] = append(elsewhere[leader], i)
			continue
		}
		work.Go(func() error {
			if err := b.measureLag(ctx, row); err != nil {
				row.Error = err.Error()
			}
			return nil
		})
	}
	var asked sync.WaitGroup
	for leader, which := range elsewhere {
		asked.Go(func() { b.askLags(ctx, img, leader, which, out.Partitions) })
	}
	_ = work.Wait() // nobody returns an error
	asked.Wait()
	return out, ctx.Err()
}

// askLags asks the leader of some of the rows about them and fills them in.
func (b *Broker) askLags(ctx context.Context, img *metadata.Image, leader metadata.BrokerID, which []int, rows []console.PartitionLag) {
	fail := func(which []int, why string) {
		for _, i := range which {
			rows[i].Error = why
		}
	}
	peer, live := img.Broker(leader)
	if !live {
		fail(which, "it has no leader")
		return
	}
	for len(which) > 0 {
		some := which[:min(len(which), console.MaxLags)]
		which = which[len(some):]
		query := url.Values{"local": {"true"}}
		for _, i := range some {
			query.Add("at", console.LagAt{Topic: rows[i].Topic, Partition: rows[i].Partition, Offset: rows[i].Offset}.String())
		}
		var answer console.Lags
		err := b.askPeer(ctx, peer, "/api/v1/lag", query, &answer)
		if err == nil && len(answer.Partitions) != len(some) {
			err = fmt.Errorf("%d answers to %d questions", len(answer.Partitions), len(some))
		}
		if err != nil {
			fail(some, fmt.Sprintf("%s: %v", peerName(leader), err))
			continue
		}
		for n, i := range some {
			rows[i] = answer.Partitions[n]
		}
	}
}

// measureLag fills in a row of a partition that this broker leads.
func (b *Broker) measureLag(ctx context.Context, row *console.PartitionLag) error {
	p, err := b.replicas.Partition(metadata.TopicPartition{Topic: row.Topic, Partition: row.Partition})
	if err != nil {
		return err
	}
	if !p.Leading() {
		return fmt.Errorf("%s does not lead it", peerName(b.self()))
	}
	for {
		before := p.Log().LocalLogStart()
		err := b.measure(ctx, p, time.Now(), row)
		if !errors.Is(err, segment.ErrOffsetOutOfRange) || p.Log().LocalLogStart() == before {
			return err
		}
		// Retention has taken what was to be measured: it is in the tier now.
	}
}

func (b *Broker) measure(ctx context.Context, p *replica.Partition, now time.Time, row *console.PartitionLag) error {
	log := p.Log()
	row.LogStartOffset, row.LocalLogStartOffset, row.HighWatermark = log.LogStart(), log.LocalLogStart(), log.HighWatermark()
	from := min(max(row.Offset, row.LogStartOffset), row.HighWatermark)
	local := min(max(row.LocalLogStartOffset, from), row.HighWatermark) // where the hot part begins
	row.Records, row.ColdRecords = row.HighWatermark-from, local-from
	after, _, err := log.Behind(row.HighWatermark)
	if err != nil {
		return err
	}
	hot, hotTime := int64(0), now.UnixMilli()
	if local < row.HighWatermark {
		if hot, hotTime, err = log.Behind(local); err != nil {
			return err
		}
		hot = max(hot-after, 0)
	}
	row.Bytes, row.ColdBytes = hot, 0
	row.Ms, row.ColdMs = age(hotTime, now.UnixMilli()), 0
	if local == from {
		return nil
	}
	cold, coldTime, err := b.tier.Behind(ctx, p.ID(), from)
	if err != nil {
		return err
	}
	rest, _, err := b.tier.Behind(ctx, p.ID(), local)
	if err != nil {
		return err
	}
	row.ColdBytes = max(cold-rest, 0)
	row.Bytes += row.ColdBytes
	row.ColdMs, row.Ms = age(coldTime, hotTime), age(coldTime, now.UnixMilli())
	return nil
}

// age is how much earlier one time is than another, -1 if one is not known.
func age(from, to int64) int64 {
	if from < 0 || to < 0 {
		return -1
	}
	return max(to-from, 0)
}
