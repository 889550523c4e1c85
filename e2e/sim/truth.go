package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// truth follows every revision of the key-value store, so that it misses none,
// and complains of a decision that must not be made. It is safe for concurrent use.
type truth struct {
	h *history

	mu         sync.Mutex
	cluster    string
	brokers    map[metadata.BrokerID]metadata.Broker
	leases     map[metadata.BrokerID]kv.LeaseID
	topics     map[string]string // topic id to name
	partitions map[string]metadata.Partition
	pointers   map[string]metadata.RemotePointer
	changes    []string // all changes of partitions, for a run that failed
}

func newTruth(h *history) *truth {
	return &truth{
		h: h, brokers: make(map[metadata.BrokerID]metadata.Broker), leases: make(map[metadata.BrokerID]kv.LeaseID),
		topics: make(map[string]string), partitions: make(map[string]metadata.Partition), pointers: make(map[string]metadata.RemotePointer),
	}
}

const clusterPrefix = "/coldbrook/coldbrook/"

// follow watches until ctx ends.
func (tr *truth) follow(ctx context.Context, store kv.KV) {
	for resp, err := range store.Watch(ctx, kv.WatchRequest{Key: clusterPrefix, End: kv.PrefixEnd(clusterPrefix), Revision: 1}) {
		if err != nil {
			tr.h.fail("the simulation lost its own watch: %v", err)
			return
		}
		for _, e := range resp.Events {
			tr.apply(e)
		}
	}
}

func (tr *truth) apply(e kv.Event) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	kind, id, _ := strings.Cut(strings.TrimPrefix(e.KV.Key, clusterPrefix), "/")
	switch kind {
	case "cluster":
		var v struct {
			ID string `json:"id"`
		}
		tr.decodeLocked(e, &v)
		tr.cluster = v.ID
	case "brokers":
		tr.brokerLocked(id, e)
	case "topics":
		if !e.Deleted {
			var v struct {
				ID string `json:"id"`
			}
			tr.decodeLocked(e, &v)
			tr.topics[v.ID] = id
		} else {
			maps.DeleteFunc(tr.topics, func(_, name string) bool { return name == id })
		}
	case "partitions":
		tr.partitionLocked(id, e)
	case "remote":
		tr.pointerLocked(id, e)
	}
}

func (tr *truth) decodeLocked(e kv.Event, into any) {
	if err := json.Unmarshal(e.KV.Value, into); err != nil {
		tr.h.fail("%s holds %q: %v", e.KV.Key, e.KV.Value, err)
	}
}

func (tr *truth) brokerLocked(text string, e kv.Event) {
	var id metadata.BrokerID
	if _, err := fmt.Sscan(text, &id); err != nil {
		return
	}
	tr.changes = append(tr.changes, fmt.Sprintf("%d broker %s %s", e.KV.ModRevision, text, e.KV.Value))
	if e.Deleted {
		delete(tr.brokers, id)
		delete(tr.leases, id)
		return
	}
	var b metadata.Broker
	tr.decodeLocked(e, &b)
	tr.brokers[id], tr.leases[id] = b, e.KV.Lease
}

func (tr *truth) partitionLocked(id string, e kv.Event) {
	if e.Deleted {
		delete(tr.partitions, id)
		return
	}
	var p metadata.Partition
	tr.decodeLocked(e, &p)
	before, had := tr.partitions[id]
	tr.changes = append(tr.changes, fmt.Sprintf("%d partition %s %s", e.KV.ModRevision, tr.nameLocked(id), e.KV.Value))
	for _, wrong := range checkPartition(before, p, had) {
		tr.h.fail("%s at revision %d: %s: before %+v, after %+v", tr.nameLocked(id), e.KV.ModRevision, wrong, before, p)
	}
	tr.partitions[id] = p
}

func (tr *truth) pointerLocked(id string, e kv.Event) {
	if e.Deleted {
		delete(tr.pointers, id)
		return
	}
	var next metadata.RemotePointer
	tr.decodeLocked(e, &next)
	before, had := tr.pointers[id]
	for _, wrong := range checkPointer(before, next, had, tr.partitions[id].LeaderEpoch) {
		tr.h.fail("tier of %s at revision %d: %s: before %+v, after %+v", tr.nameLocked(id), e.KV.ModRevision, wrong, before, next)
	}
	tr.pointers[id] = next
}

// nameLocked is a partition's name for people.
func (tr *truth) nameLocked(id string) string {
	topic, n, _ := strings.Cut(id, "/")
	if name, ok := tr.topics[topic]; ok {
		topic = name
	}
	return topic + "-" + n
}

