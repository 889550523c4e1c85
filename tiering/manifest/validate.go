package manifest

import (
	"fmt"
	"math"

	"github.com/coldbrook/coldbrook/metadata"
)

func (e *Entry) validate() error {
	switch {
	case e.BaseOffset < 0 || e.LastOffset < e.BaseOffset || e.LastOffset == math.MaxInt64:
		return fmt.Errorf("entry of offsets %d to %d: %w", e.BaseOffset, e.LastOffset, ErrCorrupt)
	case e.Bytes <= 0 || e.Bytes > MaxEntryBytes:
		return fmt.Errorf("entry at %d: %d bytes: %w", e.BaseOffset, e.Bytes, ErrCorrupt)
	case e.IndexHead <= 0 || e.IndexHead > e.IndexBytes || e.IndexBytes > MaxIndexBytes:
		return fmt.Errorf("entry at %d: index of %d bytes with a head of %d: %w", e.BaseOffset, e.IndexBytes, e.IndexHead, ErrCorrupt)
	case e.MaxTimestampOffset < e.BaseOffset || e.MaxTimestampOffset > e.LastOffset:
		return fmt.Errorf("entry at %d: offset %d of the highest timestamp: %w", e.BaseOffset, e.MaxTimestampOffset, ErrCorrupt)
	case e.AbortedFrom < 0 || e.AbortedFrom > e.LastOffset || e.AbortedStable < 0:
		return fmt.Errorf("entry at %d: aborted transactions from %d, stable %d: %w", e.BaseOffset, e.AbortedFrom, e.AbortedStable, ErrCorrupt)
	case len(e.Epochs) == 0 || e.Epochs[0].StartOffset != e.BaseOffset:
		return fmt.Errorf("entry at %d: no epoch for its first offset: %w", e.BaseOffset, ErrCorrupt)
	}
	if err := ValidEpochs(e.Epochs, e.LastOffset+1); err != nil {
		return fmt.Errorf("entry at %d: %w", e.BaseOffset, err)
	}
	return validStem(e.Object)
}

// ValidEpochs checks that both epochs and offsets rise, and stay below end.
func ValidEpochs(epochs Lineage, end int64) error {
	if len(epochs) > maxEpochs {
		return fmt.Errorf("%d leader epochs: %w", len(epochs), ErrCorrupt)
	}
	for i, e := range epochs {
		if e.Epoch < 0 || e.StartOffset < 0 || e.StartOffset >= end {
			return fmt.Errorf("leader epoch %d at %d, end %d: %w", e.Epoch, e.StartOffset, end, ErrCorrupt)
		}
		if i > 0 && (e.Epoch <= epochs[i-1].Epoch || e.StartOffset <= epochs[i-1].StartOffset) {
			return fmt.Errorf("leader epoch %d at %d after %d at %d: %w", e.Epoch, e.StartOffset,
				epochs[i-1].Epoch, epochs[i-1].StartOffset, ErrCorrupt)
		}
	}
	return nil
}

func (r *Ref) validate() error {
	switch {
	case r.Level < 1 || r.Level > maxLevel:
		return fmt.Errorf("reference of level %d: %w", r.Level, ErrCorrupt)
	case r.BaseOffset < 0 || r.LastOffset < r.BaseOffset || r.LastOffset == math.MaxInt64:
		return fmt.Errorf("reference to offsets %d to %d: %w", r.BaseOffset, r.LastOffset, ErrCorrupt)
	case r.Size <= 0 || r.Size > maxNodeBytes:
		return fmt.Errorf("node %s of %d bytes: %w", r.Object, r.Size, ErrCorrupt)
	case r.Segments <= 0 || r.Segments > r.LastOffset-r.BaseOffset+1:
		return fmt.Errorf("node %s of %d segments: %w", r.Object, r.Segments, ErrCorrupt)
	case r.Bytes < r.Segments || r.Bytes/r.Segments > MaxEntryBytes:
		return fmt.Errorf("node %s of %d bytes in %d segments: %w", r.Object, r.Bytes, r.Segments, ErrCorrupt)
	}
	return validNode(r.Object)
}

