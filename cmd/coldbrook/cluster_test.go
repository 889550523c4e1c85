package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/coldbrook/coldbrook/metadata"
)

// on runs `coldbrook cluster LINE` against the fake.
func on(t *testing.T, f *fakeCluster, line string) (int, string, string) {
	t.Helper()
	return command(t, "", append(strings.Fields("cluster "+line), "-b", f.addr)...)
}

func TestWrongClusterCommandLineIsExitCode2(t *testing.T) {
	for _, line := range []string{
		"nonsense", "status extra", "status --wait --watch", "status --brokers 3", "status --wait --brokers -1", "status --wait --timeout -1s", "brokers extra", "brokers forget", "brokers forget x",
		"brokers forget -- -1", "reassign", "reassign a", "reassign --to 1", "reassign a --to 1 --replication-factor 2", "reassign a --replication-factor 0", "reassign a --to x", "reassign a:x --to 1",
		"reassign a: --to 1", "reassign a a:1 --to 1", "reassign a/b --to 1", "reassign a --plan p", "reassign --list --cancel", "reassign --list --wait", "reassign --list --throttle 5", "reassign --wait --dry-run",
		"reassign a --to 1 --throttle 0", "reassign --unthrottle a", "drain", "drain x", "drain 1 2", "drain 1 --throttle -5", "balance extra", "balance --throttle 0", "elect --unclean", "elect a:x", "status -o xml",
	} {
		code, out, errs := command(t, "", strings.Fields("cluster "+line)...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errs, "coldbrook: ") || !strings.Contains(errs, "--help`") {
			t.Errorf("%s: exit code %d, out %q, err %q", line, code, out, errs)
		}
	}
}

func TestStatusOfHealthyClusterIsExitCode0(t *testing.T) {
	f := newFakeCluster(t, 3, topicOf("a", part(1, 2, 3), part(2, 3, 1)))
	code, out, errs := on(t, f, "status")
	want := `cluster                    fake
controller                 1
brokers                    3 live of 3 registered
topics                     1
partitions                 2
without a leader           0
below min.insync.replicas  0
under-replicated           0
offline replicas           0
being reassigned           0
`
	if code != exitOK || out != want || errs != "" {
		t.Errorf("%d %s\n%s", code, errs, cmp.Diff(want, out))
	}
}

// troubled has a partition of every kind of trouble.
func troubled(t *testing.T) *fakeCluster {
	none, few, behind, moved := part(3), part(1, 2, 3), part(2, 1, 3), part(1, 2)
	none.Leader = metadata.NoBroker
	few.ISR, behind.ISR = list(1), list(2, 1)
	moved.Replicas, moved.Adding, moved.Removing = list(1, 4, 2), list(4), list(2)
	f := newFakeCluster(t, 4, topicOf("a", few, behind), topicOf("b", none, moved))
	f.Brokers[2].Live = false
	f.minISR = map[string]string{"a": "2", "b": "2"}
	return f
}

func TestStatusNamesWhatIsUnavailable(t *testing.T) {
	f := troubled(t)
	code, out, errs := on(t, f, "status")
	wantOut := `cluster                    fake
controller                 1
brokers                    3 live of 4 registered, away: 3
topics                     2
partitions                 4
without a leader           1
below min.insync.replicas  1
under-replicated           2
offline replicas           3
being reassigned           1

TOPIC  PARTITION  LEADER  REPLICAS  IN SYNC  PROBLEM
b              0    none  3         3        no leader
a              0       1  1,2,3     1        min.insync.replicas is 2
a              1       2  2,1,3     2,1      under-replicated
`
	wantErr := `coldbrook: 1 partition without a leader, nobody reads or writes: b-0
1 partition below min.insync.replicas, nobody writes with acks=all: a-0
`
	if code != exitFailed || out != wantOut || errs != wantErr {
		t.Errorf("%d\n%s\n%s", code, cmp.Diff(wantOut, out), cmp.Diff(wantErr, errs))
	}
	code, out, _ = on(t, f, "status -o json")
	var s clusterStatus
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want := clusterStatus{
		ClusterID: "fake", Controller: 1, Registered: 4, Live: 3, Away: []int32{3}, Topics: 2, Partitions: 4, OfflineReplicas: 3, Unavailable: true,
		Leaderless:  []partitionRow{{Topic: "b", Leader: -1, Replicas: []int32{3}, ISR: []int32{3}}},
		UnderMinISR: []partitionRow{{Topic: "a", Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1}, MinISR: 2}},
		UnderReplicated: []partitionRow{{Topic: "a", Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1}, MinISR: 2},
			{Topic: "a", Partition: 1, Leader: 2, Replicas: []int32{2, 1, 3}, ISR: []int32{2, 1}}},
		Reassigning: []partitionRow{{Topic: "b", Partition: 1, Leader: 1, Replicas: []int32{1, 4, 2}, ISR: []int32{1, 2}, Adding: []int32{4}, Removing: []int32{2}}},
	}
	if d := cmp.Diff(want, s); code != exitFailed || d != "" {
		t.Errorf("%d\n%s", code, d)
	}
}