// checkPartition says what is wrong with a decision about a partition: the rules
// of in-sync replicas, leaders and epochs. No topic of the simulation allows
// unclean elections.
func checkPartition(before, after metadata.Partition, had bool) (wrong []string) {
	rule := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, text)
		}
	}
	in := func(list []metadata.BrokerID, id metadata.BrokerID) bool { return slices.Contains(list, id) }
	distinct := func(list []metadata.BrokerID) bool {
		sorted := slices.Sorted(slices.Values(list))
		return len(slices.Compact(sorted)) == len(list)
	}
	leads := after.Leader != metadata.NoBroker
	rule(!after.Recovering, "recovers from an unclean election, which is not allowed")
	rule(!leads || in(after.ISR, after.Leader), "the leader is not in sync")
	rule(distinct(after.Replicas) && distinct(after.ISR), "a broker is named twice")
	for _, id := range after.ISR {
		rule(in(after.Replicas, id), "an in-sync replica is no replica")
	}
	for _, id := range slices.Concat(after.Adding, after.Removing) {
		rule(in(after.Replicas, id), "a reassigned replica is no replica")
	}
	if !had {
		return wrong
	}
	rule(after.Epoch > before.Epoch, "the partition epoch did not grow")
	rule(after.LeaderEpoch >= before.LeaderEpoch, "the leader epoch went back")
	rule(after.Leader == before.Leader && after.LeaderBrokerEpoch == before.LeaderBrokerEpoch || after.LeaderEpoch > before.LeaderEpoch,
		"another leader under the same leader epoch")
	rule(!leads || in(before.ISR, after.Leader), "the elected leader was not in sync")
	if after.Leader != before.Leader {
		for _, id := range after.ISR {
			rule(in(before.ISR, id), "an election added an in-sync replica")
		}
	}
	return wrong
}

// checkPointer says what is wrong with a move of a partition's pointer to its
// tier: only the leader of the current epoch moves it, and only forward.
func checkPointer(before, after metadata.RemotePointer, had bool, leaderEpoch int32) (wrong []string) {
	rule := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, text)
		}
	}
	rule(after.LeaderEpoch == leaderEpoch, fmt.Sprintf("moved by leader epoch %d, the partition's is %d", after.LeaderEpoch, leaderEpoch))
	rule(after.StartOffset <= after.EndOffset, "it starts behind its end")
	if had {
		rule(after.Sequence > before.Sequence, "the sequence did not grow")
		rule(after.LeaderEpoch >= before.LeaderEpoch, "the leader epoch went back")
		rule(after.EndOffset >= before.EndOffset, "the end went back")
		rule(after.StartOffset >= before.StartOffset, "the start went back")
	}
	return wrong
}

// mayLose says whether the promise still holds when broker id loses its disk,
// while the brokers of bare have lost theirs and are not back: every partition
// keeps an in-sync replica with its disk.
func (tr *truth) mayLose(id metadata.BrokerID, bare []metadata.BrokerID) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for tip, p := range tr.partitions {
		topic, _, _ := strings.Cut(tip, "/")
		if _, there := tr.topics[topic]; !there || !slices.Contains(p.ISR, id) {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(p.ISR), func(b metadata.BrokerID) bool { return b == id || slices.Contains(bare, b) })
		if len(left) == 0 {
			return false
		}
	}
	return true
}

// lease is that of a broker's registration, 0 without one.
func (tr *truth) lease(id metadata.BrokerID) kv.LeaseID {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.leases[id]
}

// unhealed names what keeps the cluster from being whole: a broker of ids that
// is not registered, a partition without its leader or an in-sync replica.
func (tr *truth) unhealed(ids []metadata.BrokerID) []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var out []string
	for _, id := range ids {
		if b, ok := tr.brokers[id]; !ok || b.Draining {
			out = append(out, fmt.Sprintf("broker %d is not registered, or leaving", id))
		}
	}
	for _, tip := range slices.Sorted(maps.Keys(tr.partitions)) {
		p := tr.partitions[tip]
		topic, _, _ := strings.Cut(tip, "/")
		if _, there := tr.topics[topic]; !there {
			continue
		}
		if p.Leader == metadata.NoBroker || len(p.ISR) != len(p.Replicas) || len(p.Adding)+len(p.Removing) > 0 {
			out = append(out, fmt.Sprintf("%s: %+v", tr.nameLocked(tip), p))
		}
	}
	return out
}

// led is the state of one partition by name.
func (tr *truth) led(topic string, partition int32) (metadata.Partition, metadata.RemotePointer, bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for id, name := range tr.topics {
		if name == topic {
			tip := fmt.Sprintf("%s/%d", id, partition)
			p, ok := tr.partitions[tip]
			return p, tr.pointers[tip], ok
		}
	}
	return metadata.Partition{}, metadata.RemotePointer{}, false
}

// clusterID is the cluster's, empty before there is one.
func (tr *truth) clusterID() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.cluster
}

// id is a topic's, empty for none.
func (tr *truth) id(name string) string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for id, n := range tr.topics {
		if n == name {
			return id
		}
	}
	return ""
}

// partitionsOf counts the partitions of a topic.
func (tr *truth) partitionsOf(topic string) (n int32) {
	for ; ; n++ {
		if _, _, ok := tr.led(topic, n); !ok {
			return n
		}
	}
}

// log is every change so far.
func (tr *truth) log() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.changes)
}