// span sums what a run of references and entries covers, and refuses gaps and overlaps.
type span struct {
	next, maxTS, bytes, segments int64
	aborted, any                 bool
}

func (s *span) add(base, last, maxTS, bytes, segments int64, aborted bool) error {
	if s.any && base != s.next {
		return fmt.Errorf("offsets %d to %d follow %d: %w", base, last, s.next-1, ErrCorrupt)
	}
	if !s.any || maxTS > s.maxTS {
		s.maxTS = maxTS
	}
	s.any, s.next, s.aborted = true, last+1, s.aborted || aborted
	s.bytes += bytes
	s.segments += segments
	if s.bytes < 0 || s.segments < 0 {
		return fmt.Errorf("totals overflow: %w", ErrCorrupt)
	}
	return nil
}

func (s *span) addRefs(refs []Ref) error {
	for i := range refs {
		r := &refs[i]
		if err := r.validate(); err != nil {
			return err
		}
		if err := s.add(r.BaseOffset, r.LastOffset, r.MaxTimestamp, r.Bytes, r.Segments, r.Aborted); err != nil {
			return err
		}
	}
	return nil
}

func (s *span) addEntries(entries []Entry) error {
	for i := range entries {
		e := &entries[i]
		if err := e.validate(); err != nil {
			return err
		}
		if err := s.add(e.BaseOffset, e.LastOffset, e.MaxTimestamp, e.Bytes, 1, e.Aborted); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) validate() (span, error) {
	var s span
	switch {
	case n.TopicID.IsZero() || n.Partition < 0:
		return s, fmt.Errorf("node without a partition: %w", ErrCorrupt)
	case n.Level == 1 && (len(n.Refs) != 0 || len(n.Entries) == 0 || len(n.Entries) > LeafEntries):
		return s, fmt.Errorf("leaf of %d entries and %d references: %w", len(n.Entries), len(n.Refs), ErrCorrupt)
	case n.Level != 1 && (n.Level < 1 || n.Level > maxLevel || len(n.Entries) != 0 || len(n.Refs) == 0 || len(n.Refs) > nodeRefs):
		return s, fmt.Errorf("node of level %d with %d references: %w", n.Level, len(n.Refs), ErrCorrupt)
	}
	for i := range n.Refs {
		if n.Refs[i].Level != n.Level-1 {
			return s, fmt.Errorf("level %d below level %d: %w", n.Refs[i].Level, n.Level, ErrCorrupt)
		}
	}
	if err := s.addRefs(n.Refs); err != nil {
		return s, err
	}
	return s, s.addEntries(n.Entries)
}

// validate checks everything that can be checked without the nodes. It runs on every encode and decode.
func (r *Root) validate() error {
	switch {
	case r.TopicID.IsZero() || r.Partition < 0 || r.LeaderEpoch < 0 || r.Sequence < 0:
		return fmt.Errorf("root without a partition, epoch or sequence: %w", ErrCorrupt)
	case len(r.Refs) > maxRefs || len(r.Tail) > TailEntries || len(r.Garbage) > maxGarbage:
		return fmt.Errorf("root of %d references, %d entries, %d garbage items: %w", len(r.Refs), len(r.Tail), len(r.Garbage), ErrCorrupt)
	case r.StartOffset < 0 || r.EndOffset < r.StartOffset || r.LogStartOffset < 0:
		return fmt.Errorf("root of offsets %d to %d: %w", r.StartOffset, r.EndOffset, ErrCorrupt)
	case r.Previous != "" && validNode(r.Previous) != nil:
		return fmt.Errorf("previous root %q: %w", r.Previous, ErrCorrupt)
	}
	if err := metadata.ValidTopicName(r.Topic); err != nil {
		return fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	if err := ValidEpochs(r.Epochs, r.EndOffset); err != nil {
		return err
	}
	if err := r.validTotals(); err != nil {
		return err
	}
	return validGarbage(r.Garbage)
}

func (r *Root) validTotals() error {
	var s span
	if err := s.addRefs(r.Refs); err != nil {
		return err
	}
	if err := s.addEntries(r.Tail); err != nil {
		return err
	}
	t := r.Trimmed
	switch {
	case !s.any && (r.StartOffset != r.EndOffset || r.Bytes != 0 || r.Segments != 0 || t.Segments != 0 || t.Bytes != 0):
		return fmt.Errorf("empty root with %d segments from %d to %d: %w", r.Segments, r.StartOffset, r.EndOffset, ErrCorrupt)
	case !s.any:
		return nil
	case s.next != r.EndOffset:
		return fmt.Errorf("entries end at %d, the root at %d: %w", s.next, r.EndOffset, ErrCorrupt)
	case t.Segments < 0 || t.Bytes < 0 || (t.Segments == 0) != (t.Bytes == 0):
		return fmt.Errorf("trimmed %d segments of %d bytes: %w", t.Segments, t.Bytes, ErrCorrupt)
	case s.segments-t.Segments != r.Segments || s.bytes-t.Bytes != r.Bytes:
		return fmt.Errorf("totals of %d segments, %d bytes: want %d, %d: %w", r.Segments, r.Bytes, s.segments-t.Segments, s.bytes-t.Bytes, ErrCorrupt)
	case len(r.Epochs) == 0 || r.Epochs[0].StartOffset > r.StartOffset:
		return fmt.Errorf("no leader epoch for offset %d: %w", r.StartOffset, ErrCorrupt)
	}
	return r.validStart(t)
}

// validStart checks where the first live entry is: at the first reference's base, or inside it when trimmed.
func (r *Root) validStart(t Trimmed) error {
	first, last := int64(0), int64(0)
	if len(r.Refs) > 0 {
		first, last = r.Refs[0].BaseOffset, r.Refs[0].LastOffset
		if t.Segments >= r.Refs[0].Segments || t.Bytes >= r.Refs[0].Bytes {
			return fmt.Errorf("the whole first leaf is trimmed: %w", ErrCorrupt)
		}
		if t.Segments > 0 && r.Refs[0].Level != 1 {
			return fmt.Errorf("trimmed node of level %d: %w", r.Refs[0].Level, ErrCorrupt)
		}
	} else {
		first, last = r.Tail[0].BaseOffset, r.Tail[0].LastOffset
		if t.Segments != 0 {
			return fmt.Errorf("trimmed tail: %w", ErrCorrupt)
		}
	}
	if r.StartOffset < first || r.StartOffset > last || (r.StartOffset != first) != (t.Segments != 0) {
		return fmt.Errorf("start %d with a first node of %d to %d and %d trimmed: %w", r.StartOffset, first, last, t.Segments, ErrCorrupt)
	}
	return nil
}

func validGarbage(items []Garbage) error {
	names := 0
	for i := range items {
		g := &items[i]
		kinds := 0
		for _, s := range g.Segments {
			if err := validStem(s); err != nil {
				return err
			}
		}
		for _, s := range g.Nodes {
			if err := validNode(s); err != nil {
				return err
			}
		}
		if len(g.Segments) > 0 {
			kinds++
		}
		if len(g.Nodes) > 0 {
			kinds++
		}
		if g.Leaf != nil {
			kinds++
			if err := g.Leaf.Ref.validate(); err != nil {
				return err
			}
		}
		if d := g.Roots; d != nil {
			kinds++
			if d.LeaderEpoch < 0 || d.From < 0 || d.To <= d.From {
				return fmt.Errorf("garbage roots %d to %d: %w", d.From, d.To, ErrCorrupt)
			}
		}
		if names += len(g.Segments) + len(g.Nodes); kinds != 1 || names > MaxDeadNames {
			return fmt.Errorf("garbage item of %d kinds, %d names: %w", kinds, names, ErrCorrupt)
		}
	}
	return nil
}
