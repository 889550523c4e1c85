package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func restoredPartitions(n int) []RestoredPartition {
	out := make([]RestoredPartition, n)
	for i := range out {
		out[i] = RestoredPartition{Replicas: []BrokerID{1, 2}, LeaderEpoch: 107, Remote: RemotePointer{
			Manifest: "topics/t.x/0/manifest/m", Sequence: 3, LeaderEpoch: 7, StartOffset: 10, EndOffset: int64(100 + i),
		}}
	}
	return out
}

func restoredCluster() Restored {
	return Restored{
		ClusterID: "the-cluster",
		Topics: []RestoredTopic{
			{Name: "large", ID: TopicID{1}, Created: time.UnixMilli(5).UTC(), Configs: map[string]string{"retention.ms": "1"}, Partitions: restoredPartitions(500)},
			{Name: "gone", ID: TopicID{2}, Created: time.UnixMilli(6).UTC(), Partitions: restoredPartitions(1), Deleted: time.UnixMilli(7).UTC()},
			{Name: "bare", ID: TopicID{3}, Created: time.UnixMilli(8).UTC(), Partitions: []RestoredPartition{{Replicas: []BrokerID{2}, LeaderEpoch: 100}}},
		},
		BrokerConfigs:  map[string]map[string]string{"": {"a": "b"}, "1": {"a": "c"}},
		NextProducerID: 5000,
		Verbatim:       map[string]json.RawMessage{"acls/x": json.RawMessage(`{"any":1}`)},
		Groups:         PendingGroups{Snapshot: "cluster/1.json", Epoch: 100},
	}
}

// What is restored is what the cluster shows: ids, configurations, partitions and
// pointers, and no leader before a broker lives.
func TestRestoredClusterIsWhatWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, r := kv.NewMem(), restoredCluster()
		if err := RestoreCluster(t.Context(), mem, "", r, false); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, mem, true)
		im := s.Image()
		if im.ClusterID() != r.ClusterID {
			t.Errorf("cluster id %s", im.ClusterID())
		}
		for _, want := range r.Topics {
			got, ok := im.Topic(want.Name)
			if want.Name == "gone" {
				if ok || len(im.Tombstones()) != 1 || im.Tombstones()[0].Topic.ID != want.ID || !im.Tombstones()[0].Deleted.Equal(want.Deleted) {
					t.Errorf("topic %v, tombstones %+v", ok, im.Tombstones())
				}
				continue
			}
			if !ok || got.ID != want.ID || !got.Created.Equal(want.Created) || len(got.Partitions) != len(want.Partitions) {
				t.Fatalf("topic %+v, want %+v", got, want)
			}
			if diff := cmp.Diff(want.Configs, im.TopicConfig(want.Name)); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			for n, p := range want.Partitions {
				have := got.Partitions[n]
				if have.Leader != NoBroker || len(have.ISR) != 0 || !have.Recovering || have.LeaderEpoch != p.LeaderEpoch || !cmp.Equal(have.Replicas, p.Replicas) {
					t.Errorf("partition %d is %+v", n, have)
				}
				pointer, ok := im.RemotePointer(TopicIDPartition{want.ID, int32(n)})
				pointer.ModRevision = 0
				if ok != (p.Remote.Manifest != "") || pointer != p.Remote {
					t.Errorf("pointer %+v, want %+v", pointer, p.Remote)
				}
			}
		}
		if im.DefaultBrokerConfig()["a"] != "b" || im.BrokerConfig(1)["a"] != "c" {
			t.Errorf("configurations %v, %v", im.DefaultBrokerConfig(), im.BrokerConfig(1))
		}
		keys, next, err := s.Verbatim(t.Context())
		if err != nil || next != 5000 || string(keys["acls/x"]) != `{"any":1}` {
			t.Errorf("%s, next producer id %d, %v", keys, next, err)
		}
		if g, ok := im.PendingGroups(); !ok || g != r.Groups {
			t.Errorf("groups %+v", g)
		}
		if err := s.FinishGroups(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Image().PendingGroups(); ok {
			t.Error("the groups' import is not finished")
		}
	})
}

// A restore never writes where a cluster is.
func TestRestoreIsRefusedWhereAClusterIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		openStore(t, mem, true)
		before, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
		if err != nil {
			t.Fatal(err)
		}
		for _, again := range []bool{false, true} {
			if err := RestoreCluster(t.Context(), mem, "", restoredCluster(), again); !errors.Is(err, ErrClusterExists) {
				t.Errorf("again %v: %v", again, err)
			}
		}
		after, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
		if err != nil || !cmp.Equal(before.KVs, after.KVs) {
			t.Errorf("keys changed: %v", err)
		}
		if err := RestoreCluster(t.Context(), mem, "another", restoredCluster(), false); err != nil {
			t.Errorf("beside another cluster: %v", err)
		}
	})
}