func TestLongListsOfPartitionsAreBounded(t *testing.T) {
	var bad []metadata.Partition
	for range 50 {
		p := part(1)
		p.Leader = metadata.NoBroker
		bad = append(bad, p)
	}
	f := newFakeCluster(t, 1, topicOf("a", bad...))
	code, out, errs := on(t, f, "status")
	if code != exitFailed || strings.Count(out, "no leader") != mostProblems || !strings.Contains(out, "and 30 more; -o json has all") || !strings.Contains(errs, "a-9 and 40 more") || len(errs) > 200 {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
	if code, out, _ := on(t, f, "status -o json"); code != exitFailed || strings.Count(out, `"leader": -1`) != 50 {
		t.Errorf("%d\n%s", code, out)
	}
}

// Scripts of rolling restarts wait for this between two brokers.
func TestStatusWaitsUntilAllIsInSync(t *testing.T) {
	t.Parallel()
	behind := part(1, 2, 3)
	behind.ISR = list(1, 2)
	f := newFakeCluster(t, 3, topicOf("a", behind))
	f.Brokers[2].Live = false
	f.after = func(f *fakeCluster, looks int) {
		if looks == 2 {
			f.Brokers[2].Live = true
		}
		if looks == 3 {
			f.at("a", 0).ISR = list(1, 2, 3)
		}
	}
	code, out, errs := on(t, f, "status --wait --brokers 3")
	if code != exitOK || !strings.Contains(out, "3 live of 3") || f.looks != 4 || !strings.HasPrefix(errs, "2 of 3 brokers live, 0 of 1 partitions in sync\n") {
		t.Errorf("%d after %d looks\n%s\n%s", code, f.looks, out, errs)
	}
	code, out, errs = on(t, f, "status --wait --brokers 4 --timeout 100ms")
	if code != exitFailed || out != "" || !strings.Contains(errs, "not in sync after 100ms: 3 of 3 brokers live, 1 of 1 partitions in sync") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
}

func TestInterruptedWatchOfStatusIsNoFailure(t *testing.T) {
	t.Parallel()
	f := newFakeCluster(t, 1, topicOf("a", part(1)))
	var out, errs strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithCancel(t.Context())
	f.after = func(_ *fakeCluster, looks int) {
		if looks == 2 {
			cancel()
		}
	}
	code := a.run(ctx, []string{"cluster", "status", "--watch", "-b", f.addr})
	if code != exitOK || strings.Count(out.String(), "1 of 1 partitions in sync\n") != 1 || errs.String() != "" {
		t.Errorf("%d %q %q", code, out.String(), errs.String())
	}
}

func TestBrokersAreListedWhereverTheyAre(t *testing.T) {
	leaves := part(4, 1)
	leaves.Replicas, leaves.Adding, leaves.Removing, leaves.ISR = list(2, 1, 4), list(2), list(4), list(4, 1)
	f := newFakeCluster(t, 5, topicOf("a", part(1, 2), leaves))
	f.Brokers[0].Rack, f.Brokers[1].Rack = "x", "y"
	f.Brokers[2].Live = false
	f.Brokers[4].Role = metadata.RoleReplay
	f.sizes[1] = map[metadata.TopicPartition]int64{{Topic: "a", Partition: 0}: 1 << 20, {Topic: "a", Partition: 1}: 1 << 19}
	code, out, errs := on(t, f, "brokers")
	want := strings.ReplaceAll(`ID  RACK  ROLE    ADDRESS          LEADERS  REPLICAS  ON DISK  STATE
 1  x     broker  ADDRESS        1         2  1.5 MiB  live, controller
 2  y     broker  ADDRESS        0         2  1.5 MiB  live
 3  -     broker  ADDRESS        0         0        ?  away
 4  -     broker  ADDRESS        1         1  1.5 MiB  draining
 5  -     replay  ADDRESS        0         0  1.5 MiB  live
`, "ADDRESS  ", f.addr+"  ")
	want = strings.Replace(want, f.addr+"          LEADERS", "ADDRESS"+strings.Repeat(" ", len(f.addr)-5)+"LEADERS", 1)
	if code != exitOK || out != want {
		t.Errorf("%d %s\n%s", code, errs, cmp.Diff(want, out))
	}
	code, out, _ = on(t, f, "brokers -o json")
	var rows []brokerRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != exitOK || len(rows) != 5 {
		t.Fatalf("%d %v %s", code, err, out)
	}
	if d := cmp.Diff(brokerRow{ID: 3, Role: "broker", Address: f.addr, Bytes: -1, State: stateAway}, rows[2]); d != "" {
		t.Error(d)
	}
}

func TestOnlyEmptyStoppedBrokersAreForgotten(t *testing.T) {
	f := newFakeCluster(t, 3, topicOf("a", part(1, 3)))
	f.Brokers[1].Live, f.Brokers[2].Live = false, false
	for id, want := range map[string]string{"1": "broker 1 is live: stop it first", "3": "broker 3 still has replicas of 1 partition: `coldbrook cluster drain 3` moves them", "9": "broker 9 is not registered"} {
		if code, _, errs := on(t, f, "brokers forget "+id); code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s", id, code, errs)
		}
	}
	if code, _, errs := on(t, f, "brokers forget 2"); code != exitOK || errs != "forgot broker 2\n" || !slices.Equal(f.asked(), []string{"forget 2"}) {
		t.Errorf("%d %s %v", code, errs, f.asked())
	}
}

