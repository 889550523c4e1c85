package segment

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/coldbrook/coldbrook/metadata"
)

// Reach returns where the log of a partition that is not open, and may be damaged,
// ends as far as its directory tells: by the checkpoints, the names of its segments,
// and the records of the last. False means that it does not tell: what is damaged
// there may be records of any offset. It changes nothing.
func (d *Dir) Reach(tp metadata.TopicPartition) (end int64, known bool, err error) {
	if err := d.Offline(); err != nil {
		return 0, false, err
	}
	if err := d.claim(tp, nil); err != nil {
		return 0, false, fmt.Errorf("%s: find its end: %w", tp, err)
	}
	defer d.unclaim(tp)
	path := filepath.Join(d.path, tp.String())
	names, err := d.fs.List(path)
	if err != nil {
		return 0, false, fmt.Errorf("%s: find its end: %w", tp, err)
	}
	offsets, _ := d.marks.of(tp)
	end = max(offsets[markRecovery], offsets[markHighWatermark], offsets[markLogStart])
	last := int64(-1)
	for _, name := range names {
		if base, ok := parseFileName(name, logSuffix); ok {
			last = max(last, base)
		}
	}
	if last < 0 {
		return end, true, nil
	}
	next, known, err := d.reachOf(filepath.Join(path, fileName(last, logSuffix)))
	if err != nil {
		return 0, false, fmt.Errorf("%s: find its end: %w", tp, err)
	}
	return max(end, last, next), known, nil
}

// reachOf returns the offset behind the records of a file. Zeros at its end hold
// none: space was reserved there.
func (d *Dir) reachOf(name string) (next int64, known bool, err error) {
	f, err := d.fs.Open(name)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return 0, false, err
	}
	s := newScanner(f, 0, size, true)
	defer s.close()
	for {
		b, err := s.step()
		var bad *damage
		switch {
		case err == io.EOF:
			return next, true, nil
		case errors.As(err, &bad):
			zeros, err := allZeros(f, s.pos, size)
			return next, zeros, err
		case err != nil:
			return 0, false, err
		}
		next = max(next, b.NextOffset())
	}
}
