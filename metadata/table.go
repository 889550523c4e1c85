package metadata

import (
	"hash/maphash"
	"iter"
	"maps"
)

// tableShards makes a change to a table of 1,000 entries copy 2 KB of pointers
// and a map of four entries.
const tableShards = 256

// table is an immutable map. A tableEdit makes the next one by copying only the
// shards it changes.
type table[K comparable, V any] struct {
	seed   maphash.Seed
	shards *[tableShards]*tableShard[K, V]
	n      int
}

type tableShard[K comparable, V any] struct{ m map[K]V }

func newTable[K comparable, V any]() table[K, V] {
	return table[K, V]{seed: maphash.MakeSeed(), shards: new([tableShards]*tableShard[K, V])}
}

func (t table[K, V]) index(k K) uint64 { return maphash.Comparable(t.seed, k) % tableShards }

func (t table[K, V]) get(k K) (V, bool) {
	s := t.shards[t.index(k)]
	if s == nil {
		var zero V
		return zero, false
	}
	v, ok := s.m[k]
	return v, ok
}

func (t table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, s := range t.shards {
			if s == nil {
				continue
			}
			for k, v := range s.m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// touched yields, possibly more than once, each key of either table that may
// have another value in the other. It costs what changed when one table was
// edited from the other.
func (t table[K, V]) touched(old table[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		for i := range t.shards {
			if t.seed == old.seed && t.shards[i] == old.shards[i] {
				continue
			}
			for _, s := range []*tableShard[K, V]{t.shards[i], old.shards[i]} {
				if s == nil {
					continue
				}
				for k := range s.m {
					if !yield(k) {
						return
					}
				}
			}
		}
	}
}

// tableEdit collects changes to a table.
type tableEdit[K comparable, V any] struct {
	table[K, V]
	copied bool // shards is ours
	owned  [tableShards]bool
}

func (t table[K, V]) edit() *tableEdit[K, V] { return &tableEdit[K, V]{table: t} }

// own returns the shard of k, ready to be changed.
func (e *tableEdit[K, V]) own(k K) *tableShard[K, V] {
	i := e.index(k)
	if !e.copied {
		shards := *e.shards
		e.shards, e.copied = &shards, true
	}
	if !e.owned[i] {
		s := &tableShard[K, V]{}
		if old := e.shards[i]; old != nil {
			s.m = maps.Clone(old.m)
		} else {
			s.m = map[K]V{}
		}
		e.shards[i], e.owned[i] = s, true
	}
	return e.shards[i]
}

func (e *tableEdit[K, V]) set(k K, v V) {
	s := e.own(k)
	if _, had := s.m[k]; !had {
		e.n++
	}
	s.m[k] = v
}

func (e *tableEdit[K, V]) delete(k K) {
	if _, had := e.get(k); !had {
		return
	}
	delete(e.own(k).m, k)
	e.n--
}