func TestDryRunMovesNothing(t *testing.T) {
	f := newFakeCluster(t, 3, topicOf("a", part(1, 2), part(2, 1), part(1, 3)))
	code, out, errs := on(t, f, "reassign a --to 1,3 --dry-run")
	want := `TOPIC  PARTITION  REPLICAS NOW  REPLICAS THEN  COPIED TO
a              0  1,2           1,3            3
a              1  2,1           3,1            3
`
	if code != exitOK || out != want || errs != "nothing was moved: this was a dry run\n" || len(f.asked()) != 0 {
		t.Errorf("%d %s %v\n%s", code, errs, f.asked(), cmp.Diff(want, out))
	}
	// What -o json writes, --plan reads.
	code, out, _ = on(t, f, "reassign a --to 1,3 --dry-run -o json")
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil || code != exitOK {
		t.Fatal(code, err)
	}
	if code, _, errs := on(t, f, "reassign --plan "+file); code != exitOK || !strings.HasPrefix(errs, "began to move 2 partitions") {
		t.Errorf("%d %s", code, errs)
	}
	if got := slices.Sorted(slices.Values(f.asked())); !slices.Equal(got, []string{"move a-0 to 1,3", "move a-1 to 3,1"}) {
		t.Errorf("%v", got)
	}
}

func TestThrottledMoveWaitsAndRemovesItsLimit(t *testing.T) {
	t.Parallel()
	f := newFakeCluster(t, 3, topicOf("a", part(1, 2)))
	f.sizes[1] = map[metadata.TopicPartition]int64{{Topic: "a"}: 4096}
	f.after = func(f *fakeCluster, looks int) {
		if looks == 3 {
			f.finish()
		}
	}
	code, _, errs := on(t, f, "reassign a:0 --to 3,1 --throttle 1000")
	if code != exitOK || !strings.Contains(errs, "moving: 0 of 1 partition done\nmoved 1 partition in ") {
		t.Errorf("%d %s", code, errs)
	}
	want := []string{
		"1 " + leaderRate + "=1000", "1 " + followerRate + "=1000", "2 " + leaderRate + "=1000", "2 " + followerRate + "=1000", "3 " + leaderRate + "=1000", "3 " + followerRate + "=1000",
		"a " + leaderReplicas + "=0:1,0:2", "a " + followerReplicas + "=0:3",
		"move a-0 to 3,1",
		"a " + leaderReplicas + "=unset", "a " + followerReplicas + "=unset",
		"1 " + leaderRate + "=unset", "1 " + followerRate + "=unset", "2 " + leaderRate + "=unset", "2 " + followerRate + "=unset", "3 " + leaderRate + "=unset", "3 " + followerRate + "=unset",
	}
	got := f.asked()
	slices.Sort(got[:6]) // brokers are asked in no order
	slices.Sort(want[:6])
	slices.Sort(got[11:])
	slices.Sort(want[11:])
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRefusedMoveLeavesNoLimit(t *testing.T) {
	f := newFakeCluster(t, 3, topicOf("a", part(1, 2)))
	f.refuse[metadata.TopicPartition{Topic: "a"}] = kerr.InvalidReplicaAssignment
	code, _, errs := on(t, f, "reassign a --to 3,1 --throttle 1000")
	if code != exitFailed || !strings.Contains(errs, "reassign a-0: INVALID_REPLICA_ASSIGNMENT: because") {
		t.Errorf("%d %s", code, errs)
	}
	if got := f.asked(); !slices.Contains(got, "a "+leaderReplicas+"=unset") || !slices.Contains(got, "3 "+followerRate+"=unset") {
		t.Errorf("%v", got)
	}
}

func TestCtrlCLeavesTheMoveToItself(t *testing.T) {
	t.Parallel()
	f := newFakeCluster(t, 3, topicOf("a", part(1, 2)))
	var out, errs strings.Builder
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithCancel(t.Context())
	f.after = func(_ *fakeCluster, looks int) {
		if looks == 2 {
			cancel()
		}
	}
	code := a.run(ctx, []string{"cluster", "reassign", "a", "--to", "3,1", "--throttle", "5000", "-b", f.addr})
	said := errs.String()
	if code != exitFailed || !strings.Contains(said, "the move goes on: ") || !strings.Contains(said, "--unthrottle") || !strings.HasSuffix(said, "coldbrook: interrupted\n") {
		t.Errorf("%d %s", code, said)
	}
	if got := f.asked(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "cancel") || strings.Contains(s, "unset") }) {
		t.Errorf("%v", got)
	}
}

