package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// viewOf is a cluster whose brokers live, on the racks given.
func viewOf(racks []string, topics ...*metadata.Topic) *clusterView {
	v := &clusterView{Topics: topics}
	for i, rack := range racks {
		v.Brokers = append(v.Brokers, brokerView{Broker: metadata.Broker{ID: metadata.BrokerID(i + 1), Rack: rack}, Live: true})
	}
	return v
}

func written(moves []move) string {
	var out []string
	for _, m := range moves {
		out = append(out, fmt.Sprintf("%s %s>%s", m.TopicPartition, ids(m.From), ids(m.To)))
	}
	return strings.Join(out, "; ")
}

func TestBrokersTakeTurnsInLeading(t *testing.T) {
	v := viewOf([]string{"", "", ""}, topicOf("a", part(1), part(1), part(2, 3, 1), part(1)))
	moves, err := planTo(v, selection{"a": nil}, list(1, 2, 3))
	if want := "a-0 1>1,2,3; a-1 1>2,3,1; a-2 2,3,1>3,1,2; a-3 1>1,2,3"; err != nil || written(moves) != want {
		t.Errorf("%v %s", err, written(moves))
	}
	// One partition gets them as they are written.
	moves, err = planTo(v, selection{"a": {3}}, list(3, 1))
	if want := "a-3 1>3,1"; err != nil || written(moves) != want {
		t.Errorf("%v %s", err, written(moves))
	}
	if moves, err := planTo(v, selection{"a": {0}}, list(1)); err != nil || len(moves) > 0 {
		t.Errorf("it has them already: %v %s", err, written(moves))
	}
}

func TestReplicationFactor(t *testing.T) {
	behind := part(1, 2, 3)
	behind.ISR = list(1, 3)
	away := part(4, 1, 2)
	away.ISR, away.Leader = list(1), 1
	for _, c := range []struct {
		name  string
		racks []string
		away  []int
		p     metadata.Partition
		n     int
		want  string
	}{
		{"another rack first", []string{"x", "x", "y", "y"}, nil, part(1), 2, "t-0 1>1,3"},
		{"all racks are taken", []string{"x", "y", "x", "y"}, nil, part(1, 2), 3, "t-0 1,2>1,2,3"},
		{"the last goes first", []string{"", "", ""}, nil, part(1, 2, 3), 2, "t-0 1,2,3>1,2"},
		{"who is behind goes before", []string{"", "", ""}, nil, behind, 2, "t-0 1,2,3>1,3"},
		{"who is away before that", []string{"", "", "", ""}, []int{4}, away, 2, "t-0 4,1,2>1,2"},
		{"nothing to do", []string{"", ""}, nil, part(2, 1), 2, ""},
	} {
		v := viewOf(c.racks, topicOf("t", c.p))
		for _, id := range c.away {
			v.Brokers[id-1].Live = false
		}
		moves, err := planFactor(v, selection{"t": nil}, c.n)
		if err != nil || written(moves) != c.want {
			t.Errorf("%s: %v %q, want %q", c.name, err, written(moves), c.want)
		}
	}
	v := viewOf([]string{"", "", "", ""}, topicOf("t", part(1), part(1), part(1), part(1), part(1), part(1)))
	v.Brokers[3].Role = metadata.RoleReplay
	moves, err := planFactor(v, selection{"t": nil}, 2)
	load := map[metadata.BrokerID]int{}
	for _, m := range moves {
		load[m.To[1]]++
	}
	if err != nil || load[2] != 3 || load[3] != 3 {
		t.Errorf("%v %s", err, written(moves))
	}
	if _, err := planFactor(v, selection{"t": nil}, 4); err == nil || !strings.Contains(err.Error(), "4 replicas of a partition need as many brokers, and 3 live") {
		t.Error(err)
	}
}

