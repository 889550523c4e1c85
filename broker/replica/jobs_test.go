package replica_test

import (
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// create makes a topic of n partitions.
func (b *bench) create(name string, n int) {
	b.t.Helper()
	_, err := b.md.CreateTopic(b.t.Context(), metadata.TopicSpec{Name: name, Assignments: slices.Repeat([][]metadata.BrokerID{{1}}, n)})
	b.must(err)
	synctest.Wait()
}

// elects decides on a new leader epoch of a topic and wants it to take effect now.
func (b *bench) elects(name string) {
	b.t.Helper()
	before := b.partition(name).LeaderEpoch()
	b.elect(name)
	if p := b.partition(name); p == nil || !p.Leading() || p.LeaderEpoch() != before+1 {
		b.t.Errorf("%s is not led in epoch %d", name, before+1)
	}
}

// TestElectionWaitsForNoOtherPartition: while the disk works for some partitions,
// however long, others are elected, deleted and served.
func TestElectionWaitsForNoOtherPartition(t *testing.T) {
	const big = 100
	under := func(part string) func(op vfs.Op) bool {
		return func(op vfs.Op) bool { return op.Kind.Write() && strings.Contains(op.Path, part) }
	}
	for name, work := range map[string]struct {
		held  func(op vfs.Op) bool
		begin func(b *bench)
		after func(b *bench)
	}{
		"that is deleted": {
			under("-delete"),
			func(b *bench) { b.must(b.md.DeleteTopic(b.t.Context(), "big")) },
			func(b *bench) { same(b.t, "files", b.files("big"), false) },
		},
		"that is made": {
			under("/new-"),
			func(b *bench) { b.create("new", big) },
			func(b *bench) { same(b.t, "leads the new topic", b.partition("new").Leading(), true) },
		},
		"that takes a deleted one's name": {
			under("-delete"),
			func(b *bench) {
				b.must(b.md.DeleteTopic(b.t.Context(), "big"))
				b.create("big", big)
				same(b.t, "opened over the old files", b.partition("big") == nil, true)
			},
			func(b *bench) { same(b.t, "leads it again", b.partition("big").Leading(), true) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, b *bench) {
				b.create("big", big)
				b.topic("t")
				b.topic("u")
				release := b.hold(work.held)
				work.begin(b)
				synctest.Wait()
				b.elects("t")
				_, err := b.append("t", replica.Acks1, "x")
				b.wants("append", err, nil)
				_, err = b.append("u", replica.Acks1, "x")
				b.wants("append", err, nil)
				release()
				synctest.Wait()
				work.after(b)
				b.elects("t")
			})
		})
	}
}

// TestElectionWaitsForTheLogsFormerMaster alone: a broker whose follower has an
// operation under way leads when that has ended, not before; others do not wait.
func TestElectionWaitsForTheLogsFormerMaster(t *testing.T) {
	for _, then := range []string{"leads", "follows another", "is deleted"} {
		t.Run(then, func(t *testing.T) {
			in(t, func(t *testing.T, b *bench) {
				const away metadata.BrokerID = 9
				lead := func(name string, by metadata.BrokerID, registration int64) {
					b.decide(name, func(p *metadata.Partition) {
						p.Replicas, p.ISR = []metadata.BrokerID{1, away}, []metadata.BrokerID{1}
						p.Leader, p.LeaderBrokerEpoch, p.LeaderEpoch = by, registration, p.LeaderEpoch+1
					})
				}
				p := b.topic("t")
				b.topic("u")
				lead("t", away, 1)
				release := p.HoldLog()
				epoch := p.LeaderEpoch()
				lead("t", 1, b.session.Epoch)
				same(t, "leads while another masters its log", p.Leading(), false)
				switch then {
				case "follows another":
					lead("t", away, 1)
				case "is deleted":
					b.must(b.md.DeleteTopic(t.Context(), "t"))
					synctest.Wait()
					same(t, "served", b.partition("t") == nil, true)
					same(t, "files", b.files("t"), true)
				}
				b.elects("u")
				release()
				synctest.Wait()
				b.elects("u")
				switch then {
				case "leads":
					same(t, "leads", p.Leading(), true)
				case "follows another":
					same(t, "leads", p.Leading(), false)
					same(t, "epoch", p.LeaderEpoch(), epoch+2)
				case "is deleted":
					same(t, "files", b.files("t"), false)
				}
			})
		})
	}
}

// TestStartIsReadyOnceAllLogsAreOpen and what opens late leads then.
func TestStartIsReadyOnceAllLogsAreOpen(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.create("big", 50)
		b.fill("big", 1)
		b.restart()
		for n := range 50 {
			if _, err := b.m.Partition(metadata.TopicPartition{Topic: "big", Partition: int32(n)}); err != nil {
				t.Errorf("partition %d after Ready: %v", n, err)
			}
		}
	})
}

// TestDeletionThatFailsIsTriedAgain: a full disk keeps the files for a while, not for
// good, and does not keep the name.
func TestDeletionThatFailsIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		b.topic("t")
		b.fill("t", 3)
		var full atomic.Bool
		full.Store(true)
		hook := func(op vfs.Op) error {
			if full.Load() && op.Kind == vfs.OpRename && strings.HasSuffix(op.Path, "-delete") {
				return syscall.ENOSPC
			}
			return nil
		}
		b.onDisk.Store(&hook)
		b.must(b.md.DeleteTopic(t.Context(), "t"))
		synctest.Wait()
		same(t, "files on a full disk", b.files("t"), true)
		p := b.topic("t")
		same(t, "opened over the old files", p == nil, true)
		full.Store(false)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if p := b.partition("t"); p == nil || !p.Leading() || p.Log().LogEnd() != 0 {
			t.Error("the new topic is not led, or has the old one's records")
		}
	})
}

// TestFailoverIsAsFastWhileManyLogsAreDeleted measures it in virtual time, with a disk
// that takes long for each sync.
func TestFailoverIsAsFastWhileManyLogsAreDeleted(t *testing.T) {
	took := func(t *testing.T, parts int) (took time.Duration) {
		inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
			_, err := f.nodes[0].md.CreateTopic(t.Context(), metadata.TopicSpec{Name: "big", Assignments: slices.Repeat([][]metadata.BrokerID{{1, 2, 3}}, parts)})
			f.must(err)
			time.Sleep(6 * time.Second) // the logs are in the checkpoints
			f.topic("t", 1, 2, 3)
			f.put("t", "a")
			f.inSync("t", 1, 2, 3)
			for _, n := range f.nodes {
				n.slowSync.Store(int64(20 * time.Millisecond))
			}
			f.must(f.nodes[1].md.DeleteTopic(t.Context(), "big"))
			began := time.Now()
			f.node(1).crash(rand.New(rand.NewSource(1)), 100)
			f.until("another leads", func() bool {
				p, err := f.node(2).m.Partition(tp("t"))
				return err == nil && p.Leading()
			})
			took = time.Since(began)
		})
		return took
	}
	few, many := took(t, 1), took(t, 300)
	if many > few+100*time.Millisecond {
		t.Errorf("another leads after %v while 300 logs are deleted, after %v otherwise", many, few)
	}
}
