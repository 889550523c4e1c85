package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
)

// EpochEntry is where a leader epoch starts.
type EpochEntry struct {
	Epoch       int32
	StartOffset int64
}

// Lineage is a leader epoch lineage: epochs and start offsets both rise. In JSON it is [[epoch,start],…].
type Lineage []EpochEntry

// MarshalJSON implements json.Marshaler.
func (l Lineage) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, e := range l {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '[')
		out = strconv.AppendInt(out, int64(e.Epoch), 10)
		out = append(out, ',')
		out = strconv.AppendInt(out, e.StartOffset, 10)
		out = append(out, ']')
	}
	return append(out, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Lineage) UnmarshalJSON(b []byte) error {
	var pairs [][2]int64
	if err := json.Unmarshal(b, &pairs); err != nil {
		return err
	}
	out := make(Lineage, 0, len(pairs))
	for _, p := range pairs {
		if p[0] < 0 || p[0] > 1<<31-1 {
			return fmt.Errorf("leader epoch %d", p[0])
		}
		out = append(out, EpochEntry{Epoch: int32(p[0]), StartOffset: p[1]})
	}
	*l = out
	return nil
}

// extend returns l followed by next, where an epoch that goes on keeps its first start.
func (l Lineage) extend(next Lineage) (Lineage, error) {
	out := slices.Clone(l)
	for _, e := range next {
		if n := len(out); n > 0 {
			last := out[n-1]
			if e.Epoch == last.Epoch {
				continue
			}
			if e.Epoch < last.Epoch || e.StartOffset <= last.StartOffset {
				return nil, fmt.Errorf("leader epoch %d at %d follows epoch %d at %d: %w", e.Epoch, e.StartOffset,
					last.Epoch, last.StartOffset, ErrDiverged)
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// trim drops the epochs that ended at or before start; the one that holds start stays as it is.
func (l Lineage) trim(start int64) Lineage {
	i := sort.Search(len(l), func(i int) bool { return l[i].StartOffset > start }) - 1
	return slices.Clone(l[max(i, 0):])
}

// At returns the epoch of an offset.
func (l Lineage) At(offset int64) (int32, bool) {
	i := sort.Search(len(l), func(i int) bool { return l[i].StartOffset > offset }) - 1
	if i < 0 {
		return -1, false
	}
	return l[i].Epoch, true
}

// EndOf is LeaderEpochFileCache.endOffsetFor: the largest epoch ≤ epoch and where the next one starts (end for
// the last); -1, -1 when epoch is older than the lineage.
func (l Lineage) EndOf(epoch int32, end int64) (int32, int64) {
	i := sort.Search(len(l), func(i int) bool { return l[i].Epoch > epoch }) - 1
	switch {
	case i < 0:
		return -1, -1
	case i == len(l)-1:
		return l[i].Epoch, end
	default:
		return l[i].Epoch, l[i+1].StartOffset
	}
}
