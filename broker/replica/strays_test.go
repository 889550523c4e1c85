package replica_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// beside lists what of a topic's first partition a disk has: its directory, those
// put aside, those about to be deleted.
func (n *node) beside(name string) (own, aside, doomed int) {
	n.t.Helper()
	names, err := n.disk.List("/data")
	n.must(err)
	for _, entry := range names {
		switch {
		case entry == name+"-0":
			own++
		case strings.HasPrefix(entry, name+"-0.") && strings.HasSuffix(entry, "-stray"):
			aside++
		case strings.HasPrefix(entry, name+"-0."):
			doomed++
		}
	}
	return own, aside, doomed
}

func (f *fleet) want(n *node, name string, own, aside, doomed int) {
	f.t.Helper()
	synctest.Wait()
	if o, a, d := n.beside(name); o != own || a != aside || d != doomed {
		f.t.Errorf("%s on broker %d: %d directories, %d put aside, %d being deleted, want %d, %d, %d", name, n.id, o, a, d, own, aside, doomed)
	}
}

// away lets things happen while a broker is down.
func (f *fleet) away(n *node, happen func()) {
	f.t.Helper()
	synctest.Wait() // or the disk is one in the middle of a checkpoint
	n.crash(rand.New(rand.NewSource(1)), 100)
	time.Sleep(10 * time.Second)
	happen()
	synctest.Wait()
	n.start()
	f.until("it is registered", func() bool { _, ok := f.nodes[0].md.Image().Broker(n.id); return ok })
}

func (f *fleet) purge(name string) {
	f.t.Helper()
	f.must(f.nodes[0].md.DeleteTopic(f.t.Context(), name))
	f.until("it is purged", func() bool { return len(f.nodes[0].md.Image().Tombstones()) == 0 })
}

// TestTopicMadeAgainWhileAwayGetsItsReplica: the directory of the topic that had the
// name before is put aside, whether the new one has a replica there at the start or
// gets it later.
func TestTopicMadeAgainWhileAwayGetsItsReplica(t *testing.T) {
	for name, replicas := range map[string][]metadata.BrokerID{"at the start": {1, 2, 3}, "later": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
				f.topic("t", 1, 2, 3)
				f.put("t", "old")
				f.inSync("t", 1, 2, 3)
				n := f.node(3)
				f.away(n, func() {
					f.purge("t")
					f.topic("t", replicas...)
					f.put("t", "new")
				})
				if len(replicas) == 2 {
					f.decide("t", func(p *metadata.Partition) {
						p.Replicas, p.Adding = []metadata.BrokerID{1, 2, 3}, []metadata.BrokerID{3}
					})
				}
				f.inSync("t", 1, 2, 3)
				if got := n.all("t", 0); len(got) != 1 || got[0] != "new" {
					t.Errorf("the replica holds %v", got)
				}
				f.want(n, "t", 1, 1, 0)
			})
		})
	}
}

// TestTopicMadeWhereAStrangerLies: a directory that no topic owned at the start is in
// nobody's way when a topic of its name is made.
func TestTopicMadeWhereAStrangerLies(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "old")
		f.inSync("t", 1, 2, 3)
		n := f.node(3)
		f.away(n, func() { f.purge("t") })
		f.want(n, "t", 1, 0, 0) // the metadata does not say why it is there
		f.topic("t", 3, 1, 2)
		f.put("t", "new")
		f.inSync("t", 1, 2, 3)
		f.want(n, "t", 1, 1, 0)
	})
}

// TestReplicaMovedWhileAwayIsDeleted, unless its log is newer than the metadata that
// says so.
func TestReplicaMovedWhileAwayIsDeleted(t *testing.T) {
	for _, epoch := range []int32{1, -1} {
		inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
			f.topic("t", 1, 2, 3)
			f.decide("t", func(p *metadata.Partition) { p.LeaderEpoch += 5 })
			f.put("t", "a")
			f.inSync("t", 1, 2, 3)
			n := f.node(3)
			f.until("its lineage is on disk", func() bool {
				epoch, err := n.dir.StrayEpoch(tp("t"))
				return err == nil && epoch == n.partition("t").LeaderEpoch()
			})
			f.away(n, func() {
				f.decide("t", func(p *metadata.Partition) {
					p.Replicas, p.ISR = []metadata.BrokerID{1, 2}, []metadata.BrokerID{1, 2}
					p.LeaderEpoch += epoch
				})
			})
			if epoch < 0 {
				f.want(n, "t", 0, 1, 0)
			} else {
				f.want(n, "t", 0, 0, 0)
			}
			if left := n.dir.Partitions(); len(left) != 0 {
				t.Errorf("still found: %v", left)
			}
		})
	}
}

