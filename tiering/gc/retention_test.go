package gc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
)

// TestRetentionByTimeKnowsHowOldRecordsWithoutUsableTimesAre, in the tail of the root and in leaves alike: it goes by when
// they were copied, and what is of no known time stays.
func TestRetentionByTimeKnowsHowOldRecordsWithoutUsableTimesAre(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	ago := func(days int) int64 { return now.AddDate(0, 0, -days).UnixMilli() }
	timed := func(days int) manifest.Entry { return manifest.Entry{MaxTimestamp: ago(days), Created: ago(1)} }
	untimed := func(ts int64, days int) manifest.Entry {
		return manifest.Entry{MaxTimestamp: ts, Created: ago(days)}
	}
	for _, c := range []struct {
		name    string
		entries []manifest.Entry
		want    int64 // log start
	}{
		{"old records", []manifest.Entry{timed(30), timed(9), timed(2)}, 2},
		{"no time, copied lately", []manifest.Entry{untimed(-1, 2), timed(30)}, 0},
		{"no time, copied long ago", []manifest.Entry{untimed(-1, 8), untimed(-1, 8), untimed(-1, 2)}, 2},
		{"before 1970", []manifest.Entry{untimed(-86_400_000, 2)}, 0},
		{"from the future, copied lately", []manifest.Entry{untimed(ago(-900), 2), timed(30)}, 0},
		{"from the future, copied long ago", []manifest.Entry{untimed(ago(-900), 8), timed(2)}, 1},
		{"behind old ones", []manifest.Entry{timed(30), untimed(-1, 2), timed(30)}, 1},
		{"nothing known", []manifest.Entry{{MaxTimestamp: -1}, timed(30)}, 0},
	} {
		for _, leaf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, leaf=%v", c.name, leaf), func(t *testing.T) {
				tree := treeOf(t, c.entries, leaf)
				x := retention{now: now.UnixMilli(), byTime: true, cutoff: now.AddDate(0, 0, -7).UnixMilli(), free: -1}
				if _, err := x.tier(t.Context(), tree); err != nil || x.start != c.want {
					t.Errorf("the log starts at %d, want %d; %v", x.start, c.want, err)
				}
			})
		}
	}
}

// treeOf is a manifest of the entries, of one offset each, in the root's tail or sealed into a leaf.
func treeOf(t *testing.T, entries []manifest.Entry, leaf bool) manifest.Tree {
	t.Helper()
	e := manifest.NewEdit(manifest.NewRoot("orders", metadata.TopicIDPartition{Topic: metadata.TopicID{1}}, 0), nil, time.UnixMilli(0), time.Hour)
	for i, entry := range entries {
		at := int64(i)
		entry.BaseOffset, entry.LastOffset, entry.MaxTimestampOffset = at, at, at
		entry.Bytes, entry.IndexBytes, entry.IndexHead = 10, 10, 10
		entry.Epochs, entry.Object = manifest.Lineage{{StartOffset: at}}, manifest.NewStem(at, 0)
		if err := e.Add(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	if leaf {
		if err := e.SealTail(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return manifest.Tree{Root: &e.Next, Load: func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
		return e.Nodes[0].Node, nil
	}}
}
