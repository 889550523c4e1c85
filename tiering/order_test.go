package tiering

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// wide is a broker with a topic of many partitions, each with one sealed segment.
type wide struct {
	*broker
	topic *metadata.Topic
	order []int32 // partitions, the one that was sealed first in front
	hold  atomic.Bool
}

// newWide seals a segment of each of n partitions, one a second, in an order that is not theirs, and leads them all.
// Nothing is copied before release.
func newWide(t *testing.T, n int, o Options, store func(object.Store) object.Store) *wide {
	w := newWorld(t)
	md, err := metadata.Open(t.Context(), metadata.Options{KV: w.kv})
	if err != nil {
		t.Fatal(err)
	}
	x := &wide{}
	x.topic, err = md.CreateTopic(t.Context(), metadata.TopicSpec{Name: "wide", Assignments: slices.Repeat([][]metadata.BrokerID{{1}}, n)})
	if err != nil {
		t.Fatal(err)
	}
	x.hold.Store(true)
	o.Topic = func(string) upload.TopicSettings {
		return upload.TopicSettings{CopyDisabled: x.hold.Load(), CopyLagBytes: -1}
	}
	x.broker = w.mustStart(settings{config: smallLog(), store: store(w.store), noLead: true, o: o})
	for i := range n {
		x.order = append(x.order, int32(i*7%n))
	}
	for _, p := range x.order {
		log, err := x.dir.OpenLog(segment.LogOptions{
			TopicPartition: metadata.TopicPartition{Topic: "wide", Partition: p}, TopicID: x.topic.ID, Config: smallLog(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.AssignEpoch(0, 0); err != nil {
			t.Fatal(err)
		}
		info, err := log.AppendAsLeader(testBatch(0, 20), segment.AppendOptions{Origin: segment.Client, Now: time.Now()})
		if err == nil {
			err = log.Roll()
		}
		if err != nil {
			t.Fatal(err)
		}
		log.SetHighWatermark(info.LastOffset + 1)
		x.m.Lead(metadata.TopicIDPartition{Topic: x.topic.ID, Partition: p}, 0, log)
		time.Sleep(time.Second) // virtual
	}
	return x
}

// release lets all be copied from the next look at the partitions on. One that is under way, in the same moment of virtual
// time, would see it in the middle, and take those for the oldest that it had still to look at.
func (x *wide) release() {
	synctest.Wait()
	x.hold.Store(false)
}

func (x *wide) tipOf(p int32) metadata.TopicIDPartition {
	return metadata.TopicIDPartition{Topic: x.topic.ID, Partition: p}
}

func (x *wide) copied(p int32) bool { return x.m.View(x.tipOf(p)).Segments > 0 }

// partitionOf is the partition of a key of the topic.
func partitionOf(key string) int32 {
	var p int32
	_, rest, _ := strings.Cut(key, "wide.")
	_, rest, _ = strings.Cut(rest, "/")
	if _, err := fmt.Sscanf(rest, "%d/", &p); err != nil {
		return -1
	}
	return p
}

// TestOldestSegmentIsCopiedNextAcrossPartitions: 15 partitions, 10 uploads at a time, a store that takes a while.
func TestOldestSegmentIsCopiedNextAcrossPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var begun []int32
		most, now := 0, 0
		x := newWide(t, 15, Options{Interval: time.Hour}, func(s object.Store) object.Store {
			return object.WithFaults(s, func(_ context.Context, op object.Op) error {
				if op.Kind != object.OpPut || !strings.HasSuffix(op.Key, manifest.LogSuffix) {
					return nil
				}
				mu.Lock()
				if op.After {
					now--
					mu.Unlock()
					return nil
				}
				p := partitionOf(op.Key)
				begun = append(begun, p)
				now++
				most = max(most, now)
				nth := len(begun)
				mu.Unlock()
				time.Sleep(10*time.Second + time.Duration(nth)*time.Second) // virtual: one slot at a time becomes free
				return nil
			})
		})
		x.release()
		time.Sleep(5 * time.Minute) // virtual
		if slices.ContainsFunc(x.order, func(p int32) bool { return !x.copied(p) }) {
			t.Fatalf("not all are copied: %v", begun)
		}
		if most != 10 {
			t.Errorf("%d uploads at a time, want 10", most)
		}
		slices.Sort(begun[:10]) // these began together
		first := slices.Sorted(slices.Values(x.order[:10]))
		if !slices.Equal(begun[:10], first) || !slices.Equal(begun[10:], x.order[10:]) {
			t.Errorf("copied in the order %v, sealed in the order %v", begun, x.order)
		}
	})
}