func TestMovesUnderWayAreListedAwaitedAndCancelled(t *testing.T) {
	t.Parallel()
	f := troubled(t)
	code, out, _ := on(t, f, "reassign --list")
	want := `TOPIC  PARTITION  LEADER  REPLICAS  IN SYNC  ADDING  REMOVING
b              1       1  1,4,2     1,2      4       2
`
	if code != exitOK || out != want {
		t.Errorf("%d\n%s", code, cmp.Diff(want, out))
	}
	if code, _, errs := on(t, f, "reassign --cancel b --wait"); code != exitOK || !strings.HasPrefix(errs, "cancelled the move of 1 partition\n") || !slices.Equal(f.at("b", 1).Replicas, list(1, 2)) {
		t.Errorf("%d %s %+v", code, errs, f.at("b", 1))
	}
	for _, line := range []string{"reassign --list", "reassign --cancel", "reassign --wait"} {
		if code, out, errs := on(t, f, line); code != exitOK || out != "" || errs != "nothing is being moved\n" {
			t.Errorf("%s: %d %q %q", line, code, out, errs)
		}
	}
	if code, _, errs := on(t, f, "reassign --cancel nope"); code != exitFailed || !strings.Contains(errs, "topic nope: there is no such topic") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestUnthrottleRemovesLimitsThatWereLeft(t *testing.T) {
	f := newFakeCluster(t, 1, topicOf("free", part(1)), topicOf("throttled", part(1)))
	code, _, errs := on(t, f, "reassign --unthrottle")
	want := []string{"throttled " + leaderReplicas + "=unset", "throttled " + followerReplicas + "=unset", "1 " + leaderRate + "=unset", "1 " + followerRate + "=unset"}
	if d := cmp.Diff(want, f.asked()); code != exitOK || d != "" {
		t.Errorf("%d %s\n%s", code, errs, d)
	}
}

func TestDrainedBrokerHoldsNothing(t *testing.T) {
	t.Parallel()
	f := newFakeCluster(t, 4, topicOf("a", part(4, 1, 2), part(1, 4, 3), part(1, 2, 3)))
	if code, out, errs := on(t, f, "drain 4 --dry-run"); code != exitOK || strings.Count(out, "\n") != 3 || len(f.asked()) != 0 {
		t.Errorf("%d %s %s %v", code, out, errs, f.asked())
	}
	f.after = func(f *fakeCluster, looks int) {
		if looks == 3 {
			// A topic that was made meanwhile is moved too.
			f.Topics[0].Partitions = append(f.Topics[0].Partitions, part(4, 2, 3))
		}
		if looks == 4 || looks == 7 {
			f.finish()
		}
	}
	code, _, errs := on(t, f, "drain 4")
	if code != exitOK || !strings.HasSuffix(errs, "broker 4 holds nothing: stop it, then `coldbrook cluster brokers forget 4`\n") {
		t.Errorf("%d %s", code, errs)
	}
	if held := f.holding(4); len(held) > 0 {
		t.Errorf("it holds %v", held)
	}
	for line, want := range map[string]string{"drain 9": "broker 9 is not registered", "drain 1 --dry-run": "drain broker 1: "} {
		f.Brokers[3].Live, f.Brokers[2].Live = false, false // two are too few for three replicas
		if code, _, errs := on(t, f, line); code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s", line, code, errs)
		}
	}
}

