package replica_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// tiered evicts what is in the tier at once.
func tiered(f *fleet) {
	f.config.Log.RemoteEnabled, f.config.Log.LocalRetentionBytes = true, 1
}

// pointer is where the tier ends.
func (n *node) pointer(name string) metadata.RemotePointer {
	topic, _ := n.md.Image().Topic(name)
	p, _ := n.md.Image().RemotePointer(metadata.TopicIDPartition{Topic: topic.ID})
	return p
}

// cold waits until the leader's local log begins at an offset or behind it.
func (f *fleet) cold(name string, offset int64) {
	f.t.Helper()
	f.until("cold offsets", func() bool { return f.leader(name).partition(name).Log().LocalLogStart() >= offset })
}

// consume reads from offset until want, from whichever broker it is sent to, and
// counts the answers with records of each.
func (f *fleet) consume(name string, from *node, offset, want int64, change func(r *replica.FetchRequest)) (values map[int64]string, served map[metadata.BrokerID]int) {
	f.t.Helper()
	values, served = map[int64]string{}, map[metadata.BrokerID]int{}
	at, sent := from, 0
	for tries := 0; offset < want; tries++ {
		if tries > 1000 {
			f.t.Fatalf("stuck at offset %d of %d, asking broker %d", offset, want, at.id)
		}
		r, got := at.read(name, offset, func(r *replica.FetchRequest) {
			r.MaxWait = 500 * time.Millisecond
			if change != nil {
				change(r)
			}
		})
		f.must(r.Err)
		if r.PreferredReplica != metadata.NoBroker {
			at, sent = f.node(r.PreferredReplica), sent+1
			if len(got) > 0 || sent > 20 {
				f.t.Fatalf("sent to broker %d with %d records, the %d-th time", at.id, len(got), sent)
			}
			continue
		}
		if len(got) > 0 {
			served[at.id]++
		}
		for o, v := range got {
			if o >= offset {
				values[o] = v
			}
		}
		for _, ok := values[offset]; ok; _, ok = values[offset] {
			offset++
		}
	}
	return values, served
}

// TestAnUncleanLeaderBehindTheTierAdoptsIt elects a replica that lacks most of the
// log: what is in the tier stays readable, and is what the former leader keeps.
// While the bucket is away it does not lead.
func TestAnUncleanLeaderBehindTheTierAdoptsIt(t *testing.T) {
	inFleet(t, 3, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 2, 3)
		f.fill("t", 5)
		f.inSync("t", 2, 3)
		f.node(3).part(true)
		f.fill("t", 60)
		f.inSync("t", 2)
		f.cold("t", 40)
		want := f.node(2).all("t", 0)
		f.node(2).crash(rand.New(rand.NewSource(1)), 100)
		f.node(3).part(false)
		f.node(3).noStore.Store(true)
		f.unclean.Store(true)
		f.until("an unclean leader is elected", func() bool { return f.node(3).image("t").Leader == 3 })
		time.Sleep(20 * time.Second)
		same(t, "leads without knowing the tier", f.node(3).partition("t").Leading(), false)
		_, err := f.node(3).append("t", replica.AcksAll, "x")
		wants(t, "append", err, replica.ErrNotLeader)
		f.node(3).noStore.Store(false)
		same(t, "who leads", f.leader("t").id, 3)
		same(t, "marked as recovering", f.node(3).image("t").Recovering, false)
		end := f.node(3).pointer("t").EndOffset
		same(t, "log end", f.node(3).partition("t").Log().LogEnd(), end)
		f.fill("t", 10)

		f.unclean.Store(false)
		f.node(2).start()
		f.inSync("t", 2, 3)
		values, _ := f.consume("t", f.node(3), 0, end+10, nil)
		for o, v := range want {
			if o < end && values[o] != v {
				t.Errorf("offset %d is %q, was %q", o, values[o], v)
			}
		}
		same(t, "the follower's tail", fmt.Sprint(f.node(2).all("t", end)), fmt.Sprint(f.node(3).all("t", end)))
	})
}

