package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

// TestTopicOfAnotherClusterIsRecovered: two clusters share a bucket; the second takes a topic of the first over, under
// its id and with all that was uploaded, and depends on nothing of the first.
func TestTopicOfAnotherClusterIsRecovered(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := soloDrill(ctx, t, path, filepath.Join(t.TempDir(), "objects"))
	const topic = "taken"
	scenario.CreateReplicated(ctx, t, d.c.Kafka(), topic, drillPartitions, 1, "internal.segment.bytes", "32768", "local.retention.bytes", "1", "retention.ms", "864000001")
	d.topics = []string{topic}
	d.produce(ctx, d.client(), topic, drillRecords)
	before := d.describe(ctx)[topic]
	d.await(ctx, func() error { return uploaded(ctx, d.c.Brokers) })
	ends := d.remoteEnds(ctx)
	var plan restore.Plan
	d.await(ctx, func() error {
		return d.command(ctx, &plan, "cluster", "restore", "--dry-run", "--store", d.store, "-o", "json")
	})

	second := soloDrill(ctx, t, path, d.store[len("file://"):])
	args := []string{"topic", "recover", topic, "--cluster-id", plan.ClusterID, "--http", second.c.Brokers[0].HTTP(), "-o", "json"}
	var back console.Recovered
	if err := second.command(ctx, &back, args...); err != nil {
		t.Fatal(err)
	}
	if err := second.command(ctx, &back, args...); err == nil {
		t.Error("recovered although the name is taken")
	}
	scenario.AwaitHealthy(ctx, t, second.c)
	after := second.describe(ctx)[topic]
	if after.ID != before.ID || after.Configs["retention.ms"] != before.Configs["retention.ms"] || after.Partitions != before.Partitions {
		t.Errorf("recovered %+v, was %+v", after, before)
	}
	// The first cluster deletes its objects; the second one has its own.
	if err := d.c.Brokers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	d.removeCluster(plan.ClusterID)
	second.topics, second.acked = d.topics, d.acked
	second.checkRecords(ctx, ends)
	second.checkLifeGoesOn(ctx, ends)
}

// uploaded says whether all sealed segments of all topics are in the tier, and there are some.
func uploaded(ctx context.Context, brokers []*cluster.Broker) error {
	for _, b := range brokers {
		rows, err := b.Tier(ctx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.PendingSegments > 0 || r.HighestRemoteOffset < 0 {
				return errNotUploaded
			}
		}
	}
	return nil
}