func TestBalanceSpreadsAndElects(t *testing.T) {
	t.Parallel()
	f := newFakeCluster(t, 4, topicOf("a", part(1, 2, 3), part(2, 3, 1), part(3, 1, 2), part(1, 3, 2)))
	f.after = func(f *fakeCluster, looks int) {
		if looks == 3 {
			f.finish()
		}
	}
	code, out, errs := on(t, f, "balance")
	if code != exitOK || !strings.Contains(errs, "moved 3 partitions in ") || !strings.Contains(errs, "elected ") || len(f.holding(4)) != 3 {
		t.Errorf("%d %v\n%s\n%s", code, f.holding(4), out, errs)
	}
	f.eachPartition(func(tp *metadata.Topic, n int32, p metadata.Partition) {
		if p.Leader != p.Replicas[0] {
			t.Errorf("%s-%d: leader %d of %v", tp.Name, n, p.Leader, p.Replicas)
		}
	})
	if code, out, errs := on(t, f, "balance --dry-run"); code != exitOK || out != "" || errs != "there is nothing to move\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestElections(t *testing.T) {
	away := part(1, 2)
	away.Leader = 2
	gone := part(2, 1)
	gone.Leader = 1
	f := newFakeCluster(t, 2, topicOf("a", part(1, 2), away), topicOf("b", gone))
	f.refuse[metadata.TopicPartition{Topic: "b"}] = kerr.PreferredLeaderNotAvailable
	code, out, errs := on(t, f, "elect -o json")
	var rows []electionRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	want := []electionRow{{Topic: "a", Elected: false}, {Topic: "a", Partition: 1, Elected: true}, {Topic: "b", Error: "because"}}
	if d := cmp.Diff(want, rows, cmp.AllowUnexported(electionRow{})); code != exitFailed || d != "" || !strings.HasPrefix(errs, "elected 1 leader\ncoldbrook: elect a leader of b-0: PREFERRED_LEADER_NOT_AVAILABLE") {
		t.Errorf("%d %s\n%s", code, errs, d)
	}
	if code, _, errs := on(t, f, "elect a:1 --unclean"); code != exitOK || errs != "elected 0 leaders\n" {
		t.Errorf("%d %s", code, errs)
	}
	if want := []string{"elect 0 of 0 topics", "elect 1 of 1 topics"}; !slices.Equal(f.asked(), want) {
		t.Errorf("%v", f.asked())
	}
}

func TestClusterThatIsNotThere(t *testing.T) {
	f := newFakeCluster(t, 1)
	f.Controller = -1
	code, out, _ := on(t, f, "status")
	if code != exitOK || !strings.Contains(out, "controller                 none\n") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errs := command(t, "", "cluster", "status", "--wait", "--timeout", "300ms", "-b", "127.0.0.1:1"); code != exitFailed || !strings.Contains(errs, "not in sync after 300ms") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := command(t, "", "cluster", "brokers", "-b", "127.0.0.1:1"); code != exitFailed || !strings.Contains(errs, "cannot reach a broker at 127.0.0.1:1") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestUndoneMoveIsSaid(t *testing.T) {
	v := &clusterView{Topics: []*metadata.Topic{topicOf("a", part(1, 2))}}
	w := newMoveWatch([]move{{TopicPartition: metadata.TopicPartition{Topic: "a"}, From: list(1, 2), To: list(3, 2)}})
	now := time.Now()
	// The broker that is asked may not have seen the beginning yet.
	if err := w.look(v, now); err != nil || len(w.left) != 1 {
		t.Fatal(err)
	}
	if err := w.look(v, now.Add(undoneAfter+time.Second)); err == nil || !strings.Contains(err.Error(), "a-0 has replicas 1,2, not 3,2") {
		t.Error(err)
	}
	var usage usageError
	if errors.As(w.look(v, now), &usage) {
		t.Error("it is no mistake in the command line")
	}
}

// An election between the question who leads and the question to the leader is no failure.
func TestOffsetsWaitForALeaderThatMoves(t *testing.T) {
	t.Parallel()
	// The client asks again by itself, but not for all when two leaders have moved.
	f := newFakeCluster(t, 3, topicOf("a", part(1), part(2), part(3)))
	f.moves = 3
	code, out, errs := command(t, "", "consume", "a", "-b", f.addr)
	if code != exitOK || out != "" || errs != "nothing to read: a has no records there\n" || f.moves != 0 {
		t.Errorf("%d %q %q, %d moves left", code, out, errs, f.moves)
	}
}
