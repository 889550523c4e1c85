package sim

import (
	"strings"
	"testing"

	"github.com/coldbrook/coldbrook/metadata"
)

func brokers(ids ...metadata.BrokerID) []metadata.BrokerID { return ids }

func TestDecisionsThatMustNotBeMadeAreFound(t *testing.T) {
	base := metadata.Partition{Replicas: brokers(1, 2, 3), ISR: brokers(1, 2), Leader: 1, LeaderEpoch: 4, Epoch: 7, LeaderBrokerEpoch: 30}
	for name, c := range map[string]struct {
		change func(p *metadata.Partition)
		want   string
	}{
		"shrink":                      {func(p *metadata.Partition) { p.ISR = brokers(1) }, ""},
		"expansion":                   {func(p *metadata.Partition) { p.ISR = brokers(1, 2, 3) }, ""},
		"election":                    {func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 2, 5, brokers(2) }, ""},
		"no leader":                   {func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = metadata.NoBroker, 5 }, ""},
		"leader not in sync":          {func(p *metadata.Partition) { p.ISR = brokers(2, 3) }, "the leader is not in sync"},
		"in sync without its data":    {func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 3, 5, brokers(3) }, "the elected leader was not in sync"},
		"in sync by an election":      {func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 2, 5, brokers(2, 3) }, "an election added"},
		"in sync without a replica":   {func(p *metadata.Partition) { p.ISR = brokers(1, 4) }, "an in-sync replica is no replica"},
		"in sync twice":               {func(p *metadata.Partition) { p.ISR = brokers(1, 1) }, "a broker is named twice"},
		"same leader epoch":           {func(p *metadata.Partition) { p.Leader = 2 }, "another leader under the same"},
		"same epoch, new process":     {func(p *metadata.Partition) { p.LeaderBrokerEpoch = 31 }, "another leader under the same"},
		"leader epoch back":           {func(p *metadata.Partition) { p.LeaderEpoch = 3 }, "the leader epoch went back"},
		"partition epoch stands":      {func(p *metadata.Partition) { p.Epoch = 7 }, "the partition epoch did not grow"},
		"unclean":                     {func(p *metadata.Partition) { p.Recovering = true }, "recovers from an unclean"},
		"adds what will not be there": {func(p *metadata.Partition) { p.Adding = brokers(4) }, "a reassigned replica"},
	} {
		t.Run(name, func(t *testing.T) {
			after := base
			after.Epoch++
			c.change(&after)
			match(t, checkPartition(base, after, true), c.want)
		})
	}
}

func TestMovesOfThePointerThatMustNotBeMadeAreFound(t *testing.T) {
	base := metadata.RemotePointer{Sequence: 5, LeaderEpoch: 4, StartOffset: 10, EndOffset: 100}
	for name, c := range map[string]struct {
		change func(p *metadata.RemotePointer)
		want   string
	}{
		"forward":       {func(p *metadata.RemotePointer) { p.EndOffset = 120 }, ""},
		"by another":    {func(p *metadata.RemotePointer) { p.LeaderEpoch = 3 }, "moved by leader epoch 3"},
		"end back":      {func(p *metadata.RemotePointer) { p.EndOffset = 90 }, "the end went back"},
		"start back":    {func(p *metadata.RemotePointer) { p.StartOffset = 0 }, "the start went back"},
		"same sequence": {func(p *metadata.RemotePointer) { p.Sequence = 5 }, "the sequence did not grow"},
		"crossed":       {func(p *metadata.RemotePointer) { p.StartOffset = 101 }, "it starts behind its end"},
	} {
		t.Run(name, func(t *testing.T) {
			after := base
			after.Sequence++
			c.change(&after)
			got := checkPointer(base, after, true, 4)
			if name == "by another" {
				got = got[:1] // and its epoch went back
			}
			match(t, got, c.want)
		})
	}
}

func match(t *testing.T, got []string, want string) {
	t.Helper()
	if want == "" && len(got) > 0 {
		t.Errorf("finds %q, there is nothing wrong", got)
	}
	if want != "" && !strings.Contains(strings.Join(got, "; "), want) {
		t.Errorf("finds %q, want %q", got, want)
	}
}

// TestDisksAreLostOnlyWhileAnotherHasAll is the line between what is promised and what is not.
func TestDisksAreLostOnlyWhileAnotherHasAll(t *testing.T) {
	tr := newTruth(newHistory())
	tr.topics["id"] = "t"
	tr.partitions["id/0"] = metadata.Partition{Replicas: brokers(1, 2, 3), ISR: brokers(1, 2)}
	tr.partitions["deleted/0"] = metadata.Partition{Replicas: brokers(3), ISR: brokers(3)}
	for _, c := range []struct {
		id   metadata.BrokerID
		bare []metadata.BrokerID
		want bool
	}{{1, nil, true}, {1, brokers(3), true}, {1, brokers(2), false}, {3, brokers(1, 2), true}} {
		if got := tr.mayLose(c.id, c.bare); got != c.want {
			t.Errorf("broker %d may lose its disk while %v have none: %v, want %v", c.id, c.bare, got, c.want)
		}
	}
	tr.partitions["id/0"] = metadata.Partition{Replicas: brokers(1, 2, 3), ISR: brokers(1)}
	if tr.mayLose(1, nil) {
		t.Error("the only replica in sync may lose its disk")
	}
}
