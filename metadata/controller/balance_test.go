package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/metadata"
)

// fleet makes brokers with ids from 1 on, in so many racks (0: none named).
func fleet(n, racks int) []metadata.Broker {
	out := make([]metadata.Broker, n)
	for i := range out {
		out[i].ID = metadata.BrokerID(i + 1)
		if racks > 0 {
			out[i].Rack = fmt.Sprintf("rack-%d", i%racks)
		}
	}
	return out
}

// placedTopics places topics of so many partitions and replicas on brokers.
func placedTopics(t testing.TB, brokers []metadata.Broker, topics, partitions, replicas int) []*metadata.Topic {
	t.Helper()
	var out []*metadata.Topic
	for i := range topics {
		placed, err := Place(brokers, partitions, replicas, i)
		if err != nil {
			t.Fatal(err)
		}
		topic := &metadata.Topic{Name: fmt.Sprintf("t%d", i), ID: metadata.NewTopicID()}
		for _, ids := range placed {
			topic.Partitions = append(topic.Partitions, metadata.Partition{Replicas: ids, ISR: ids, Leader: ids[0]})
		}
		out = append(out, topic)
	}
	return out
}

// carriedOut returns the topics after the moves, and how many replicas were copied.
func carriedOut(topics []*metadata.Topic, moves []Move) (after []*metadata.Topic, copies int) {
	byID := map[metadata.TopicID]*metadata.Topic{}
	for _, t := range topics {
		c := *t
		c.Partitions = slices.Clone(t.Partitions)
		byID[t.ID] = &c
		after = append(after, &c)
	}
	for _, m := range moves {
		p := &byID[m.Topic.ID].Partitions[m.Partition]
		copies += len(without(m.Replicas, p.Replicas))
		p.Replicas = m.Replicas
	}
	return after, copies
}

func tally(topics []*metadata.Topic) (replicas, leads map[metadata.BrokerID]int) {
	replicas, leads = map[metadata.BrokerID]int{}, map[metadata.BrokerID]int{}
	for _, t := range topics {
		for _, p := range t.Partitions {
			for _, id := range p.Replicas {
				replicas[id]++
			}
			leads[p.Replicas[0]]++
		}
	}
	return replicas, leads
}

// gap is the largest difference of the brokers' numbers.
func gap(brokers []metadata.Broker, n map[metadata.BrokerID]int) int {
	var all []int
	for _, b := range brokers {
		all = append(all, n[b.ID])
	}
	return slices.Max(all) - slices.Min(all)
}

func TestBalanceFillsAFourthBrokerWithTheFewestCopies(t *testing.T) {
	three, four := fleet(3, 0), fleet(4, 0)
	topics := placedTopics(t, three, 20, 6, 3)
	after, copies := carriedOut(topics, Balance(four, topics))
	replicas, leads := tally(after)
	if gap(four, replicas) > 1 || gap(four, leads) > 1 {
		t.Errorf("replicas %v, leaderships %v, want them even", replicas, leads)
	}
	if want := 20 * 6 * 3 / 4; copies != want {
		t.Errorf("%d replicas copied, want the fourth broker's share %d", copies, want)
	}
	for _, topic := range after {
		n, _ := tally([]*metadata.Topic{topic})
		if n[4] < 4 || n[4] > 5 {
			t.Errorf("the fourth broker has %d of the 18 replicas of %s, want 4 or 5", n[4], topic.Name)
		}
	}
	if again := Balance(four, after); len(again) != 0 {
		t.Errorf("%d moves in a cluster that is balanced", len(again))
	}
}

