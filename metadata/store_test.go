package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestClusterIDIsMadeOnce(t *testing.T) {
	mem := kv.NewMem()
	first, second := openStore(t, mem, false), openStore(t, mem, false)
	if a, b := first.Image().ClusterID(), second.Image().ClusterID(); a != b || len(a) != 22 {
		t.Errorf("cluster ids %q and %q, want one of 22 characters", a, b)
	}
	other, err := Open(t.Context(), Options{KV: mem, Cluster: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if other.Image().ClusterID() == first.Image().ClusterID() {
		t.Error("two clusters share an id")
	}
}

// A topic that needs several transactions must never be seen in part.
// Whatever transaction is the last one before a crash, the topic is there whole
// or not at all, and its remains can be worked off.
func TestConfigsOfTopicsBrokersAndAllBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		createTopic(t, s, "t", 1)
		alter := func(r Resource, set map[string]string, del []string, all bool) {
			t.Helper()
			if err := s.AlterConfigs(t.Context(), r, set, del, all); err != nil {
				t.Fatal(err)
			}
		}
		topic, broker, all := Resource{TopicResource, "t"}, Resource{BrokerResource, "3"}, Resource{BrokerResource, ""}
		alter(topic, map[string]string{"a": "1", "b": "2"}, nil, false)
		alter(topic, map[string]string{"c": "3"}, []string{"a", "never set"}, false)
		alter(broker, map[string]string{"x": "1"}, nil, false)
		alter(all, map[string]string{"x": "2", "y": "2"}, nil, false)
		alter(all, map[string]string{"z": "3"}, nil, true)
		im := s.Image()
		for name, c := range map[string]struct{ got, want map[string]string }{
			"topic":       {im.TopicConfig("t"), map[string]string{"b": "2", "c": "3"}},
			"broker":      {im.BrokerConfig(3), map[string]string{"x": "1"}},
			"other":       {im.BrokerConfig(4), nil},
			"all brokers": {im.DefaultBrokerConfig(), map[string]string{"z": "3"}},
		} {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		before := s.Image().Revision()
		alter(topic, map[string]string{"b": "2"}, nil, false) // changes nothing, writes nothing
		alter(broker, nil, nil, true)
		if got := s.Image(); got.BrokerConfig(3) != nil || got.Revision() != before+1 {
			t.Errorf("got %v at revision %d, want none at %d", got.BrokerConfig(3), got.Revision(), before+1)
		}
		for _, r := range []Resource{{TopicResource, "absent"}, {TopicResource, "a/b"}, {BrokerResource, "x"}} {
			if err := s.AlterConfigs(t.Context(), r, map[string]string{"a": "b"}, nil, false); err == nil {
				t.Errorf("%s: accepted", r)
			}
		}
	})
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		blocks := make(chan int64, 100)
		for range 10 {
			s := openStore(t, mem, false)
			go func() {
				for range 10 {
					first, err := s.AllocateProducerIDs(t.Context(), 1000)
					if err != nil {
						t.Error(err)
					}
					blocks <- first
				}
			}()
		}
		seen := map[int64]bool{}
		for range 100 {
			first := <-blocks
			if seen[first] || first%1000 != 0 || first >= 100_000 {
				t.Errorf("block %d again or out of range", first)
			}
			seen[first] = true
		}
	})
}

func TestImageSurvivesCompactionAndReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		writer := openStore(t, mem, true)
		var down atomic.Bool
		reader := openStore(t, mem.Client(func(_ context.Context, c kv.Call) error {
			if down.Load() {
				return kv.ErrUnavailable
			}
			return nil
		}), true)
		createTopic(t, writer, "kept", 3)
		gone := createTopic(t, writer, "gone", 3)
		register(t, writer, 1)
		synctest.Wait()
		old := reader.Image()
		keptBefore, _ := old.Topic("kept")

		down.Store(true)
		createTopic(t, writer, "new", 2)
		time.Sleep(time.Minute)
		if err := writer.DeleteTopic(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		if err := writer.FinishTombstone(t.Context(), gone.ID); err != nil {
			t.Fatal(err)
		}
		register(t, writer, 2)
		if reader.Image() != old {
			t.Error("the image changed though the store was away")
		}
		mem.Compact(writer.Image().Revision())
		down.Store(false)
		time.Sleep(maxBackoff)
		synctest.Wait()
		sameImage(t, writer.Image(), reader.Image())
		if after, _ := reader.Image().Topic("kept"); after != keptBefore {
			t.Error("an unchanged topic was made anew")
		}
		createTopic(t, writer, "later", 1)
		synctest.Wait()
		sameImage(t, writer.Image(), reader.Image())
	})
}

func TestHandWrittenNonsenseKeepsTheLastGoodValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		topic := createTopic(t, s, "t", 2)
		key := s.keys.partition(TopicIDPartition{topic.ID, 1})
		bad := []kv.Op{
			kv.Put(key, []byte(`{"leader": "one"`), 0), kv.Put(s.keys.topic("t"), []byte("[]"), 0),
			kv.Put(string(s.keys)+"partitions/"+topic.ID.String()+"/99999999", []byte("{}"), 0),
			kv.Put(string(s.keys)+"brokers/x", []byte("{}"), 0), kv.Put(string(s.keys)+"future/thing", []byte("x"), 0),
		}
		resp, err := mem.Txn(t.Context(), kv.Txn{Then: bad})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitRevision(t.Context(), resp.Revision); err != nil {
			t.Fatal(err)
		}
		got, _ := s.Image().Topic("t")
		if diff := cmp.Diff(topic, got); diff != "" {
			t.Errorf("the topic changed (-want +got):\n%s", diff)
		}
		// Who starts has no last good value. It says which ones it lacks, and goes on.
		var logged strings.Builder
		fresh, err := Open(t.Context(), Options{KV: mem, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{key, s.keys.topic("t")} {
			if !strings.Contains(logged.String(), key) {
				t.Errorf("the log does not name %s", key)
			}
		}
		if _, ok := fresh.Image().Topic("t"); ok {
			t.Error("a topic whose value cannot be read is there")
		}
		if _, err := fresh.Fresh(t.Context()); err == nil {
			t.Error("who decides what is garbage was told that all can be read")
		}
	})
}

func TestWatchWakesOncePerBatchAndChangesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		for i := range 50 {
			createTopic(t, s, fmt.Sprintf("t%d", i), 2)
		}
		wake, stop := s.Watch()
		before := s.Image()
		createTopic(t, s, "new", 1)
		if err := s.DeleteTopic(t.Context(), "t7"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		<-wake
		select {
		case <-wake:
			t.Error("woken twice without looking")
		default:
		}
		var got []string
		for c := range s.Image().ChangedTopics(before) {
			switch {
			case c.Old == nil:
				got = append(got, "+"+c.New.Name)
			case c.New == nil:
				got = append(got, "-"+c.Old.Name)
			default:
				got = append(got, c.New.Name)
			}
		}
		slices.Sort(got)
		if want := []string{"+new", "-t7"}; !slices.Equal(got, want) {
			t.Errorf("changed topics %v, want %v", got, want)
		}
		stop()
		createTopic(t, s, "unseen", 1)
		select {
		case <-wake:
			t.Error("woken after the end")
		default:
		}
	})
}

// A shutdown may end Run while a last write is on its way.
func TestWriterIsNotHeldUpByTheEndOfRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem.Client(func(ctx context.Context, c kv.Call) error {
			if c.Kind == kv.CallEvents {
				<-ctx.Done() // the watch is stuck
			}
			return nil
		}), false)
		ctx, cancel := context.WithCancel(t.Context())
		ran, wrote := make(chan error, 1), make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		go func() {
			_, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(1, 1)})
			wrote <- err
		}()
		synctest.Wait()
		select {
		case err := <-wrote:
			t.Errorf("did not wait for the image: %v", err)
		default:
		}
		cancel()
		if err := errors.Join(<-ran, <-wrote); err != nil {
			t.Error(err)
		}
	})
}

// A process writes as soon as it has opened the Store, whenever Run gets its turn.
func TestWriterSeesItsWritesFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		other := openStore(t, mem, false)
		s := openStore(t, mem, false)
		write := func(name string) {
			t.Helper()
			createTopic(t, other, "other-"+name, 1) // to be seen too
			createTopic(t, s, name, 1)
			for _, want := range []string{name, "other-" + name} {
				if _, ok := s.Image().Topic(want); !ok {
					t.Errorf("topic %s is not in the image", want)
				}
			}
		}
		write("before")
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		write("starting")
		synctest.Wait()
		write("running")
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		createTopic(t, s, "after", 1) // must not wait for an image that nobody makes
	})
}

// Writers before Run make images one after the other and never an older one.
func TestManyWritersBeforeRunMakeOneHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, false)
		ctx, cancel := context.WithCancel(t.Context())
		ran, wrote := make(chan error, 1), make(chan string)
		for n := range 20 {
			if n == 10 {
				go func() { ran <- s.Run(ctx) }()
			}
			go func() {
				name := fmt.Sprintf("t%d", n)
				createTopic(t, s, name, 1)
				if _, ok := s.Image().Topic(name); !ok {
					t.Errorf("topic %s is not in the image", name)
				}
				wrote <- name
			}()
		}
		for range 20 {
			<-wrote
		}
		sameImage(t, openStore(t, mem, false).Image(), s.Image())
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestWritesAreCountedAndReadsAndRenewalsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, reader := kv.NewMem(), sdkmetric.NewManualReader()
		s, err := Open(t.Context(), Options{KV: mem, Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("metadata")})
		if err != nil {
			t.Fatal(err)
		}
		runStore(t, s)
		counts := func() map[string]int64 {
			var all metricdata.ResourceMetrics
			if err := reader.Collect(t.Context(), &all); err != nil {
				t.Fatal(err)
			}
			out := map[string]int64{}
			for _, m := range all.ScopeMetrics[0].Metrics {
				if m.Name == "coldbrook_metadata_writes" {
					for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
						op, _ := p.Attributes.Value("operation")
						out[op.AsString()] = p.Value
					}
				}
			}
			return out
		}
		register(t, s, 1)
		topic := createTopic(t, s, "t", 1)
		to := topic.Partitions[0]
		to.LeaderEpoch++
		change := []PartitionChange{{TopicIDPartition: TopicIDPartition{topic.ID, 0}, From: topic.Partitions[0], To: to}}
		s.AlterPartitions(t.Context(), change)
		change[0].From.ModRevision--
		s.AlterPartitions(t.Context(), change) // refused
		if _, err := s.RemotePointers(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		want := map[string]int64{"make-cluster": 1, "grant-lease": 1, "register-broker": 1, "create-topic": 1, "alter-partitions": 1}
		if diff := cmp.Diff(want, counts()); diff != "" {
			t.Errorf("writes by operation (-want +got):\n%s", diff)
		}
	})
}