// TestPartitionsThatHangDoNotStarveOthers: twice as many as there are uploads, and older.
func TestPartitionsThatHangDoNotStarveOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick sync.Map
		x := newWide(t, 23, Options{Poll: 100 * time.Millisecond, Stall: 3 * time.Second, RetryMin: 100 * time.Millisecond, RetryMax: time.Second}, func(s object.Store) object.Store {
			return object.WithFaults(s, func(ctx context.Context, op object.Op) error {
				if op.Kind == object.OpPut && !op.After && strings.HasSuffix(op.Key, manifest.LogSuffix) {
					if _, bad := sick.Load(partitionOf(op.Key)); bad {
						<-ctx.Done()
						return ctx.Err()
					}
				}
				return nil
			})
		})
		for _, p := range x.order[:20] {
			sick.Store(p, true)
		}
		x.release()
		time.Sleep(2 * time.Minute) // virtual: each of them was tried several times
		for _, p := range x.order[20:] {
			if !x.copied(p) {
				t.Errorf("partition %d waits for those that hang", p)
			}
		}
		var oldest time.Duration
		for _, s := range x.m.Status(time.Now()) {
			if _, bad := sick.Load(s.TopicIDPartition.Partition); bad && (s.Failures == 0 || s.View.PendingSegments != 1) {
				t.Errorf("status %+v", s)
			}
			oldest = max(oldest, s.OldestAge)
		}
		if oldest < 2*time.Minute {
			t.Errorf("oldest un-uploaded age %v", oldest)
		}
		sick.Clear()
		time.Sleep(2 * time.Minute) // virtual
		for _, p := range x.order {
			if !x.copied(p) {
				t.Errorf("partition %d is not copied after the store was mended", p)
			}
		}
	})
}

// TestCopyRateIsHeldOverAllPartitions, and over parts of one object that are read at the same time.
func TestCopyRateIsHeldOverAllPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		var read atomic.Int64
		x := newWide(t, 30, Options{CopyRate: limit}, func(s object.Store) object.Store { return partsStore{s, &read} })
		time.Sleep(10 * time.Second) // virtual: the bucket is full
		read.Store(0)
		x.release()
		began := time.Now()
		for slices.ContainsFunc(x.order, func(p int32) bool { return !x.copied(p) }) {
			time.Sleep(5 * time.Millisecond) // virtual
			allowed := limit + int64(time.Since(began).Seconds()*limit)
			if got := read.Load(); got > allowed {
				t.Fatalf("%d bytes read after %v, allowed are %d", got, time.Since(began), allowed)
			}
		}
		want := time.Duration(float64(read.Load()-limit) / limit * float64(time.Second))
		if took := time.Since(began); read.Load() < 2*limit || took < want || took > want*11/10 {
			t.Errorf("%d bytes took %v, want %v", read.Load(), took, want)
		}
	})
}

// partsStore reads a body in four parts at the same time, as multipart uploads do, and counts what it reads of
// segments.
type partsStore struct {
	object.Store
	read *atomic.Int64
}

func (s partsStore) Put(ctx context.Context, key string, body object.Body, o object.PutOptions) (object.Info, error) {
	if !strings.Contains(key, "/segments/") {
		return s.Store.Put(ctx, key, body, o)
	}
	all := make([]byte, body.Size())
	part := (len(all) + 3) / 4
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range 4 {
		p := all[min(i*part, len(all)):min((i+1)*part, len(all))]
		wg.Go(func() {
			_, errs[i] = body.ReadAt(p, int64(i*part))
			s.read.Add(int64(len(p)))
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return object.Info{}, err
		}
	}
	return s.Store.Put(ctx, key, object.Bytes(all), o)
}
