package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// tier is a broker whose object store is a real MinIO on loopback.
type tier struct {
	*process
	minio *servers.S3Server
}

// bucket is where a tier's broker keeps its objects.
const storeBucket = "bench/c"

// startTier starts both. Segments are copied and evicted without delay.
func (b *bench) startTier(ctx context.Context, settings map[string]string) (*tier, error) {
	return b.startTierAt(ctx, filepath.Join(b.dir, "minio"), settings)
}

// startTierAt starts them with MinIO below dir and with variables of its own.
func (b *bench) startTierAt(ctx context.Context, dir string, settings map[string]string, env ...string) (*tier, error) {
	minio, err := servers.StartMinIO(ctx, dir, env...)
	if err != nil {
		return nil, err
	}
	t := &tier{minio: minio}
	if err := minio.CreateBucket(ctx, "bench"); err != nil {
		t.end()
		return nil, err
	}
	for _, kv := range minio.Env() { // for the relay, which is in this process
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			t.end()
			return nil, err
		}
	}
	if err := b.startBeside(ctx, t, minio.Endpoint, settings); err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

// startBeside starts t's broker with its store at endpoint.
func (b *bench) startBeside(ctx context.Context, t *tier, endpoint string, settings map[string]string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	all := map[string]string{"log.retention.check.interval.ms": "500", "remote.log.manager.task.interval.ms": "500"}
	maps.Copy(all, settings)
	t.process, err = b.startAt(ctx, cluster.Options{
		Dir: filepath.Join(b.dir, "broker"), Env: t.minio.Env(), StoreURL: "minio://" + u.Host + "/" + storeBucket + "?secure=false", Settings: all,
	})
	return err
}

// end kills both; what they think of that does not matter any more.
func (t *tier) end() {
	if t.process != nil {
		t.process.end()
	}
	_ = t.minio.Stop()
}

// fillTier makes a topic of about n bytes that is in the tier only, but for the
// active segments, and returns where the tier's part of each partition ends.
// Segments are smaller where n is small.
func (t *tier) fillTier(ctx context.Context, topic string, partitions int, segment, n int64) (map[int32]int64, error) {
	segment = min(segment, n/int64(4*partitions))
	if err := t.fillTopic(ctx, topic, partitions, segment, n); err != nil {
		return nil, err
	}
	return t.evict(ctx, topic)
}

// fillTopic makes a topic of about n bytes in segments of a size.
func (p *process) fillTopic(ctx context.Context, topic string, partitions int, segment, n int64) error {
	if err := p.createTopic(ctx, topic, partitions, segment, nil); err != nil {
		return err
	}
	return fill(ctx, p, topic, partitions, n)
}

func (p *process) createTopic(ctx context.Context, topic string, partitions int, segment int64, settings map[string]string) error {
	size := fmt.Sprint(segment)
	configs := map[string]*string{"segment.bytes": &size}
	for name, value := range settings {
		configs[name] = &value
	}
	return createTopic(ctx, p.Kafka(), topic, int32(partitions), configs)
}

// evict lowers local retention, waits until the topic is remote only, but for
// its active segments, and returns where the remote part of each partition ends.
func (p *process) evict(ctx context.Context, topic string) (map[int32]int64, error) {
	if err := p.alterTopic(ctx, topic, "local.retention.bytes", "1"); err != nil {
		return nil, err
	}
	return p.awaitTier(ctx, topic, func(t console.TierPartition) bool { return t.LocalLogStartOffset == t.HighestRemoteOffset+1 })
}

// awaitTier waits until nothing of the topic waits for its upload and done
// says so of each partition too. It returns where their remote parts end.
func (p *process) awaitTier(ctx context.Context, topic string, done func(console.TierPartition) bool) (map[int32]int64, error) {
	for {
		list, err := p.Tier(ctx)
		if err != nil {
			return nil, err
		}
		all, ends := 0, make(map[int32]int64)
		for _, t := range list {
			if t.Topic != topic {
				continue
			}
			all++
			if t.PendingSegments == 0 && t.RemoteSegments > 0 && done(t) {
				ends[t.Partition] = t.HighestRemoteOffset + 1
			}
		}
		if all > 0 && len(ends) == all {
			return ends, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w\n%s", ctx.Err(), p.Log())
		}
	}
}

func (p *process) alterTopic(ctx context.Context, topic, name, value string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Kafka()))
	if err != nil {
		return err
	}
	defer cl.Close()
	res, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	for _, r := range res {
		err = errors.Join(err, r.Err)
	}
	return err
}
