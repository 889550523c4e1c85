package metadata

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestKeysAndValuesAreAsDocumented compares all that a small cluster writes with
// a golden file, and that what the former layout had is unchanged in it. Brokers
// of two versions share these keys: a difference that is not an added key or
// field breaks rolling upgrades.
func TestKeysAndValuesAreAsDocumented(t *testing.T) {
	golden, err := os.ReadFile("testdata/layout-v2.txt")
	if err != nil {
		t.Fatal(err)
	}
	former, err := os.ReadFile("testdata/layout-v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		session, err := s.RegisterBroker(t.Context(), Registration{
			ID: 1, Rack: "a", DirectoryID: "dir", Incarnation: "run",
			Listeners: []Listener{{Name: "PLAINTEXT", Host: "h", Port: 9092, Protocol: "PLAINTEXT"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Abandon()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.Campaign(t.Context(), session)
		check(err)
		id, gone := TopicID{1}, TopicID{2}
		for name, id := range map[string]TopicID{"kept": id, "gone": gone} {
			_, err := s.CreateTopic(t.Context(), TopicSpec{Name: name, ID: id, Assignments: assign(1, 1, 2), Configs: map[string]string{"retention.ms": "1"}})
			check(err)
		}
		tip := TopicIDPartition{id, 0}
		_, err = s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 0, RemotePointer{Manifest: "m", Sequence: 3, EndOffset: 10})
		check(err)
		check(s.DeleteTopic(t.Context(), "gone"))
		check(s.AlterConfigs(t.Context(), Resource{BrokerResource, ""}, map[string]string{"a": "b"}, nil, false))
		check(s.AlterConfigs(t.Context(), Resource{BrokerResource, "1"}, map[string]string{"a": "c"}, nil, false))
		_, err = s.AllocateProducerIDs(t.Context(), 1000)
		check(err)

		all, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
		check(err)
		var got strings.Builder
		for _, have := range all.KVs {
			value := strings.ReplaceAll(string(have.Value), s.Image().ClusterID(), "<cluster id>")
			value = strings.ReplaceAll(value, fmt.Sprintf(`"leader_broker_epoch":%d`, session.Epoch), `"leader_broker_epoch":<epoch>`)
			leased := ""
			if have.Lease != 0 {
				leased = " (leased)"
			}
			fmt.Fprintf(&got, "%s%s\n  %s\n", have.Key, leased, value)
		}
		if diff := cmp.Diff(string(golden), got.String()); diff != "" {
			t.Errorf("layout differs (-golden +got):\n%s", diff)
		}
		for line := range strings.Lines(string(former)) {
			if !strings.Contains(got.String(), line) {
				t.Errorf("no longer written: %s", line)
			}
		}
	})
}

// The Store's promises hold on etcd as they do in memory, over a restart too.
func TestStoreOnEmbeddedEtcdSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	var clusterID string
	var pointer RemotePointer
	tip := TopicIDPartition{TopicID{1}, 7}
	for run := range 2 {
		func() {
			e, err := kv.StartEmbedded(t.Context(), kv.EmbeddedOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // after the store's Run
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
			s := openStore(t, e.KV(), true)
			session, err := s.RegisterBroker(t.Context(), Registration{ID: 1, DirectoryID: "dir", Incarnation: fmt.Sprint(run)})
			if err != nil {
				t.Fatal(err)
			}
			term, err := s.Campaign(t.Context(), session)
			if err != nil || term == nil {
				t.Fatalf("run %d: no term: %v", run, err)
			}
			if run == 0 {
				clusterID = s.Image().ClusterID()
				if _, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", ID: tip.Topic, Assignments: assign(1000, 1)}); err != nil {
					t.Fatal(err)
				}
				if pointer, err = s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 0, RemotePointer{Manifest: "m"}); err != nil {
					t.Fatal(err)
				}
			}
			topic, ok := s.Image().Topic("t")
			if !ok || len(topic.Partitions) != 1000 || s.Image().ClusterID() != clusterID {
				t.Fatalf("run %d: topic %v of cluster %s, want 1000 partitions in %s", run, ok, s.Image().ClusterID(), clusterID)
			}
			if led := topic.Partitions[7].LeaderBrokerEpoch == session.Epoch; led != (run == 0) {
				t.Errorf("run %d: led under the current registration: %v", run, led)
			}
			if got, _, err := s.RemotePointer(t.Context(), tip); err != nil || got != pointer {
				t.Errorf("run %d: pointer %+v, %v, want %+v", run, got, err, pointer)
			}
			to := topic.Partitions[7]
			to.LeaderEpoch++
			if errs := term.AlterPartitions(t.Context(), []PartitionChange{{TopicIDPartition: tip, From: topic.Partitions[7], To: to}}); errs[0] != nil {
				t.Errorf("run %d: %v", run, errs[0])
			}
			if run == 0 {
				session.Abandon() // killed: the next run takes over within the lease
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err := session.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
	}
}
