package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coldbrook/coldbrook/broker/console"
)

// TestAdoptKeepsTheLogsItHasShown: it decides nothing without a word for it, and only for partitions that wait.
func TestAdoptKeepsTheLogsItHasShown(t *testing.T) {
	rows := []console.TierPartition{
		{Topic: "a", Partition: 0, LogEndOffset: 10},
		{Topic: "a", Partition: 1, LocalLogStartOffset: 5, LogEndOffset: 77, Held: "offset 7 has leader epoch 2 and 3"},
		{Topic: "a", Partition: 2, LogEndOffset: 9, Held: "none can be used"},
		{Topic: "b"},
	}
	var asked []int32
	at := fakeConsole(t, console.Options{
		Tier: func(context.Context) ([]console.TierPartition, error) { return rows, nil },
		KeepLog: func(_ context.Context, topic string, partitions []int32) (console.KeptLogs, error) {
			if asked = partitions; topic != "a" {
				return console.KeptLogs{}, fmt.Errorf("%w: another topic", console.ErrRefused)
			}
			return console.KeptLogs{Topic: topic, Partitions: partitions}, nil
		},
	})
	for _, c := range []struct {
		args []string
		code int
		says []string
		want []int32
	}{
		{[]string{"a"}, exitUsage, []string{"77", "leader epoch 2 and 3", "none can be used", "kept: the logs", "given up: what only newer", "say --yes"}, nil},
		{[]string{"a", "-p", "0", "--yes"}, exitFailed, []string{"partition 0", "does not wait"}, nil},
		{[]string{"a", "-p", "1,9", "--yes"}, exitFailed, []string{"partition 9", "does not wait"}, nil},
		{[]string{"b", "--yes"}, exitFailed, []string{"no partition of topic"}, nil},
		{[]string{"nope", "--yes"}, exitFailed, []string{"not found"}, nil},
		{[]string{"--yes"}, exitUsage, nil, nil},
		{[]string{"a", "-p", "1", "--yes"}, exitOK, []string{"decided for the logs of 1 partition of topic a"}, []int32{1}},
		{[]string{"a", "--yes"}, exitOK, []string{"decided for the logs of 2 partitions of topic a"}, []int32{1, 2}},
	} {
		asked = nil
		code, _, errs := command(t, "", append([]string{"tier", "adopt", "--http", at}, c.args...)...)
		if code != c.code || !slices.Equal(asked, c.want) {
			t.Errorf("%v: exit code %d, decided for %v, want %d, %v: %s", c.args, code, asked, c.code, c.want, errs)
		}
		for _, says := range c.says {
			if !strings.Contains(errs, says) {
				t.Errorf("%v says %q, want %q in it", c.args, errs, says)
			}
		}
	}
	code, out, errs := command(t, "", "tier", "status", "--http", at)
	if code != exitOK || strings.Contains(out, "epoch") || !strings.Contains(errs, "a-1 copies and deletes nothing before somebody decides: offset 7 has leader epoch 2 and 3") || strings.Contains(errs, "a-0") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}