// TestAnUncleanLeaderKeepsWhatIsBehindTheTier elects a replica that lacks a few
// records, all of them behind what the tier has: it loses those, and no more.
func TestAnUncleanLeaderKeepsWhatIsBehindTheTier(t *testing.T) {
	inFleet(t, 3, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 2, 3)
		f.fill("t", 65)
		f.cold("t", 40)
		f.inSync("t", 2, 3)
		f.until("both have all", func() bool { return f.node(3).partition("t").Log().HighWatermark() == 65 })
		f.node(3).part(true)
		f.put("t", "lost")
		f.inSync("t", 2)
		f.node(2).crash(rand.New(rand.NewSource(1)), 100)
		f.node(3).part(false)
		f.unclean.Store(true)
		same(t, "who leads", f.leader("t").id, 3)
		same(t, "log end", f.node(3).partition("t").Log().LogEnd(), 65)
	})
}

// TestColdReadsGoToReplayBrokersAndBack sends a consumer of a replay broker's rack
// there for what is in the tier only, and takes it back at the tail. Everybody else
// reads from the leader.
func TestColdReadsGoToReplayBrokersAndBack(t *testing.T) {
	inFleet(t, 3, func(f *fleet) {
		tiered(f)
		f.nodes[2].role = metadata.RoleReplay
		f.options = func(_ *node, o *replica.Options) {
			o.ReplayClient = func(id string) bool { return id == "backfill" }
		}
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2)
		f.fill("t", 60)
		f.cold("t", 40)
		for _, q := range []struct {
			name   string
			change func(r *replica.FetchRequest)
			replay bool
		}{
			{"of its rack", func(r *replica.FetchRequest) { r.Rack = "c" }, true},
			{"configured", func(r *replica.FetchRequest) { r.ClientID = "backfill" }, true},
			{"of another rack", func(r *replica.FetchRequest) { r.Rack = "b" }, false},
			{"of no rack", nil, false},
			{"an old client", func(r *replica.FetchRequest) { r.Rack, r.AnyReplica = "c", false }, false},
		} {
			for _, committed := range []bool{false, true} {
				values, served := f.consume("t", f.node(1), 0, 60, func(r *replica.FetchRequest) {
					if r.ReadCommitted = committed; q.change != nil {
						q.change(r)
					}
				})
				same(t, q.name+": read", len(values), 60)
				same(t, q.name+": the last", values[59], fmt.Sprintf("%0100d", 59))
				same(t, q.name+": served by the replay broker", served[3] > 0, q.replay)
				same(t, q.name+": served by the leader", served[1] > 0, true)
			}
		}
		// A broker without a replica that nobody was sent to reads the tier for those
		// who are wrong about who leads, and corrects them at its end.
		r, _ := f.node(3).read("t", 0, func(r *replica.FetchRequest) { r.Partitions[0].CurrentEpoch = 9 })
		wants(t, "a leader epoch to come", r.Err, replica.ErrUnknownEpoch)
		r, _ = f.node(3).read("t", 0, func(r *replica.FetchRequest) { r.AnyReplica = false })
		wants(t, "an old client at the replay broker", r.Err, replica.ErrNotLeader)
		r, _ = f.node(3).read("t", f.node(3).pointer("t").EndOffset, nil)
		same(t, "at the tail", r.PreferredReplica, 1)
	})
}

// TestBrokersWithoutAReplicaReadTheTier is the same of an ordinary broker.
func TestBrokersWithoutAReplicaReadTheTier(t *testing.T) {
	inFleet(t, 2, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		f.fill("t", 60)
		f.cold("t", 40)
		r, values := f.node(2).read("t", 3, func(r *replica.FetchRequest) { r.MaxWait = time.Second })
		f.must(r.Err)
		same(t, "offset 3", values[3], fmt.Sprintf("%0100d", 3))
		same(t, "it shows no more than the tier has", r.HighWatermark, f.node(2).pointer("t").EndOffset)
		r, _ = f.node(2).read("t", f.node(2).pointer("t").EndOffset, nil)
		wants(t, "at the tail", r.Err, replica.ErrNotLeader)
	})
}

