package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

const logDir = "/data/t-0/"

// logFiles are the segments of t-0 on a broker's disk, by name.
func (n *node) logFiles() []string {
	n.t.Helper()
	names, err := n.disk.List(logDir)
	n.must(err)
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
}

// files are all of a partition's files.
func (n *node) files() map[string]string {
	n.t.Helper()
	files := map[string]string{}
	names, err := n.disk.List(logDir)
	n.must(err)
	for _, name := range names {
		b, err := vfs.ReadFile(n.disk, logDir+name, 1<<20)
		n.must(err)
		files[name] = string(b)
	}
	return files
}

// flip changes a byte in the middle of a segment, counted from the last.
func (n *node) flip(fromLast int) {
	n.t.Helper()
	names := n.logFiles()
	f, err := n.disk.OpenReadWrite(logDir + names[len(names)-1-fromLast])
	n.must(err)
	size, err := f.Size()
	n.must(err)
	var b [1]byte
	_, err = f.ReadAt(b[:], size/2)
	n.must(err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b[:], size/2)
	n.must(err)
	n.must(f.Close())
}

// broken restarts a broker after its disk was changed.
func (n *node) broken(change func(n *node)) {
	n.t.Helper()
	n.crash(rand.New(rand.NewSource(1)), 100)
	change(n)
	n.start()
}

// bytesFrom are the batches of a broker's local log from an offset on.
func (n *node) bytesFrom(from int64) []byte {
	n.t.Helper()
	var all []byte
	log := n.partition("t").Log()
	for from < log.LogEnd() {
		c, err := log.Read(from, segment.ReadOptions{UpTo: log.LogEnd(), MaxBytes: 1 << 20, MinOne: true})
		n.must(err)
		all, err = c.AppendTo(all)
		n.must(err)
		from = c.NextOffset()
		c.Release()
	}
	return all
}

// neverSure has the store not answer a broker whose log of t did not open: it does
// not know whether its Image is fresh.
func (n *node) neverSure() {
	silent := func(_ context.Context, c kv.Call) error {
		if l := n.life; c.Kind == kv.CallRange && l.m != nil {
			if _, err := l.m.Partition(tp("t")); errors.Is(err, replica.ErrPartitionOffline) {
				return kv.ErrUnavailable
			}
		}
		return nil
	}
	n.onKV.Store(&silent)
}

// putAside says whether a directory is kept beside that of the partition.
func (n *node) putAside() bool {
	n.t.Helper()
	names, err := n.disk.List("/data")
	n.must(err)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "-stray") })
}

// shorten takes the second half of the last segment.
func shorten(n *node) {
	n.t.Helper()
	names := n.logFiles()
	f, err := n.disk.OpenReadWrite(logDir + names[len(names)-1])
	n.must(err)
	size, err := f.Size()
	n.must(err)
	n.must(f.Truncate(size / 2))
	n.must(f.Close())
}

// TestADamagedReplicaIsHealedFromTheLeader damages what was durable on one of three
// brokers, the leader or a follower: another leads, the damaged log is copied again,
// what was cut stays beside it, and it is in sync only with all of it.
func TestADamagedReplicaIsHealedFromTheLeader(t *testing.T) {
	for what, change := range map[string]func(n *node){
		"changed": func(n *node) { n.flip(0) },
		"short":   shorten,
		"gone":    removeLogs,
	} {
		for who, id := range map[string]metadata.BrokerID{"follower": 3, "leader": 1} {
			t.Run(what+" on the "+who, func(t *testing.T) {
				inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
					f.topic("t", 1, 2, 3)
					f.fill("t", 40)
					f.inSync("t", 1, 2, 3)
					time.Sleep(10 * time.Second) // checkpoints of high watermarks
					n := f.node(id)
					n.broken(change)
					f.inSync("t", 1, 2, 3)
					f.put("t", "more")
					leader := f.leader("t")
					if leader == n {
						t.Error("the damaged replica leads")
					}
					f.until("all have all", func() bool { return n.partition("t").Log().HighWatermark() == 41 })
					if !bytes.Equal(n.bytesFrom(0), leader.bytesFrom(0)) {
						t.Error("healed, it has other bytes than its leader")
					}
					torn := slices.ContainsFunc(slices.Collect(maps.Keys(n.files())), func(name string) bool { return strings.HasSuffix(name, ".torn") })
					same(t, "what was cut is kept", torn, what != "gone")
					same(t, "warned", strings.Count(f.log(), `msg="log is damaged`), 1)
					same(t, "said to be healed", strings.Count(f.log(), `msg="damaged log is healed"`), 1)
				})
			})
		}
	}
}

