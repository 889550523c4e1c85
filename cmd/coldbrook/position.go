package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// position is a place in a partition, as a person says it.
type position struct {
	kind        positionKind
	offset      int64
	at          time.Time
	uncommitted bool // the end is the high watermark, not the last stable offset
}

type positionKind int8

const (
	atBeginning positionKind = iota
	atEnd
	atOffset
	atTime
)

// parsePosition reads beginning, end, an offset, a time (RFC 3339, or a date) or how long ago (-90m, -36h).
func parsePosition(flag, s string, now time.Time) (position, error) {
	switch s {
	case "beginning", "earliest", "start":
		return position{kind: atBeginning}, nil
	case "end", "latest":
		return position{kind: atEnd}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return position{}, usagef("--%s %s: an offset is 0 or more; a time ago has a unit, as -90m", flag, s)
		}
		return position{kind: atOffset, offset: n}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return position{kind: atTime, at: t}, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d < 0 {
		return position{kind: atTime, at: now.Add(d)}, nil
	}
	return position{}, usagef("--%s %s: want beginning, end, an offset, a time as 2026-11-22T19:30:00Z, or how long ago as -90m", flag, s)
}

// leaderWait is how long a partition may be without a leader that answers: longer than a broker's
// lease.
const leaderWait = 10 * time.Second

// offsetsOf resolves a position in every partition of the topics: beginning is the log start, end
// the end for committed readers, a time the first record at or after it (the end if there is none).
// It waits for leaders that are just elected.
func offsetsOf(ctx context.Context, adm *kadm.Client, p position, topics ...string) (map[string]map[int32]int64, error) {
	for begun := time.Now(); ; {
		out, err := listOffsets(ctx, adm, p, topics...)
		if err == nil || !leaderMoves(err) || time.Since(begun) > leaderWait || pause(ctx, 250*time.Millisecond) != nil {
			return out, err
		}
	}
}

// leaderMoves says whether the next leader may do better.
func leaderMoves(err error) bool {
	var unreached *kadm.ShardErrors
	if errors.As(err, &unreached) {
		return true
	}
	for _, code := range []error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.OffsetNotAvailable} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func listOffsets(ctx context.Context, adm *kadm.Client, p position, topics ...string) (map[string]map[int32]int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch p.kind {
	case atBeginning:
		listed, err = adm.ListStartOffsets(ctx, topics...)
	case atTime:
		listed, err = adm.ListOffsetsAfterMilli(ctx, p.at.UnixMilli(), topics...)
	default:
		list := adm.ListCommittedOffsets
		if p.uncommitted {
			list = adm.ListEndOffsets
		}
		listed, err = list(ctx, topics...)
	}
	if err != nil {
		return nil, err
	}
	out := map[string]map[int32]int64{}
	var errs []error
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			where := o.Topic
			if o.Partition >= 0 {
				where += "-" + strconv.Itoa(int(o.Partition))
			}
			errs = append(errs, brokerError("offsets of "+where, o.Err, ""))
			return
		}
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]int64{}
		}
		out[o.Topic][o.Partition] = o.Offset
		if p.kind == atOffset {
			out[o.Topic][o.Partition] = p.offset
		}
	})
	return out, errors.Join(errs...)
}
