package scenario

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/e2e/cluster"
)

// healthyWithin bounds how long brokers may take to be all in sync again.
const healthyWithin = 90 * time.Second

// AwaitHealthy waits until every partition of every topic has a leader and all
// its replicas in sync.
func AwaitHealthy(ctx context.Context, t testing.TB, c *cluster.Cluster) {
	t.Helper()
	adm := admins(t, c)
	await(ctx, t, healthyWithin, func() error {
		topics, err := adm.ListTopicsWithInternal(ctx)
		if err != nil {
			return err
		}
		for _, topic := range topics {
			for _, p := range topic.Partitions {
				if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
					return fmt.Errorf("%s-%d: leader %d, replicas %v, in sync %v", topic.Topic, p.Partition, p.Leader, p.Replicas, p.ISR)
				}
			}
		}
		return nil
	})
}

func admins(t testing.TB, c *cluster.Cluster) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// Busiest is the broker that leads most partitions.
func Busiest(ctx context.Context, t testing.TB, c *cluster.Cluster) *cluster.Broker {
	t.Helper()
	adm := admins(t, c)
	leads := make(map[int32]int)
	await(ctx, t, healthyWithin, func() error {
		topics, err := adm.ListTopicsWithInternal(ctx)
		if err != nil {
			return err
		}
		for _, topic := range topics {
			for _, p := range topic.Partitions {
				if p.Leader > 0 {
					leads[p.Leader]++
				}
			}
		}
		if len(leads) == 0 {
			return fmt.Errorf("nobody leads anything")
		}
		return nil
	})
	return c.Broker(slices.MaxFunc(slices.Collect(maps.Keys(leads)), func(a, b int32) int {
		return cmp.Or(cmp.Compare(leads[a], leads[b]), cmp.Compare(a, b))
	}))
}

// Chaos is what a fault gets: a cluster under load, and how long it may last.
type Chaos struct {
	Cluster *cluster.Cluster
	Load    *Load
	Store   Store         // behind the cluster
	Rounds  int           // of what is done more than once
	Every   time.Duration // between the beginnings of two rounds
	Away    time.Duration // how long something is away
}

// progressWithin bounds how long a partition may ack nothing while a majority
// of its replicas is well.
const progressWithin = 45 * time.Second

// rounds does something again and again, and waits each time until all is well.
func (x Chaos) rounds(ctx context.Context, t testing.TB, what string, do func(round int)) {
	t.Helper()
	x.Load.brutal.Store(true)
	for n := range x.Rounds {
		began := time.Now()
		x.Load.LongestGap()
		do(n)
		if !x.Load.healthy() {
			t.Errorf("%s, round %d: clients were told of errors", what, n+1)
			return
		}
		if n < x.Rounds-1 {
			pause(ctx, t, x.Every-time.Since(began))
		}
		t.Logf("%s, round %d: longest time without an ack in a partition %s, %d records acked", what, n+1, x.Load.LongestGap().Round(time.Millisecond), x.Load.Acked())
	}
}

func (l *Load) healthy() bool { return len(l.Errors()) == 0 }