// A restore that was broken off at any write is seen by brokers, and begun anew.
func TestBrokenOffRestoreIsNeverServedAndCanBeginAnew(t *testing.T) {
	for n := 1; ; n++ {
		mem := kv.NewMem()
		cut := &cutKV{KV: mem, left: n}
		err := RestoreCluster(t.Context(), cut, "", restoredCluster(), false)
		if err == nil {
			if n < 8 {
				t.Errorf("a restore of %d transactions", n)
			}
			return
		}
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Fatal(err)
		}
		written, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/", End: kv.PrefixEnd("/")})
		if err != nil {
			t.Fatal(err)
		}
		if len(written.KVs) > 0 {
			if _, err := Open(t.Context(), Options{KV: mem}); !errors.Is(err, ErrRestoring) {
				t.Errorf("cut at %d: a broker starts: %v", n, err)
			}
			if err := RestoreCluster(t.Context(), mem, "", restoredCluster(), false); !errors.Is(err, ErrRestoring) {
				t.Errorf("cut at %d: restored without being told to begin anew: %v", n, err)
			}
		}
		if err := RestoreCluster(t.Context(), mem, "", restoredCluster(), true); err != nil {
			t.Errorf("cut at %d: %v", n, err)
		}
		if s, err := Open(t.Context(), Options{KV: mem}); err != nil || len(s.Image().Topics()) != 2 {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// cutKV fails all transactions after the first left ones.
type cutKV struct {
	kv.KV
	left int
}

func (c *cutKV) Txn(ctx context.Context, t kv.Txn) (kv.TxnResponse, error) {
	if c.left--; c.left < 0 {
		return kv.TxnResponse{}, kv.ErrUnavailable
	}
	return c.KV.Txn(ctx, t)
}

// A topic is recovered under its id only where name and id are free.
func TestTopicIsRecoveredOnlyWhereNameAndIDAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, kv.NewMem(), true)
		for _, n := range []int{1, 500} {
			id := TopicID{byte(n)}
			r := RestoredTopic{Name: fmt.Sprint("t", n), ID: id, Created: time.UnixMilli(9).UTC(), Configs: map[string]string{"x": "y"}, Partitions: restoredPartitions(n)}
			if err := s.RecoverTopic(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			got, ok := s.Image().TopicByID(id)
			if !ok || got.Name != r.Name || len(got.Partitions) != n || !got.Partitions[n-1].Recovering || s.Image().TopicConfig(r.Name)["x"] != "y" {
				t.Errorf("recovered %+v", got)
			}
			if p, ok := s.Image().RemotePointer(TopicIDPartition{id, int32(n - 1)}); !ok || p.EndOffset != int64(100+n-1) {
				t.Errorf("pointer %+v", p)
			}
			if len(s.Image().Tombstones()) != 0 {
				t.Errorf("tombstones %v", s.Image().Tombstones())
			}
			if err := s.RecoverTopic(t.Context(), r); !errors.Is(err, ErrTopicExists) {
				t.Errorf("name taken: %v", err)
			}
			other := r
			other.Name += "-other"
			if err := s.RecoverTopic(t.Context(), other); !errors.Is(err, ErrTopicIDTaken) {
				t.Errorf("id taken: %v", err)
			}
			if err := s.DeleteTopic(t.Context(), r.Name); err != nil {
				t.Fatal(err)
			}
			if err := s.RecoverTopic(t.Context(), r); !errors.Is(err, ErrTopicIDTaken) {
				t.Errorf("id of a deleted topic: %v", err)
			}
			if err := s.FinishTombstone(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A key that somebody else wrote meanwhile is not written over.
func TestRestoreWritesOverNothing(t *testing.T) {
	for _, key := range []string{"topics/large", "partitions/" + TopicID{1}.String() + "/7", "remote/" + TopicID{1}.String() + "/499", "configs/brokers/default"} {
		mem := kv.NewMem()
		other := &intrudedKV{KV: mem, key: "/coldbrook/coldbrook/" + key}
		if err := RestoreCluster(t.Context(), other, "", restoredCluster(), false); !errors.Is(err, ErrConflict) {
			t.Errorf("%s is there: %v", key, err)
		}
		resp, err := mem.Range(t.Context(), kv.RangeRequest{Key: other.key})
		if err != nil || len(resp.KVs) != 1 || string(resp.KVs[0].Value) != "mine" {
			t.Errorf("%s was written over: %v", key, err)
		}
	}
}

// intrudedKV puts a key right after the first transaction that writes.
type intrudedKV struct {
	kv.KV
	key  string
	done bool
}

func (i *intrudedKV) Txn(ctx context.Context, t kv.Txn) (kv.TxnResponse, error) {
	resp, err := i.KV.Txn(ctx, t)
	if !i.done && len(t.If) > 0 {
		i.done = true
		_, err = i.KV.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(i.key, []byte("mine"), 0)}})
	}
	return resp, err
}
