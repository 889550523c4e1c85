package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/tiering/gc"
)

// TestTierChecksEndWithOneWhenSomethingIsWrong and say what, for people and for programs.
func TestTierChecksEndWithOneWhenSomethingIsWrong(t *testing.T) {
	var asked console.TierCheck
	var problems []gc.Problem
	var broken error
	check := func(_ context.Context, q console.TierCheck, line func(console.TierLine)) error {
		asked = q
		if q.Topic == "nope" {
			return fmt.Errorf("topic %q: %w", q.Topic, console.ErrNotFound)
		}
		line(console.TierLine{Progress: gc.FsckSummary{Partitions: 1}})
		for _, p := range problems {
			line(console.TierLine{Problem: p})
		}
		line(console.TierLine{Summary: gc.FsckSummary{Partitions: 2, Segments: 7}})
		return broken
	}
	at := fakeConsole(t, console.Options{Fsck: check, Verify: check})
	run := func(want int, args ...string) (string, string) {
		t.Helper()
		code, out, errs := command(t, "", append(args, "--http", at)...)
		if code != want {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, want, errs)
		}
		return out, errs
	}
	if out, errs := run(exitOK, "tier", "fsck"); out != "" || !strings.Contains(errs, "nothing is wrong") || asked != (console.TierCheck{}) {
		t.Errorf("got %q, %q, asked %+v", out, errs, asked)
	}
	run(exitOK, "tier", "verify", "--rate", "1.5MB", "--topic", "a", "--repair")
	if asked != (console.TierCheck{Topic: "a", Repair: true, Rate: 1_500_000}) {
		t.Errorf("asked %+v", asked)
	}
	problems = []gc.Problem{{Kind: gc.ProblemMissing, Topic: "a", Partition: 3, Object: "topics/a.id/3/segments/x.log", BaseOffset: 5, LastOffset: 9}}
	out, errs := run(exitFailed, "tier", "fsck", "--quick")
	if !strings.Contains(out, "missing_object") || !strings.Contains(out, "5–9") || !strings.Contains(errs, "1 problem") || !asked.Quick {
		t.Errorf("got %q, %q", out, errs)
	}
	out, _ = run(exitFailed, "tier", "fsck", "-o", "json")
	want := `"kind": "missing_object"`
	if !strings.Contains(out, want) || !strings.Contains(out, `"segments":7`) && !strings.Contains(out, `"segments": 7`) {
		t.Errorf("got %s", out)
	}
	problems[0].Repaired = true
	if _, errs = run(exitOK, "tier", "fsck", "--repair"); !strings.Contains(errs, "all repaired") {
		t.Errorf("got %q", errs)
	}
	broken = errors.New("store is away")
	if _, errs = run(exitFailed, "tier", "fsck"); !strings.Contains(errs, "store is away") {
		t.Errorf("got %q", errs)
	}
	if _, errs = run(exitFailed, "tier", "fsck", "--topic", "nope"); !strings.Contains(errs, "not found") {
		t.Errorf("got %q", errs)
	}
	run(exitUsage, "tier", "verify", "--rate", "fast")
	run(exitUsage, "tier", "fsck", "extra")
}

func TestUndeleteSaysWhatIsLost(t *testing.T) {
	at := fakeConsole(t, console.Options{Undelete: func(_ context.Context, topic string) (console.Undeleted, error) {
		if topic != "a" {
			return console.Undeleted{}, fmt.Errorf("%w: another topic has the name", console.ErrRefused)
		}
		return console.Undeleted{Topic: "a", TopicID: "id", Partitions: []console.UndeletedPartition{{Leader: 1, StartOffset: 0, LostFrom: 1234}, {Partition: 1, Leader: -1, StartOffset: -1}}}, nil
	}})
	code, out, _ := command(t, "", "topic", "undelete", "a", "--http", at)
	want := "PART  LEADER  START  LOST\n" +
		"   0       1      0  records from offset 1234 on, unless the leader has its files\n" +
		"   1       -      -  records from offset 0 on, unless the leader has its files\n"
	if code != exitOK || out != want {
		t.Errorf("exit code %d:\n%s", code, cmp.Diff(want, out))
	}
	if code, _, errs := command(t, "", "topic", "undelete", "b", "--http", at); code != exitFailed || !strings.Contains(errs, "another topic has the name") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	if code, _, _ := command(t, "", "topic", "undelete"); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
