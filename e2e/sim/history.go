package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// place is where a record lies.
type place struct {
	topic     string
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%s-%d@%d", p.topic, p.partition, p.offset) }

// item names what was produced: by whom, and which one in its order.
type item struct {
	producer uint32
	n        uint32
}

func (r item) String() string { return fmt.Sprintf("%d/%d", r.producer, r.n) }

// recordBytes is how much of a value names the record.
const recordBytes = 8

func (r item) value(pad int) []byte {
	v := make([]byte, recordBytes, recordBytes+pad)
	binary.BigEndian.PutUint32(v, r.producer)
	binary.BigEndian.PutUint32(v[4:], r.n)
	for len(v) < cap(v) {
		v = append(v, byte(r.n)+byte(len(v)))
	}
	return v
}

// parseRecord reads what value wrote, and says whether v is whole.
func parseRecord(v []byte) (item, bool) {
	if len(v) < recordBytes {
		return item{}, false
	}
	r := item{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
	return r, slices.Equal(v, r.value(len(v)-recordBytes))
}

// history is what clients were told and shown. It complains as soon as two of
// these contradict each other. It is safe for concurrent use.
type history struct {
	begin   time.Time
	mu      sync.Mutex
	values  map[place]item
	places  map[item]place
	acked   map[item]place
	showed  map[place]string // who saw a place first
	next    map[string]int64 // of a reader and partition: the offset it must see next
	floors  map[string]int64
	doubts  map[string]bool // values of floors that may come late
	owners  map[string]string
	deleted map[string]bool // topics
	broken  []string
}

func newHistory() *history {
	return &history{
		begin: time.Now(), values: make(map[place]item), places: make(map[item]place), acked: make(map[item]place), showed: make(map[place]string),
		next: make(map[string]int64), floors: make(map[string]int64), doubts: make(map[string]bool), owners: make(map[string]string), deleted: make(map[string]bool),
	}
}

// mostComplaints bounds what one broken promise makes a run print.
const mostComplaints = 50

func (h *history) failLocked(format string, args ...any) {
	if len(h.broken) < mostComplaints {
		h.broken = append(h.broken, fmt.Sprintf(format, args...)+fmt.Sprintf(" (at %.3fs)", time.Since(h.begin).Seconds()))
	}
}

func (h *history) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failLocked(format, args...)
}

// complaints are the broken promises so far.
func (h *history) complaints() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.broken)
}

// saw notes what an offset showed to who: one offset shows one value
// (invariant 2), and with idempotent producers one record is at one offset.
func (h *history) saw(who string, at place, r item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sawLocked(who, at, r)
}

func (h *history) sawLocked(who string, at place, r item) {
	if had, ok := h.values[at]; ok && had != r {
		h.failLocked("two values: %v showed record %v to %s and record %v to %s", at, had, h.showed[at], r, who)
		return
	}
	if was, ok := h.places[r]; ok && was != at {
		h.failLocked("duplicate: record %v is at %v (%s) and at %v (%s)", r, was, h.showed[was], at, who)
		return
	}
	if _, ok := h.values[at]; !ok {
		h.values[at], h.places[r], h.showed[at] = r, at, who
	}
}

// ack notes that the producer was told where its record is.
func (h *history) ack(at place, r item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sawLocked("its producer", at, r)
	h.acked[r] = at
}

// read is saw for a reader that started at from and reads on without a jump:
// it must see every offset once, in order.
func (h *history) read(reader string, from int64, at place, r item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := fmt.Sprintf("%s %s-%d", reader, at.topic, at.partition)
	want, ok := h.next[key]
	if !ok {
		want = from
	}
	switch {
	case at.offset > want:
		h.failLocked("skipped: %s saw %v after offset %d", reader, at, want-1)
	case at.offset < want:
		h.failLocked("went back: %s saw %v after offset %d", reader, at, want-1)
	}
	h.next[key] = at.offset + 1
	h.sawLocked(reader, at, r)
}

// floor is the highest value of a number that never goes back that anybody was
// told so far. Ask for it before the request, and give it to atLeast.
func (h *history) floor(of string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.floors[of]
}

// atLeast notes that who was told value, in answer to a request that was sent
// when floor was known.
func (h *history) atLeast(who, of string, floor, value int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if value < floor && !h.doubts[fmt.Sprint(of, value)] {
		h.failLocked("went back: %s was told %d of %s, which was %d before it asked", who, value, of, floor)
	}
	h.floors[of] = max(h.floors[of], value)
}

// late notes that value was asked for without an answer: it may be set at any time.
func (h *history) late(of string, value int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doubts[fmt.Sprint(of, value)] = true
}

// owns notes that a member of a group was given a partition in a generation.
func (h *history) owns(group string, generation int32, at place, member string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := fmt.Sprintf("%s generation %d %s-%d", group, generation, at.topic, at.partition)
	if other, ok := h.owners[key]; ok && other != member {
		h.failLocked("two owners: %s belongs to %s and to %s", key, other, member)
	}
	h.owners[key] = member
}

// forget notes that a topic is about to be deleted: nothing in it need be there.
func (h *history) forget(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deleted[topic] = true
}

// topics are those with acked records that were not deleted.
func (h *history) topics() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[string]bool)
	for _, at := range h.acked {
		if !h.deleted[at.topic] {
			names[at.topic] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// ackedRecords counts the records whose producers were told so.
func (h *history) ackedRecords() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.acked)
}

// end compares all that was said and shown with final, what is there after all
// faults healed: nothing acked and nothing ever shown is missing (invariant 1),
// and each producer's records are in its order.
func (h *history) end(final map[place]item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range sortedPlaces(h.values) {
		r := h.values[at]
		got, ok := final[at]
		_, acked := h.acked[r]
		switch {
		case h.deleted[at.topic] || ok && got == r:
		case ok:
			h.failLocked("two values: %v showed record %v to %s and holds %v in the end", at, r, h.showed[at], got)
		case acked:
			h.failLocked("lost: record %v was acked at %v", r, at)
		default:
			h.failLocked("lost: record %v was shown to %s at %v", r, h.showed[at], at)
		}
	}
	type line struct {
		topic     string
		partition int32
		producer  uint32
	}
	last := make(map[line]place)
	for _, at := range sortedPlaces(final) {
		l := line{at.topic, at.partition, final[at].producer}
		if before, ok := last[l]; ok && final[before].n >= final[at].n {
			h.failLocked("order: record %v at %v comes before record %v at %v", final[before], before, final[at], at)
		}
		last[l] = at
	}
}

func sortedPlaces(m map[place]item) []place {
	return slices.SortedFunc(maps.Keys(m), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
}