// TestAReplicaWithoutItsLineageBeginsAnew: nothing says which of its records are good,
// so all of them are put aside.
func TestAReplicaWithoutItsLineageBeginsAnew(t *testing.T) {
	inFleet(t, 3, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.fill("t", 60)
		f.inSync("t", 1, 2, 3)
		n := f.node(3)
		f.until("cold offsets", func() bool { return n.partition("t").Log().LocalLogStart() >= 40 })
		time.Sleep(2 * time.Minute) // checkpoints
		n.broken(func(n *node) {
			name := logDir + "leader-epoch-checkpoint"
			b, err := vfs.ReadFile(n.disk, name, 1<<10)
			f.must(err)
			f.must(vfs.WriteFileAtomic(n.disk, name, append([]byte("x"), b...)))
		})
		f.inSync("t", 1, 2, 3)
		f.until("it has all", func() bool { return n.partition("t").Log().LogEnd() == 60 })
		leader, from := f.leader("t"), n.partition("t").Log().LocalLogStart()
		if !bytes.Equal(n.bytesFrom(from), leader.bytesFrom(from)) {
			t.Error("healed, it has other bytes than its leader")
		}
		same(t, "put aside", n.putAside(), true)
		same(t, "said to be healed", strings.Count(f.log(), `msg="damaged log is healed"`), 1)
	})
}

// TestADamagedReplicaIsNotCutOnStaleKnowledge: while the store does not answer nobody
// knows whether another replica has all.
func TestADamagedReplicaIsNotCutOnStaleKnowledge(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.fill("t", 40)
		f.inSync("t", 1, 2, 3)
		time.Sleep(10 * time.Second)
		n := f.node(3)
		n.neverSure()
		n.broken(removeLogs)
		f.becomes("t", 1, ids(1, 2), ids(3))
		time.Sleep(time.Minute)
		_, err := n.m.Partition(tp("t"))
		wants(t, "cut off from the store", err, replica.ErrPartitionOffline)
		n.onKV.Store(nil)
		f.inSync("t", 1, 2, 3)
	})
}

// TestTheOnlyDamagedReplicaStaysAsItIs: without another replica, and without the tier
// or with one that lacks records, the partition is offline and its files are what
// they were, whatever time passes.
func TestTheOnlyDamagedReplicaStaysAsItIs(t *testing.T) {
	for name, q := range map[string]struct {
		tiered bool
		says   string
	}{
		"no tier":             {false, "to go on without any of its records"},
		"the tier lacks some": {true, "to go on from the tier's end without those from offset"},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, 2, func(f *fleet) {
				if q.tiered {
					tiered(f)
				}
			}, func(t *testing.T, f *fleet) {
				f.topic("t", 1)
				f.fill("t", 60)
				if q.tiered {
					f.cold("t", 40)
				}
				time.Sleep(10 * time.Second)
				n := f.node(1)
				var before map[string]string
				n.broken(func(n *node) { n.flip(0); before = n.files() })
				f.becomes("t", metadata.NoBroker, ids(1), ids(1))
				time.Sleep(10 * time.Minute)
				_, err := n.m.Partition(tp("t"))
				wants(t, "the only replica", err, replica.ErrPartitionOffline)
				same(t, "files", fmt.Sprint(n.files()), fmt.Sprint(before))
				if !strings.Contains(f.log(), q.says) {
					t.Errorf("nobody is told %q", q.says)
				}
			})
		})
	}
}