// TestConsumersReadFromTheirRack is KIP-392: the leader sends them to an in-sync
// replica there, which shows them what it knows to be committed.
func TestConsumersReadFromTheirRack(t *testing.T) {
	inFleet(t, 3, func(f *fleet) {
		f.options = func(_ *node, o *replica.Options) { o.RackAware = true }
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a", "b")
		f.inSync("t", 1, 2, 3)
		leader := f.node(1)
		sentTo := func(rack string, offset int64) metadata.BrokerID {
			r, values := leader.read("t", offset, func(r *replica.FetchRequest) { r.Rack = rack })
			f.must(r.Err)
			if r.PreferredReplica != metadata.NoBroker && len(values) > 0 {
				t.Error("sent elsewhere with records")
			}
			return r.PreferredReplica
		}
		for rack, want := range map[string]metadata.BrokerID{"a": -1, "b": 2, "c": 3, "d": -1, "": -1} {
			same(t, "rack "+rack, sentTo(rack, 0), want)
		}
		_, values := f.node(2).read("t", 0, func(r *replica.FetchRequest) { r.Rack, r.MaxWait = "b", time.Second })
		same(t, "read from the follower", values[1], "b")
		r, _ := f.node(2).read("t", 0, func(r *replica.FetchRequest) { r.AnyReplica = false })
		wants(t, "an old client at the follower", r.Err, replica.ErrNotLeader)

		// A record that is not committed is in the follower's log and not shown, and
		// an offset within it is no error.
		leader.slowSync.Store(int64(5 * time.Second))
		_, err := leader.append("t", replica.AcksAll, "c")
		f.must(err)
		f.until("the follower has it", func() bool { return f.node(2).partition("t").Log().LogEnd() == 3 })
		for offset := int64(2); offset <= 3; offset++ {
			r, values := f.node(2).read("t", offset, nil)
			wants(t, "above the high watermark", r.Err, nil)
			same(t, "records", len(values), 0)
		}
		r, _ = f.node(2).read("t", 4, nil)
		wants(t, "behind the log", r.Err, replica.ErrNotLeader) // it cannot know
		leader.slowSync.Store(0)
		began := time.Now()
		r, values = f.node(2).read("t", 2, func(r *replica.FetchRequest) { r.MaxWait = time.Minute })
		same(t, "read when it is committed", values[2], "c")
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the follower's reader waited for %s", took)
		}

		f.node(3).part(true)
		f.put("t", "d")
		f.inSync("t", 1, 2)
		same(t, "rack of a late follower", sentTo("c", 0), -1)
		f.node(3).part(false)
	})
}

// TestAMovedPartitionLeavesNothingBehind moves a partition to other brokers: they
// have all of it, lead it, and the former ones have no files of it.
func TestAMovedPartitionLeavesNothingBehind(t *testing.T) {
	inFleet(t, 4, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2)
		f.fill("t", 60)
		f.cold("t", 40)
		topic, _ := f.node(1).md.Image().Topic("t")
		c, err := controller.Reassign(f.node(1).md.Image(), topic, 0, []metadata.BrokerID{3, 4})
		f.must(err)
		f.must(f.node(1).md.AlterPartitions(t.Context(), []metadata.PartitionChange{c})[0])
		f.inSync("t", 3, 4)
		f.until("it is led from its new place", func() bool { return f.leader("t").id == 3 })
		f.until("the files are gone", func() bool {
			_, err1 := f.node(1).disk.Stat("/data/t-0")
			_, err2 := f.node(2).disk.Stat("/data/t-0")
			return err1 != nil && err2 != nil
		})
		f.put("t", "more")
		values, _ := f.consume("t", f.node(3), 0, 61, nil)
		same(t, "records", len(values), 61)
		if local := f.node(4).partition("t").Log().LocalLogStart(); local < 20 {
			t.Errorf("the new follower copied from %d on what the tier has", local)
		}
	})
}

// TestDeletedRecordsStayDeleted waits until all live replicas have deleted before
// it says so, and elects one that was late.
func TestDeletedRecordsStayDeleted(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a", "b", "c")
		f.node(2).part(true)
		start, err := f.node(1).m.DeleteRecords(tp("t"), 2)
		f.must(err)
		done := make(chan error, 1)
		go func() { done <- f.node(1).m.WaitDeleted(t.Context(), tp("t"), start) }()
		time.Sleep(3 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("answered before all have deleted: %v", err)
		default:
		}
		f.node(2).part(false)
		f.must(<-done)
		for _, n := range f.nodes {
			same(t, fmt.Sprint("log start of broker ", n.id), n.partition("t").Log().LogStart(), 2)
		}
	})
}

