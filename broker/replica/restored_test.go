package replica_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestRestoreLosesNothingThatDisksStillHold loses etcd alone, and restores the
// cluster from the tier while one broker's disk has less than was acked, whichever
// comes back first.
func TestRestoreLosesNothingThatDisksStillHold(t *testing.T) {
	for _, epochs := range []int32{10, -1} { // above what the logs have, or below
		t.Run(fmt.Sprint("epoch ", epochs), func(t *testing.T) {
			inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
				f.topic("t", 1, 2, 3)
				f.put("t", "a", "b")
				f.inSync("t", 1, 2, 3)
				f.node(1).crash(rand.New(rand.NewSource(1)), 100)
				f.inSync("t", 2, 3)
				f.put("t", "c", "d", "e")
				topic, _ := f.node(2).md.Image().Topic("t")
				p := topic.Partitions[0]
				f.node(2).stop()
				f.node(3).stop()
				f.kv = kv.NewMem()
				f.must(metadata.RestoreCluster(t.Context(), f.kv, "", metadata.Restored{ClusterID: "c", Topics: []metadata.RestoredTopic{{
					Name: "t", ID: topic.ID, Created: topic.Created, Partitions: []metadata.RestoredPartition{{Replicas: p.Replicas, LeaderEpoch: p.LeaderEpoch + epochs}},
				}}}, false))
				f.node(1).start()
				f.node(3).start()
				time.Sleep(time.Minute)
				if p := f.node(1).image("t"); p.Leader != metadata.NoBroker {
					t.Errorf("broker %d leads before broker 2 is back", p.Leader)
				}
				f.node(2).start()
				f.inSync("t", 1, 2, 3)
				f.put("t", "f")
				want := fmt.Sprint(map[int64]string{0: "a", 1: "b", 2: "c", 3: "d", 4: "e", 5: "f"})
				f.until("all have all", func() bool {
					for _, n := range f.nodes {
						if fmt.Sprint(n.all("t", 0)) != want {
							return false
						}
					}
					return true
				})
			})
		})
	}
}