func TestBalanceLeavesDrainingReplayAndReassignedAlone(t *testing.T) {
	brokers := append(fleet(4, 0), metadata.Broker{ID: 5, Role: metadata.RoleReplay}, metadata.Broker{ID: 6, Draining: true})
	topics := placedTopics(t, fleet(3, 0), 4, 6, 2)
	for n := range topics[0].Partitions {
		p := &topics[0].Partitions[n]
		p.Adding, p.Removing = []metadata.BrokerID{9}, p.Replicas[:1]
		p.Replicas = append([]metadata.BrokerID{9}, p.Replicas...)
	}
	moves := Balance(brokers, topics)
	if len(moves) == 0 {
		t.Fatal("nothing to do")
	}
	for _, m := range moves {
		if m.Topic == topics[0] {
			t.Errorf("moves %s-%d, which is being reassigned", m.Topic.Name, m.Partition)
		}
		for _, id := range without(m.Replicas, m.Topic.Partitions[m.Partition].Replicas) {
			if id != 4 {
				t.Errorf("%s-%d goes to broker %d, want 4 alone to get any", m.Topic.Name, m.Partition, id)
			}
		}
	}
}

// drawCluster draws a cluster whose topics were placed anyhow.
func drawCluster(t *rapid.T) ([]metadata.Broker, []*metadata.Topic) {
	racks := rapid.IntRange(0, 3).Draw(t, "racks")
	brokers := fleet(rapid.IntRange(max(1, racks), 8).Draw(t, "brokers"), racks)
	var ids []metadata.BrokerID
	for _, b := range brokers {
		ids = append(ids, b.ID)
	}
	var topics []*metadata.Topic
	for i := range rapid.IntRange(1, 6).Draw(t, "topics") {
		topic := &metadata.Topic{Name: fmt.Sprint(i), ID: metadata.TopicID{byte(i + 1)}}
		factor := rapid.IntRange(1, len(ids)).Draw(t, "replicas")
		for range rapid.IntRange(1, 12).Draw(t, "partitions") {
			replicas := rapid.Permutation(ids).Draw(t, "order")[:factor]
			topic.Partitions = append(topic.Partitions, metadata.Partition{Replicas: replicas, ISR: replicas, Leader: replicas[0]})
		}
		topics = append(topics, topic)
	}
	return brokers, topics
}

func rackCount(brokers []metadata.Broker, replicas []metadata.BrokerID) int {
	racks := map[string]bool{}
	for _, b := range brokers {
		if slices.Contains(replicas, b.ID) && b.Rack != "" {
			racks[b.Rack] = true
		}
	}
	return len(racks)
}

func TestBalanceEvensOutAnyCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers, topics := drawCluster(t)
		racks := len(maps.Collect(func(yield func(string, bool) bool) {
			for _, b := range brokers {
				if b.Rack != "" && !yield(b.Rack, true) {
					return
				}
			}
		}))
		before, _ := tally(topics)
		moves := Balance(brokers, topics)
		after, copies := carriedOut(topics, moves)
		replicas, leads := tally(after)
		for i, topic := range after {
			for n, p := range topic.Partitions {
				if len(p.Replicas) != len(topics[i].Partitions[n].Replicas) || len(slices.Compact(slices.Sorted(slices.Values(p.Replicas)))) != len(p.Replicas) {
					t.Fatalf("replicas %v were %v", p.Replicas, topics[i].Partitions[n].Replicas)
				}
				if got, want := rackCount(brokers, p.Replicas), min(racks, len(p.Replicas)); got != want {
					t.Fatalf("replicas %v are on %d racks, want %d", p.Replicas, got, want)
				}
			}
		}
		if racks == 0 {
			if gap(brokers, replicas) > 1 {
				t.Fatalf("replicas %v, want them even", replicas)
			}
			var have []int
			for _, b := range brokers {
				have = append(have, before[b.ID])
			}
			fewest := 0
			for i, share := range shares(have) {
				fewest += max(0, have[i]-share)
			}
			if copies != fewest {
				t.Fatalf("%d replicas copied, want %d", copies, fewest)
			}
		}
		for _, topic := range after {
			for n, p := range topic.Partitions {
				for _, id := range p.Replicas[1:] {
					if leads[p.Replicas[0]] > leads[id]+1 {
						t.Fatalf("%s-%d with replicas %v: leaderships %v could be more even", topic.Name, n, p.Replicas, leads)
					}
				}
			}
		}
		for _, m := range moves {
			if slices.Equal(m.Replicas, m.Topic.Partitions[m.Partition].Replicas) {
				t.Fatalf("a move of %s-%d that moves nothing", m.Topic.Name, m.Partition)
			}
		}
		if again := Balance(brokers, after); len(again) != 0 {
			t.Fatalf("%d moves after a balance", len(again))
		}
	})
}

func TestDrainLeavesNothingAndSpreadsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers, topics := drawCluster(t)
		gone := rapid.SampledFrom(brokers).Draw(t, "gone").ID
		held, most := 0, 0
		for _, topic := range topics {
			for _, p := range topic.Partitions {
				most = max(most, len(p.Replicas))
				if slices.Contains(p.Replicas, gone) {
					held++
				}
			}
		}
		moves, err := Drain(gone, brokers, topics)
		if most == len(brokers) {
			if held > 0 && !errors.Is(err, ErrTooFewBrokers) {
				t.Fatalf("got %v, want ErrTooFewBrokers", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		after, copies := carriedOut(topics, moves)
		if replicas, _ := tally(after); replicas[gone] != 0 || copies != held {
			t.Fatalf("%d replicas left, %d copied of %d", replicas[gone], copies, held)
		}
		for i, topic := range after {
			for n, p := range topic.Partitions {
				others := slices.DeleteFunc(slices.Clone(brokers), func(b metadata.Broker) bool { return b.ID == gone })
				var racks []metadata.BrokerID
				for _, b := range others {
					racks = append(racks, b.ID)
				}
				had := rackCount(brokers, topics[i].Partitions[n].Replicas)
				if got := rackCount(brokers, p.Replicas); got < min(had, rackCount(others, racks)) {
					t.Fatalf("replicas %v are on %d racks, were on %d", p.Replicas, got, had)
				}
			}
		}
	})
}

func TestDrainIsEven(t *testing.T) {
	brokers := fleet(6, 3)
	topics := placedTopics(t, brokers, 10, 12, 3)
	moves, err := Drain(6, brokers, topics)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := carriedOut(topics, moves)
	replicas, leads := tally(after)
	// Racks of two, two and one: what was on 6 must go to its rack's other one, 3.
	if replicas[3] != 120 || gap(fleet(5, 0), leads) > 8 {
		t.Errorf("replicas %v, leaderships %v", replicas, leads)
	}
	moves, err = Drain(6, fleet(6, 0), topics)
	if err != nil {
		t.Fatal(err)
	}
	after, _ = carriedOut(topics, moves)
	if replicas, _ = tally(after); gap(fleet(5, 0), replicas) > 2 {
		t.Errorf("replicas %v, want them even", replicas)
	}
}

// What a person waits for at the command line, and the controller may call.
func TestTenThousandPartitionsAreBalancedAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes time as a measure")
	}
	for _, c := range []struct{ before, after, racks, topics, partitions int }{
		{3, 4, 0, 1, 10_000}, {3, 4, 0, 1000, 10}, {3, 4, 0, 10_000, 1}, {6, 9, 3, 100, 100}, {30, 40, 0, 100, 100}, {4, 5, 2, 10_000, 1},
	} {
		topics := placedTopics(t, fleet(c.before, c.racks), c.topics, c.partitions, 3)
		brokers := fleet(c.after, c.racks)
		start := time.Now()
		moves := Balance(brokers, topics)
		balanced := time.Since(start)
		after, _ := carriedOut(topics, moves)
		replicas, leads := tally(after)
		start = time.Now()
		if _, err := Drain(1, brokers, after); err != nil {
			t.Error(err)
		}
		t.Logf("%+v: %d moves in %s, drained in %s, gaps %d and %d", c, len(moves), balanced, time.Since(start), gap(brokers, replicas), gap(brokers, leads))
		if balanced > 5*time.Second { // a hundred milliseconds, on a machine that does nothing else
			t.Errorf("%+v: took %s", c, balanced)
		}
	}
}
