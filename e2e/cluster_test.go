package e2e

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// variant is a way to run a cluster.
type variant struct {
	kind     cluster.Kind
	embedded bool
}

// Clusters that the scenarios meet. Subprocesses have a network of their own
// each, where the tests run as root.
var (
	externalEtcd = variant{cluster.Subprocess, false}
	embeddedEtcd = variant{cluster.Subprocess, true}
	inContainers = variant{cluster.Container, true}
)

func (v variant) String() string {
	if v == embeddedEtcd {
		return "embedded-etcd"
	}
	return string(v.kind)
}

var canLink = sync.OnceValue(cluster.CanLink)

// startCluster starts three brokers and a MinIO behind them.
func startCluster(t *testing.T, v variant) (*cluster.Cluster, scenario.Store) {
	t.Helper()
	settings := scenario.Settings()
	settings["replica.lag.time.max.ms"] = "6000" // it is as long that a link may be cut unnoticed
	o := cluster.ClusterOptions{Kind: v.kind, Embedded: v.embedded, Dir: t.TempDir(), Settings: settings}
	var store scenario.Store
	if v.kind == cluster.Container {
		store = inNetworks(t, &o)
	} else {
		var err error
		if o.Binary, err = binary(); err != nil {
			t.Fatal(err)
		}
		o.Links = canLink() == nil
		minio := servers.MinIO(t)
		minio.Bucket(t, "coldbrook")
		o.StoreURL, o.Env, store = minio.MinIOURL("coldbrook"), minio.Env(), minio
	}
	c, err := cluster.NewCluster(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, b := range c.Brokers {
				t.Logf("log of broker %d:\n%s", b.ID(), tail(b.Log(), 24<<10))
			}
		}
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("end of the cluster: %v", err)
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, store
}

// onClusters runs a fault against clusters under load and checks what the load saw.
func onClusters(t *testing.T, variants []variant, fault func(context.Context, *testing.T, scenario.Chaos)) {
	if clustersShareTheMachine {
		t.Parallel()
	}
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			if clustersShareTheMachine {
				t.Parallel()
			}
			c, store := startCluster(t, v)
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			load := clusterLoad()
			load.Published = v.kind == cluster.Container
			l := scenario.StartLoad(ctx, t, c.Kafka(), load)
			x := scenario.Chaos{Cluster: c, Load: l, Store: store, Rounds: clusterRounds, Every: 10 * time.Second, Away: clusterAway}
			l.AwaitProgress(ctx, t, time.Minute)
			fault(ctx, t, x)
			l.Finish(ctx, t)
		})
	}
}

func TestClusterLosesNothingWhenLeadersAreKilled(t *testing.T) {
	onClusters(t, clusters(externalEtcd, embeddedEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.KillLeaders(ctx, t) })
}

func TestClusterLosesNothingWhenLeadersArePaused(t *testing.T) {
	onClusters(t, clusters(externalEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.PauseLeaders(ctx, t) })
}

func TestClusterLosesNothingWhenLeadersAreIsolated(t *testing.T) {
	onClusters(t, clusters(externalEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) {
		if x.Cluster.HasLinks() || x.Cluster.Kind() == cluster.Container {
			x.IsolateLeaders(ctx, t)
		} else {
			t.Skip(canLink())
		}
	})
}

func TestClusterLosesNothingWhenLinksAreCut(t *testing.T) {
	onClusters(t, clusters(externalEtcd), func(ctx context.Context, t *testing.T, x scenario.Chaos) {
		if !x.Cluster.HasLinks() {
			t.Skip(canLink())
		}
		x.Rounds = 4 // kinds of cuts
		x.CutLinks(ctx, t)
	})
}

func TestBrokerThatLostItsDiskComesBackByItself(t *testing.T) {
	onClusters(t, clusters(externalEtcd, embeddedEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.LoseDisks(ctx, t) })
}

func TestClientsDoNotNoticeARollingRestart(t *testing.T) {
	onClusters(t, clusters(embeddedEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.RollingRestart(ctx, t) })
}

func TestClientsDoNotNoticeARollingChangeOfConfiguration(t *testing.T) {
	onClusters(t, clusters(externalEtcd), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.RollingConfiguration(ctx, t) })
}

func TestClusterServesWithoutEtcd(t *testing.T) {
	onClusters(t, clusters(externalEtcd), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.EtcdAway(ctx, t) })
}

func TestClusterServesWithoutItsStore(t *testing.T) {
	onClusters(t, clusters(externalEtcd, inContainers), func(ctx context.Context, t *testing.T, x scenario.Chaos) { x.StoreAway(ctx, t) })
}

// TestChaos takes as long as COLDBROOK_CHAOS says: that long the busiest leader
// is killed every ten seconds, then leaders are paused, isolated, and links cut.
func TestChaos(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("COLDBROOK_CHAOS"))
	if err != nil {
		t.Skip("COLDBROOK_CHAOS does not say how long")
	}
	c, store := startCluster(t, externalEtcd)
	ctx, cancel := context.WithTimeout(t.Context(), 3*length+30*time.Minute)
	defer cancel()
	l := scenario.StartLoad(ctx, t, c.Kafka(), scenario.LoadOptions{Topics: 20, Partitions: 3, Settings: clusterLoad().Settings})
	l.AwaitProgress(ctx, t, time.Minute)
	x := scenario.Chaos{Cluster: c, Load: l, Store: store, Rounds: int(length / (10 * time.Second)), Every: 10 * time.Second, Away: clusterAway}
	x.KillLeaders(ctx, t)
	x.Rounds = max(4, x.Rounds/5)
	x.PauseLeaders(ctx, t)
	if c.HasLinks() {
		x.IsolateLeaders(ctx, t)
		x.CutLinks(ctx, t)
	}
	l.Finish(ctx, t)
}