// TestLogThatDoesNotOpenIsDeletedWithItsTopic, at the start and later.
func TestLogThatDoesNotOpenIsDeletedWithItsTopic(t *testing.T) {
	for _, early := range []bool{true, false} {
		inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
			f.topic("t", 1, 2, 3)
			f.put("t", "a")
			f.inSync("t", 1, 2, 3)
			time.Sleep(2 * time.Minute) // checkpoints
			n := f.node(3)
			f.away(n, func() {
				f.must(n.disk.Remove("/data/t-0/00000000000000000000.log"))
				if early {
					f.decide("t", func(p *metadata.Partition) { p.Replicas, p.ISR = []metadata.BrokerID{1, 2}, []metadata.BrokerID{1, 2} })
				}
			})
			if !early {
				f.want(n, "t", 1, 0, 0)
				f.decide("t", func(p *metadata.Partition) { p.Replicas, p.ISR = []metadata.BrokerID{1, 2}, []metadata.BrokerID{1, 2} })
			}
			f.want(n, "t", 0, 0, 0)
			f.decide("t", func(p *metadata.Partition) {
				p.Replicas, p.Adding = []metadata.BrokerID{1, 2, 3}, []metadata.BrokerID{3}
			})
			f.inSync("t", 1, 2, 3)
			if got := n.all("t", 0); got[0] != "a" {
				t.Errorf("the new replica holds %v", got)
			}
		})
	}
}

// TestPartitionTheTopicDoesNotHaveIsPutAside: what is left of a topic that was to have
// more partitions.
func TestPartitionTheTopicDoesNotHaveIsPutAside(t *testing.T) {
	in(t, func(t *testing.T, b *bench) {
		p := b.topic("t")
		b.stop()
		b.must(b.disk.MkdirAll("/data/t-7"))
		b.must(vfsWrite(b.disk, "/data/t-7/partition.metadata", "version: 0\ntopic_id: "+p.ID().Topic.String()))
		b.start()
		names, err := b.disk.List("/data")
		b.must(err)
		if slices.Contains(names, "t-7") || !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "t-7.") && strings.HasSuffix(n, "-stray") }) {
			t.Errorf("left: %v", names)
		}
	})
}

// TestReplicaWhoseStateCannotBeReadIsKept damages the value of a partition in etcd
// while a broker is down: it starts without that partition, and has all of it when
// the value is mended.
func TestReplicaWhoseStateCannotBeReadIsKept(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		topic, _ := f.nodes[0].md.Image().Topic("t")
		key := "/coldbrook/coldbrook/partitions/" + topic.ID.String() + "/0"
		put := func(value []byte) {
			_, err := f.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, value, 0)}})
			f.must(err)
		}
		var good []byte
		n := f.node(3)
		f.away(n, func() {
			have, err := f.kv.Range(t.Context(), kv.RangeRequest{Key: key})
			f.must(err)
			good = have.KVs[0].Value
			put(good[:len(good)/2])
		})
		time.Sleep(time.Minute)
		f.want(n, "t", 1, 0, 0)
		put(good)
		f.until("it has its replica", func() bool { _, err := n.m.Partition(tp("t")); return err == nil })
		f.put("t", "b")
		f.inSync("t", 1, 2, 3)
		f.want(n, "t", 1, 0, 0)
		if got := n.all("t", 0); got[0] != "a" {
			t.Errorf("the replica holds %v", got)
		}
	})
}

// TestReplicaIsDeletedOnlyByMetadataThatIsNotOlder: etcd that was set back to a state
// from before a move, or restored from the tier, places the partition elsewhere. What
// a running broker's log has beyond that stays, whether it is open or does not open.
func TestReplicaIsDeletedOnlyByMetadataThatIsNotOlder(t *testing.T) {
	elsewhere := []metadata.BrokerID{1, 2}
	for name, c := range map[string]struct {
		moved func(p *metadata.Partition)
		aside int
	}{
		"moved":    {func(p *metadata.Partition) { p.ISR, p.LeaderEpoch = elsewhere, p.LeaderEpoch+1 }, 0},
		"older":    {func(p *metadata.Partition) { p.ISR, p.LeaderEpoch = elsewhere, p.LeaderEpoch-1 }, 1},
		"nobody's": {func(p *metadata.Partition) { p.ISR, p.Leader = []metadata.BrokerID{}, metadata.NoBroker }, 1},
	} {
		for _, opens := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", opens ", opens), func(t *testing.T) {
				inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
					f.topic("t", 1, 2, 3)
					f.decide("t", func(p *metadata.Partition) { p.LeaderEpoch += 5 })
					f.put("t", "a")
					f.inSync("t", 1, 2, 3)
					time.Sleep(2 * time.Minute) // checkpoints
					n := f.node(3)
					if !opens {
						f.away(n, func() { f.must(n.disk.Remove("/data/t-0/00000000000000000000.log")) })
					}
					f.want(n, "t", 1, 0, 0)
					f.decide("t", func(p *metadata.Partition) {
						p.Replicas = elsewhere
						c.moved(p)
					})
					time.Sleep(2 * time.Minute) // what is deleted is gone
					f.want(n, "t", 0, c.aside, 0)
				})
			})
		}
	}
}

// TestTopicThatLostItsNameIsPutAside: metadata that was set back does not know the
// topic, and then there is another one of its name. Nothing says that it was deleted.
func TestTopicThatLostItsNameIsPutAside(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.inSync("t", 1, 2, 3)
		_, err := f.kv.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete("/coldbrook/coldbrook/topics/t", "")}})
		f.must(err)
		f.want(f.node(3), "t", 1, 0, 0)
		f.topic("t", 1, 2, 3)
		f.want(f.node(3), "t", 1, 1, 0)
	})
}