// TestTheTierHealsTheOnlyReplica damages a log all of which is in the tier: it is put
// aside whole, and goes on at the tier's end, once the bucket says that it has all.
func TestTheTierHealsTheOnlyReplica(t *testing.T) {
	inFleet(t, 2, tiered, func(t *testing.T, f *fleet) {
		f.topic("t", 1)
		f.fill("t", 60)
		n := f.node(1)
		f.must(n.partition("t").Log().Roll())
		f.until("all is in the tier", func() bool { return n.pointer("t").EndOffset == 60 })
		time.Sleep(2 * time.Minute)
		n.noStore.Store(true)
		n.broken(removeLogs)
		f.becomes("t", metadata.NoBroker, ids(1), ids(1))
		time.Sleep(time.Minute)
		_, err := n.m.Partition(tp("t"))
		wants(t, "while the bucket is away", err, replica.ErrPartitionOffline)
		n.noStore.Store(false)
		same(t, "who leads", f.leader("t").id, 1)
		f.put("t", "more")
		values, _ := f.consume("t", n, 0, 61, nil)
		same(t, "records", len(values), 61)
		same(t, "the last", values[60], "more")
		same(t, "said to be healed", strings.Count(f.log(), `msg="damaged log is healed"`), 1)
		same(t, "put aside", n.putAside(), true)
	})
}

// TestDamageFoundInAnOpenLogIsHealed damages a segment that was closed long ago, below
// the recovery point: who reads it finds that, the replica gives way, leader or not,
// and is healed. The only replica goes on with what is sound.
func TestDamageFoundInAnOpenLogIsHealed(t *testing.T) {
	for who, id := range map[string]metadata.BrokerID{"follower": 3, "leader": 1} {
		t.Run(who, func(t *testing.T) {
			inFleet(t, 3, func(f *fleet) { f.config.MinInSyncReplicas = 2 }, func(t *testing.T, f *fleet) {
				f.topic("t", 1, 2, 3)
				f.fill("t", 60)
				f.inSync("t", 1, 2, 3)
				time.Sleep(2 * time.Minute) // checkpoints
				n := f.node(id)
				n.broken(func(n *node) { n.flip(2) })
				f.inSync("t", 1, 2, 3)
				f.decide("t", func(p *metadata.Partition) {
					b, _ := f.node(id).md.Image().Broker(1)
					p.Leader, p.LeaderBrokerEpoch, p.LeaderEpoch = 1, b.Epoch, p.LeaderEpoch+1
				})
				same(t, "who leads", f.leader("t").id, 1)
				n.scan()
				f.until("it is healed", func() bool { return strings.Contains(f.log(), `msg="damaged log is healed"`) })
				f.inSync("t", 1, 2, 3)
				f.put("t", "more")
				f.until("all have all", func() bool { return n.partition("t").Log().HighWatermark() == 61 })
				if !bytes.Equal(n.bytesFrom(0), f.leader("t").bytesFrom(0)) {
					t.Error("healed, it has other bytes than its leader")
				}
				same(t, "the damaged replica leads", f.leader("t") == n, false)
				torn := slices.ContainsFunc(slices.Collect(maps.Keys(n.files())), func(name string) bool { return strings.HasSuffix(name, ".torn") })
				same(t, "what was cut is kept", torn, true)
				same(t, "said to be healed", strings.Count(f.log(), `msg="damaged log is healed"`), 1)
			})
		})
	}
	t.Run("the only one", func(t *testing.T) {
		inFleet(t, 2, nil, func(t *testing.T, f *fleet) {
			f.topic("t", 1)
			f.fill("t", 60)
			time.Sleep(2 * time.Minute)
			n := f.node(1)
			n.broken(func(n *node) { n.flip(2) })
			f.leader("t")
			before := n.files()
			n.scan()
			f.unchanged("t", 10*time.Minute, func() {})
			f.put("t", "more")
			for name, b := range before {
				if strings.HasSuffix(name, ".log") && !strings.HasPrefix(n.files()[name], b) {
					t.Errorf("%s was cut", name)
				}
			}
		})
	})
}

// scan reads all closed segments, as who uploads them does.
func (n *node) scan() {
	n.t.Helper()
	damaged := false
	log := n.partition("t").Log()
	for _, s := range log.Sealed(0) {
		open, err := log.OpenSealed(s.BaseOffset)
		if err == nil {
			err = open.Scan(func(record.Batch, int64) error { return nil })
			open.Release()
		}
		damaged = damaged || errors.Is(err, segment.ErrCorrupt)
	}
	if !damaged {
		n.t.Fatal("no damage was found")
	}
}
