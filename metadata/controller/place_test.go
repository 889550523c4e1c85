package controller

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/metadata"
)

func TestPlacementIsBalancedAndSpreadOverRacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		racks := rapid.IntRange(0, 4).Draw(t, "racks")
		perRack := rapid.IntRange(1, 4).Draw(t, "per rack")
		var brokers []metadata.Broker
		for i := range max(racks, 1) * perRack {
			b := metadata.Broker{ID: metadata.BrokerID(i * 3)}
			if racks > 0 {
				b.Rack = fmt.Sprintf("rack-%d", i%racks)
			}
			brokers = append(brokers, b)
		}
		n := len(brokers)
		replicas := rapid.IntRange(1, min(n, 5)).Draw(t, "replicas")
		rounds := rapid.IntRange(1, 5).Draw(t, "rounds")
		out, err := Place(rapid.Permutation(brokers).Draw(t, "order"), rounds*n, replicas, rapid.IntRange(0, 50).Draw(t, "start"))
		if err != nil {
			t.Fatal(err)
		}
		rackOf := map[metadata.BrokerID]string{}
		for _, b := range brokers {
			rackOf[b.ID] = b.Rack
		}
		leads, holds := map[metadata.BrokerID]int{}, map[metadata.BrokerID]int{}
		for p, ids := range out {
			seen, seenRacks := map[metadata.BrokerID]bool{}, map[string]bool{}
			for _, id := range ids {
				seen[id], seenRacks[rackOf[id]] = true, true
				holds[id]++
			}
			leads[ids[0]]++
			if len(ids) != replicas || len(seen) != replicas {
				t.Fatalf("partition %d has replicas %v, want %d different ones", p, ids, replicas)
			}
			if len(seenRacks) != min(replicas, max(racks, 1)) {
				t.Fatalf("partition %d with replicas %v is on %d racks of %d", p, ids, len(seenRacks), racks)
			}
		}
		for _, b := range brokers {
			if leads[b.ID] != rounds {
				t.Errorf("broker %d leads %d of %d partitions, want %d", b.ID, leads[b.ID], len(out), rounds)
			}
			if racks == 0 && holds[b.ID] != rounds*replicas {
				t.Errorf("broker %d holds %d replicas, want %d", b.ID, holds[b.ID], rounds*replicas)
			}
		}
	})
}