// deletedBehindTheTier has a topic whose records were deleted up to offset start,
// beyond the end of its tier, which knows that, and a few more behind.
func deletedBehindTheTier(f *fleet, leader *node) (start int64) {
	f.t.Helper()
	f.fill("t", 60)
	f.cold("t", 40)
	p := leader.partition("t")
	start, err := leader.m.DeleteRecords(tp("t"), -1)
	f.must(err)
	if end := leader.pointer("t").EndOffset; start <= end {
		f.t.Fatalf("deleted up to %d, the tier ends at %d", start, end)
	}
	f.until("the tier knows it", func() bool {
		topic, _ := leader.md.Image().Topic("t")
		aux, ok, err := leader.remote.AuxState(f.t.Context(), metadata.TopicIDPartition{Topic: topic.ID})
		return err == nil && ok && aux.LogStart == start && aux.EndOffset < start
	})
	same(f.t, "log start", p.Log().LogStart(), start)
	return start
}

// TestANewFollowerBeginsBehindWhatWasDeleted, not at the tier's end before it.
func TestANewFollowerBeginsBehindWhatWasDeleted(t *testing.T) {
	inFleet(t, 2, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		start := deletedBehindTheTier(f, f.node(1))
		f.put("t", "a", "b")
		f.decide("t", func(p *metadata.Partition) { p.Replicas = []metadata.BrokerID{1, 2} })
		f.inSync("t", 1, 2)
		log := f.node(2).partition("t").Log()
		same(t, "log start", log.LogStart(), start)
		same(t, "local log start", log.LocalLogStart(), start)
		same(t, "records", fmt.Sprint(f.node(2).all("t", 0)), fmt.Sprintf("map[%d:a %d:b]", start, start+1))
	})
}

// TestAnUncleanLeaderDoesNotReuseDeletedOffsets: they were somebody's, and the log
// start never goes back.
func TestAnUncleanLeaderDoesNotReuseDeletedOffsets(t *testing.T) {
	inFleet(t, 3, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 2, 3)
		f.fill("t", 5)
		f.inSync("t", 2, 3)
		f.node(3).part(true)
		f.put("t", "a")
		f.inSync("t", 2)
		start := deletedBehindTheTier(f, f.node(2))
		f.node(2).crash(rand.New(rand.NewSource(1)), 100)
		f.unclean.Store(true)
		f.node(3).part(false)
		same(t, "who leads", f.leader("t").id, 3)
		f.unclean.Store(false)
		log := f.node(3).partition("t").Log()
		same(t, "log start", log.LogStart(), start)
		same(t, "log end", log.LogEnd(), start)
		f.put("t", "b")
		same(t, "records", fmt.Sprint(f.node(3).all("t", 0)), fmt.Sprintf("map[%d:b]", start))
	})
}

// TestALeaderWhoseDiskIsBehindTheTierTakesItFirst restarts the only replica without
// its partition's directory: what is in the tier stays readable, and no offset of it
// is given away again. While the bucket is away it does not lead.
func TestALeaderWhoseDiskIsBehindTheTierTakesItFirst(t *testing.T) {
	inFleet(t, 1, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		f.fill("t", 60)
		f.cold("t", 40)
		n := f.node(1)
		end := n.pointer("t").EndOffset
		want, _ := f.consume("t", n, 0, end, nil)
		n.crash(rand.New(rand.NewSource(1)), 100)
		names, err := n.disk.List("/data/t-0")
		f.must(err)
		for _, name := range names {
			f.must(n.disk.Remove("/data/t-0/" + name))
		}
		f.must(n.disk.Remove("/data/t-0"))
		n.noStore.Store(true)
		n.start()
		f.until("it is elected", func() bool { p := n.image("t"); return p.Leader == 1 && p.LeaderEpoch > 0 })
		time.Sleep(20 * time.Second)
		same(t, "leads without knowing the tier", n.partition("t").Leading(), false)
		n.noStore.Store(false)
		f.leader("t")
		log := n.partition("t").Log()
		same(t, "log start", log.LogStart(), 0)
		same(t, "log end", log.LogEnd(), end)
		f.put("t", "behind the tier")
		got, _ := f.consume("t", n, 0, end+1, nil)
		same(t, "the next record", got[end], "behind the tier")
		for o, v := range want {
			if got[o] != v {
				t.Errorf("offset %d is %q, was %q", o, got[o], v)
			}
		}
	})
}
