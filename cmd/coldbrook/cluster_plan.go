package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
)

// move gives one partition other replicas.
type move struct {
	metadata.TopicPartition
	From, To []metadata.BrokerID // the first is the preferred leader
}

// adding are the brokers that have to copy the partition.
func (m move) adding() []metadata.BrokerID { return without(m.To, m.From) }

func without(all, not []metadata.BrokerID) []metadata.BrokerID {
	return slices.DeleteFunc(slices.Clone(all), func(id metadata.BrokerID) bool { return slices.Contains(not, id) })
}

// sameBrokers compares without order.
func sameBrokers(x, y []metadata.BrokerID) bool {
	return len(x) == len(y) && len(without(x, y)) == 0
}

// planFile is Kafka's reassignment JSON, as kafka-reassign-partitions reads and writes it.
type planFile struct {
	Version    int             `json:"version"`
	Partitions []planPartition `json:"partitions"`
}

type planPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Replicas  []int32  `json:"replicas"`
	LogDirs   []string `json:"log_dirs,omitempty"` // read, not obeyed: a broker has one
}

func planOf(moves []move) planFile {
	f := planFile{Version: 1, Partitions: []planPartition{}}
	for _, m := range moves {
		f.Partitions = append(f.Partitions, planPartition{Topic: m.Topic, Partition: m.Partition, Replicas: int32s(m.To)})
	}
	return f
}

// parsePlan reads a plan, strictly: a misspelt name would otherwise be a move that is not made.
func parsePlan(b []byte) (planFile, error) {
	var f planFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, err
	}
	if f.Version != 1 {
		return f, fmt.Errorf("version %d: want 1", f.Version)
	}
	if len(f.Partitions) == 0 {
		return f, fmt.Errorf("there is no partition in it")
	}
	seen := map[metadata.TopicPartition]bool{}
	for _, p := range f.Partitions {
		tp := metadata.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		switch {
		case seen[tp]:
			return f, fmt.Errorf("partition %s is in it twice", tp)
		case len(p.Replicas) == 0:
			return f, fmt.Errorf("partition %s has no replicas", tp)
		}
		seen[tp] = true
	}
	return f, nil
}

// movesOf makes a plan's moves, leaving out what is so already.
func (f planFile) moves(v *clusterView) ([]move, error) {
	var out []move
	for _, p := range f.Partitions {
		now, ok := v.partition(p.Topic, p.Partition)
		if !ok {
			return nil, fmt.Errorf("there is no partition %s-%d (`coldbrook topic list` shows the topics)", p.Topic, p.Partition)
		}
		if err := v.canHold(brokerIDs(p.Replicas)); err != nil {
			return nil, fmt.Errorf("partition %s-%d: %w", p.Topic, p.Partition, err)
		}
		out = addMove(out, metadata.TopicPartition{Topic: p.Topic, Partition: p.Partition}, now, brokerIDs(p.Replicas))
	}
	return out, nil
}

func addMove(out []move, tp metadata.TopicPartition, p metadata.Partition, to []metadata.BrokerID) []move {
	if !moving(p) && slices.Equal(p.Replicas, to) {
		return out
	}
	return append(out, move{TopicPartition: tp, From: p.Replicas, To: to})
}

// canHold says why brokers cannot be a partition's replicas.
func (v *clusterView) canHold(list []metadata.BrokerID) error {
	for i, id := range list {
		b, ok := v.broker(id)
		switch {
		case slices.Contains(list[:i], id):
			return fmt.Errorf("broker %d is named twice", id)
		case !ok:
			return fmt.Errorf("broker %d is not registered (`coldbrook cluster brokers` shows who is)", id)
		case !b.Holds():
			return fmt.Errorf("broker %d is a replay broker, it holds no partitions", id)
		case !b.Live:
			return fmt.Errorf("broker %d is away", id)
		}
	}
	return nil
}

// planTo puts the selected partitions on the given brokers. They take turns in being preferred leader, so
// that one topic's leaders are spread; a single partition gets them in the order given.
func planTo(v *clusterView, s selection, to []metadata.BrokerID) ([]move, error) {
	if err := v.canHold(to); err != nil {
		return nil, err
	}
	var out []move
	turn := 0
	v.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if !s.has(t.Name, n) {
			return
		}
		first := turn % len(to)
		turn++
		out = addMove(out, metadata.TopicPartition{Topic: t.Name, Partition: n}, p, append(slices.Clone(to[first:]), to[:first]...))
	})
	return out, nil
}