func TestPlanFilesAreKafkas(t *testing.T) {
	v := viewOf([]string{"", "", "", ""}, topicOf("a", part(1, 2), part(2, 1)))
	v.Brokers[2].Live = false
	v.Brokers[3].Role = metadata.RoleReplay
	f, err := parsePlan([]byte(`{"version":1,"partitions":[{"topic":"a","partition":1,"replicas":[1,2],"log_dirs":["any","any"]},{"topic":"a","partition":0,"replicas":[1,2]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	moves, err := f.moves(v)
	if err != nil || written(moves) != "a-1 2,1>1,2" {
		t.Errorf("%v %s", err, written(moves))
	}
	for text, want := range map[string]string{
		``:                               "EOF",
		`{"version":2,"partitions":[]}`:  "version 2: want 1",
		`{"version":1,"partitions":[]}`:  "there is no partition in it",
		`{"version":1,"partition":[{}]}`: `unknown field "partition"`,
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[]}]}`:                                             "partition a-0 has no replicas",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[1]},{"topic":"a","partition":0,"replicas":[2]}]}`: "partition a-0 is in it twice",
		`{"version":1,"partitions":[{"topic":"a","partition":7,"replicas":[1]}]}`:                                            "there is no partition a-7",
		`{"version":1,"partitions":[{"topic":"b","partition":0,"replicas":[1]}]}`:                                            "there is no partition b-0",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[1,1]}]}`:                                          "partition a-0: broker 1 is named twice",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[9]}]}`:                                            "broker 9 is not registered",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[3]}]}`:                                            "broker 3 is away",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[4]}]}`:                                            "broker 4 is a replay broker",
	} {
		f, err := parsePlan([]byte(text))
		if err == nil {
			_, err = f.moves(v)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A partition that moves already is moved again when it is asked for again: its limit may be another one.
func TestMoveUnderWayCanBeAskedForAgain(t *testing.T) {
	p := part(1, 2)
	p.Replicas, p.Adding, p.Removing = list(1, 3, 2), list(3), list(2)
	v := viewOf([]string{"", "", ""}, topicOf("a", p))
	moves, err := planTo(v, selection{"a": nil}, list(1, 3))
	if err != nil || len(moves) != 1 {
		t.Errorf("%v %s", err, written(moves))
	}
	if got := movesUnderWay(v, nil); written(got) != "a-0 1,2>1,3" {
		t.Error(written(got))
	}
}

func TestSelections(t *testing.T) {
	s, err := parseSelection([]string{"a", "b:3,1,3"})
	if err != nil || !slices.Equal(s["b"], []int32{1, 3}) || !s.has("a", 9) || !s.has("b", 3) || s.has("b", 2) || s.has("c", 0) || !selection(nil).has("c", 0) {
		t.Errorf("%v %v", s, err)
	}
	v := viewOf([]string{""}, topicOf("a", part(1)))
	for arg, want := range map[string]string{"a": "", "a:0": "", "a:1": "topic a has no partition 1", "b": "there is no such topic"} {
		s, err := parseSelection([]string{arg})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.check(v); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestMoveSaysHowFarItIs(t *testing.T) {
	copying := part(1, 2)
	copying.Replicas, copying.Adding, copying.Removing = list(1, 3, 2), list(3), list(2)
	v := viewOf([]string{"", "", ""}, topicOf("a", copying, part(3)))
	moves := []move{{metadata.TopicPartition{Topic: "a"}, list(1, 2), list(1, 3)}, {metadata.TopicPartition{Topic: "a", Partition: 1}, list(1), list(3)}}
	w, begun := newMoveWatch(moves), time.Now()
	if err := w.look(v, begun); err != nil {
		t.Fatal(err)
	}
	sizes := replicaSizes{1: {{Topic: "a"}: 10 << 20}, 3: {{Topic: "a"}: 4 << 20}}
	if got, want := w.line(v, bytesLeft(v, w.left, sizes), begun), "moving: 1 of 2 partitions done, 6.0 MiB to copy"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	sizes[3][metadata.TopicPartition{Topic: "a"}] = 8 << 20
	if got, want := w.line(v, bytesLeft(v, w.left, sizes), begun.Add(4*time.Second)), "moving: 1 of 2 partitions done, 2.0 MiB to copy, 1.0 MiB/s, 2s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	v.Brokers[2].Live = false
	if got := w.line(v, 0, begun); !strings.HasSuffix(got, ", waiting for broker 3, which is away") {
		t.Error(got)
	}
}
