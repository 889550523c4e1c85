package group

import (
	"maps"
	"slices"
	"time"
)

// offset is one committed offset.
type offset struct {
	offset      int64
	committed   int64 // ms
	expires     int64 // ms, -1: by the broker's retention
	at          int64 // offset of its record in __consumer_offsets
	leaderEpoch int32 // -1 unknown
	metadata    string
	topicID     [16]byte // zero: committed by name
}

// offsets are the committed offsets of one group, by topic and partition.
type offsets struct {
	topics map[string]map[int32]offset
	// open counts the transactions that have a pending offset of a partition.
	open map[topicPartition]int
}

type topicPartition struct {
	topic     string
	partition int32
}

func (s *offsets) get(topic string, partition int32) (offset, bool) {
	o, ok := s.topics[topic][partition]
	return o, ok
}

// put sets an offset and says whether there was none.
func (s *offsets) put(topic string, partition int32, o offset) bool {
	partitions := s.topics[topic]
	if partitions == nil {
		if s.topics == nil {
			s.topics = make(map[string]map[int32]offset)
		}
		partitions = make(map[int32]offset)
		s.topics[topic] = partitions
	}
	_, had := partitions[partition]
	partitions[partition] = o
	return !had
}

// remove takes an offset out and says whether there was one.
func (s *offsets) remove(topic string, partition int32) bool {
	partitions := s.topics[topic]
	_, had := partitions[partition]
	delete(partitions, partition)
	if len(partitions) == 0 {
		delete(s.topics, topic)
	}
	return had
}

func (s *offsets) len() int {
	n := 0
	for _, p := range s.topics {
		n += len(p)
	}
	return n
}

func (s *offsets) empty() bool { return len(s.topics) == 0 && len(s.open) == 0 }

func (s *offsets) isOpen(topic string, partition int32) bool {
	return s.open[topicPartition{topic, partition}] > 0
}

func (s *offsets) opened(tp topicPartition) {
	if s.open == nil {
		s.open = make(map[topicPartition]int)
	}
	s.open[tp]++
}

func (s *offsets) closed(tp topicPartition) {
	if s.open[tp]--; s.open[tp] <= 0 {
		delete(s.open, tp)
	}
}

// sorted are the partitions that have an offset, in order.
func (s *offsets) sorted() []topicPartition {
	out := make([]topicPartition, 0, s.len())
	for _, topic := range slices.Sorted(maps.Keys(s.topics)) {
		for _, p := range slices.Sorted(maps.Keys(s.topics[topic])) {
			out = append(out, topicPartition{topic, p})
		}
	}
	return out
}

// expired decides on one offset by KIP-211, with base the time that its
// retention counts from (ms).
func (o *offset) expired(now time.Time, base int64, retention time.Duration) bool {
	if o.expires >= 0 {
		return now.UnixMilli() >= o.expires
	}
	return now.UnixMilli()-base >= retention.Milliseconds()
}

// pendingOffsets are the offsets of open transactions, by producer id.
type pendingOffsets map[int64]map[pendingKey]offset

type pendingKey struct {
	group string
	topicPartition
}