// planFactor gives the selected partitions n replicas: those they have, as far as they go, and else the
// brokers that hold least, on racks that have none first.
func planFactor(v *clusterView, s selection, n int) ([]move, error) {
	load := map[metadata.BrokerID]int{}
	var candidates []brokerView
	for _, b := range v.Brokers {
		if b.Live && b.Holds() {
			candidates = append(candidates, b)
		}
	}
	if len(candidates) < n {
		return nil, fmt.Errorf("%s of a partition need as many brokers, and %s live that hold partitions", count(int64(n), "replica"), strconv.Itoa(len(candidates)))
	}
	v.eachPartition(func(_ *metadata.Topic, _ int32, p metadata.Partition) {
		for _, id := range target(p) {
			load[id]++
		}
	})
	var out []move
	v.eachPartition(func(t *metadata.Topic, number int32, p metadata.Partition) {
		if !s.has(t.Name, number) {
			return
		}
		to := shrink(v, p, n)
		for len(to) < n {
			id := leastLoaded(v, candidates, to, load)
			to = append(to, id)
			load[id]++
		}
		for _, id := range without(target(p), to) {
			load[id]--
		}
		out = addMove(out, metadata.TopicPartition{Topic: t.Name, Partition: number}, p, to)
	})
	return out, nil
}

// shrink returns at most n of a partition's replicas: who is away goes first, then who is not in sync,
// then the last.
func shrink(v *clusterView, p metadata.Partition, n int) []metadata.BrokerID {
	worth := func(id metadata.BrokerID) int {
		switch {
		case !v.live(id):
			return 2
		case !slices.Contains(p.ISR, id):
			return 1
		}
		return 0
	}
	to := target(p)
	for len(to) > n {
		worst := len(to) - 1
		for i := worst; i >= 0; i-- {
			if worth(to[i]) > worth(to[worst]) {
				worst = i
			}
		}
		to = slices.Delete(to, worst, worst+1)
	}
	return to
}

// leastLoaded chooses the next replica's broker; there is one.
func leastLoaded(v *clusterView, candidates []brokerView, has []metadata.BrokerID, load map[metadata.BrokerID]int) metadata.BrokerID {
	sameRack := func(b brokerView) int {
		n := 0
		for _, id := range has {
			if other, ok := v.broker(id); ok && other.Rack == b.Rack {
				n++
			}
		}
		return n
	}
	free := slices.DeleteFunc(slices.Clone(candidates), func(b brokerView) bool { return slices.Contains(has, b.ID) })
	return slices.MinFunc(free, func(x, y brokerView) int {
		return cmp.Or(cmp.Compare(sameRack(x), sameRack(y)), cmp.Compare(load[x.ID], load[y.ID]), cmp.Compare(x.ID, y.ID))
	}).ID
}

// planners returns the live brokers for the controller's planning functions.
func (v *clusterView) planners() []metadata.Broker {
	var out []metadata.Broker
	for _, b := range v.Brokers {
		if b.Live {
			out = append(out, b.Broker)
		}
	}
	return out
}

// throttles are the settings that limit the copying of some moves.
type throttles struct {
	leader, follower map[string]string // topic to its throttled replicas
	brokers          []int32
}

// throttlesOf limits, as kafka-reassign-partitions does, what the present replicas send and what the new
// ones receive.
func throttlesOf(v *clusterView, moves []move) throttles {
	leader, follower := map[string][]string{}, map[string][]string{}
	involved := map[metadata.BrokerID]bool{}
	for _, m := range moves {
		if len(m.adding()) == 0 {
			continue
		}
		pair := func(id metadata.BrokerID) string {
			involved[id] = true
			return fmt.Sprintf("%d:%d", m.Partition, id)
		}
		for _, id := range m.From {
			leader[m.Topic] = append(leader[m.Topic], pair(id))
		}
		for _, id := range m.adding() {
			follower[m.Topic] = append(follower[m.Topic], pair(id))
		}
	}
	t := throttles{leader: map[string]string{}, follower: map[string]string{}}
	for topic, pairs := range leader {
		t.leader[topic], t.follower[topic] = strings.Join(pairs, ","), strings.Join(follower[topic], ",")
	}
	for _, b := range v.Brokers {
		if involved[b.ID] && b.Live {
			t.brokers = append(t.brokers, int32(b.ID))
		}
	}
	return t
}
