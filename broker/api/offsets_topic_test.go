package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// TestTheGroupsTopicGrowsToItsReplicationFactor has a client of groups come while one
// broker is there, and others later: they get replicas of the topic, shared out, and
// a fourth broker gets none.
func TestTheGroupsTopicGrowsToItsReplicationFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"offsets.topic.replication.factor": "3", "offsets.topic.num.partitions": "4"})
		k := c.dial()
		k.coordinate()
		replicas := func() (n, most int, preferred map[int32]int) {
			preferred = make(map[int32]int)
			_, rt := k.metadataOf("__consumer_offsets")
			for _, p := range rt.Partitions {
				n += len(p.Replicas)
				most = max(most, len(p.Replicas))
				preferred[p.Replicas[0]]++
			}
			return n, most, preferred
		}
		n, _, _ := replicas()
		same(t, "replicas on one broker", n, 4)
		c.ghost(metadata.Registration{ID: 5, Role: metadata.RoleReplay})
		time.Sleep(time.Minute)
		n, _, _ = replicas()
		same(t, "replicas, a replay broker beside it", n, 4)
		c.ghost(metadata.Registration{ID: 2})
		c.until("each partition has two", func(*conn) bool { n, _, _ := replicas(); return n == 8 })
		_, _, preferred := replicas()
		same(t, "preferred leaders", text("%v", preferred), "map[1:2 2:2]")
		time.Sleep(time.Minute)
		n, most, _ := replicas()
		same(t, "replicas, while those are being added", n, 8)
		same(t, "of one partition", most, 2)
		k.coordinate() // groups work all the while
	})
}