// pause is the time of a schedule, not a wait for something.
func pause(ctx context.Context, t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// KillLeaders kills the busiest leader again and again; it starts again while
// the others lead.
func (x Chaos) KillLeaders(ctx context.Context, t testing.TB) {
	x.rounds(ctx, t, "kill", func(int) {
		b := Busiest(ctx, t, x.Cluster)
		must(t, "kill", b.Kill())
		x.Load.AwaitProgress(ctx, t, progressWithin)
		must(t, "start", b.Start(ctx))
		x.Load.AwaitProgress(ctx, t, progressWithin)
	})
	AwaitHealthy(ctx, t, x.Cluster)
}

// PauseLeaders stops the process of the busiest leader for longer than its
// lease, so that it comes back and does not know that it was deposed.
func (x Chaos) PauseLeaders(ctx context.Context, t testing.TB) {
	x.rounds(ctx, t, "pause", func(int) {
		b := Busiest(ctx, t, x.Cluster)
		must(t, "pause", b.Pause())
		pause(ctx, t, x.Away)
		must(t, "resume", b.Resume())
		x.Load.AwaitProgress(ctx, t, progressWithin)
	})
	AwaitHealthy(ctx, t, x.Cluster)
}

// IsolateLeaders cuts the busiest leader off from all but clients.
func (x Chaos) IsolateLeaders(ctx context.Context, t testing.TB) {
	x.rounds(ctx, t, "isolate", func(int) {
		b := Busiest(ctx, t, x.Cluster)
		must(t, "isolate", x.Cluster.Isolate(ctx, b.ID()))
		pause(ctx, t, x.Away)
		x.Load.AwaitProgress(ctx, t, progressWithin)
		must(t, "heal", x.Cluster.Heal(ctx))
		x.Load.AwaitProgress(ctx, t, progressWithin)
	})
	AwaitHealthy(ctx, t, x.Cluster)
}

// CutLinks cuts single links: between two brokers who both reach the third and
// etcd, one way and both ways, and from a broker to etcd only.
func (x Chaos) CutLinks(ctx context.Context, t testing.TB) {
	x.rounds(ctx, t, "cut", func(round int) {
		b := Busiest(ctx, t, x.Cluster).ID()
		other := b%int32(len(x.Cluster.Brokers)) + 1
		var err error
		switch round % 4 {
		case 0: // the leader's packets get to one follower no more
			err = x.Cluster.Cut(ctx, b, other)
		case 1: // the follower's packets get to the leader no more
			err = x.Cluster.Cut(ctx, other, b)
		case 2:
			if err = x.Cluster.Cut(ctx, b, other); err == nil {
				err = x.Cluster.Cut(ctx, other, b)
			}
		case 3:
			err = x.Cluster.Cut(ctx, b, cluster.EtcdEnd)
		}
		must(t, "cut", err)
		pause(ctx, t, x.Away)
		x.Load.AwaitProgress(ctx, t, progressWithin)
		must(t, "heal", x.Cluster.Heal(ctx))
		x.Load.AwaitProgress(ctx, t, progressWithin)
		AwaitHealthy(ctx, t, x.Cluster)
	})
}

// LoseDisks kills the busiest leader and empties its disk: it comes back by itself.
func (x Chaos) LoseDisks(ctx context.Context, t testing.TB) {
	x.rounds(ctx, t, "lost disk", func(int) {
		b := Busiest(ctx, t, x.Cluster)
		must(t, "kill", b.Kill())
		must(t, "lose disk", b.LoseDisk(ctx))
		x.Load.AwaitProgress(ctx, t, progressWithin)
		must(t, "start", b.Start(ctx))
		AwaitHealthy(ctx, t, x.Cluster)
	})
}

// RollingRestart stops one broker after the other and starts it again.
func (x Chaos) RollingRestart(ctx context.Context, t testing.TB) {
	for _, b := range x.Cluster.Brokers {
		x.restart(ctx, t, "rolling restart", b)
	}
}

func (x Chaos) restart(ctx context.Context, t testing.TB, what string, b *cluster.Broker) {
	t.Helper()
	x.Load.LongestGap()
	stopping, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	must(t, "stop", b.Stop(stopping))
	took := time.Since(began)
	x.Load.AwaitProgress(ctx, t, progressWithin)
	gap := x.Load.LongestGap()
	must(t, "start", b.Start(ctx))
	AwaitHealthy(ctx, t, x.Cluster)
	t.Logf("%s: broker %d stopped in %s; longest time without an ack in a partition %s, and %s until all was in sync again", what, b.ID(),
		took.Round(time.Millisecond), gap.Round(time.Millisecond), x.Load.LongestGap().Round(time.Millisecond))
	if !x.Load.healthy() {
		t.Errorf("%s of broker %d: clients were told of errors", what, b.ID())
	}
}

// RollingConfiguration gives each broker a setting that takes a restart, one
// after the other, and changes a dynamic one of all brokers and one of topics
// in between.
func (x Chaos) RollingConfiguration(ctx context.Context, t testing.TB) {
	adm := admins(t, x.Cluster)
	for n, b := range x.Cluster.Brokers {
		b.Set("num.replica.fetchers", "2")
		x.restart(ctx, t, "rolling configuration", b)
		retention := fmt.Sprint((100 + n) * 3600_000)
		dynamic := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.retention.ms", Value: &retention}}
		res, err := adm.AlterBrokerConfigs(ctx, dynamic)
		must(t, "alter broker settings", firstError(res, err))
		segment := fmt.Sprint((n + 2) << 20)
		res, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.bytes", Value: &segment}}, x.Load.parts[0].topic)
		must(t, "alter topic settings", firstError(res, err))
		for _, other := range x.Cluster.Brokers {
			x.awaitSetting(ctx, t, other, "log.retention.ms", retention)
		}
	}
	for _, b := range x.Cluster.Brokers {
		x.awaitSetting(ctx, t, b, "num.replica.fetchers", "2")
	}
}

func firstError(res kadm.AlterConfigsResponses, err error) error {
	for _, r := range res {
		if err == nil {
			err = r.Err
		}
	}
	return err
}

// awaitSetting waits until a broker says that a setting has a value.
func (x Chaos) awaitSetting(ctx context.Context, t testing.TB, b *cluster.Broker, name, want string) {
	t.Helper()
	adm := admins(t, x.Cluster)
	await(ctx, t, healthyWithin, func() error {
		list, err := adm.DescribeBrokerConfigs(ctx, b.ID())
		if err != nil {
			return err
		}
		for _, r := range list {
			for _, c := range r.Configs {
				if c.Key == name && c.MaybeValue() == want {
					return nil
				}
			}
		}
		return fmt.Errorf("broker %d does not say %s=%s", b.ID(), name, want)
	})
}

// EtcdAway takes etcd away: what is led goes on being led, and no producer waits.
func (x Chaos) EtcdAway(ctx context.Context, t testing.TB) {
	x.away(ctx, t, "etcd", x.Cluster.Etcd)
}

// StoreAway takes the object store away: nobody notices.
func (x Chaos) StoreAway(ctx context.Context, t testing.TB) { x.away(ctx, t, "store", x.Store) }

// unnoticed is the longest time without an ack that nobody calls an outage on a
// machine that is busy with other tests.
const unnoticed = 2 * time.Second

func (x Chaos) away(ctx context.Context, t testing.TB, what string, s Store) {
	t.Helper()
	x.Load.AwaitProgress(ctx, t, progressWithin)
	x.Load.LongestGap()
	must(t, "stop "+what, s.Stop())
	pause(ctx, t, x.Away)
	x.Load.AwaitProgress(ctx, t, progressWithin)
	gap := x.Load.LongestGap()
	must(t, "start "+what, s.Start(ctx))
	AwaitHealthy(ctx, t, x.Cluster)
	x.Load.AwaitProgress(ctx, t, progressWithin)
	t.Logf("%s away for %s: longest time without an ack in a partition %s, and %s after it was back", what, x.Away, gap.Round(time.Millisecond), x.Load.LongestGap().Round(time.Millisecond))
	if gap > unnoticed {
		t.Errorf("without %s a partition acked nothing for %s", what, gap)
	}
}
