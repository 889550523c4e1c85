package replica_test

import (
	"errors"
	"math/rand"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/producer"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// send appends a batch of two records of producer 7, once.
func (n *node) send(name string, seq int32) (replica.Appended, error) {
	b := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 7, BaseSequence: seq}})
	for range 2 {
		b.Append(time.Now().UnixMilli(), nil, []byte("x"))
	}
	return n.m.Append(tp(name), b.Build(), replica.AcksAll, segment.Client, time.Now())
}

// sendUntil sends it again as long as it is to be sent again.
func (n *node) sendUntil(name string, seq int32) (a replica.Appended, err error) {
	n.t.Helper()
	n.until("an answer", func() bool {
		a, err = n.send(name, seq)
		return !errors.Is(err, replica.ErrTimedOut)
	})
	return a, err
}

// TestIdempotenceHoldsOverALostDisk: what a producer sends again to a leader that
// lost its disk, and has the producer's records in the tier only, is recognized.
// While the store is away it is not refused for good.
func TestIdempotenceHoldsOverALostDisk(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		tiered(f)
		f.config.Log.ProducerExpiration = time.Hour
	}, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2)
		f.inSync("t", 1, 2)
		var first []int64
		for i := range int32(7) {
			a, err := f.node(1).sendUntil("t", 2*i)
			f.must(err)
			first = append(first, a.FirstOffset)
			f.fill("t", 9)
		}
		f.fill("t", 30)
		f.cold("t", first[6]+2)
		f.node(2).crash(rand.New(rand.NewSource(1)), 100)
		f.inSync("t", 1)
		f.node(2).disk = vfs.NewMem()
		f.node(2).start()
		f.inSync("t", 1, 2)
		if start := f.node(2).partition("t").Log().LocalLogStart(); start < first[6] {
			t.Fatalf("local log start %d, want it behind the producer's records", start)
		}
		f.node(2).noStore.Store(true)
		f.node(1).crash(rand.New(rand.NewSource(1)), 100)
		leader := f.leader("t")
		same(t, "leads", leader.id, metadata.BrokerID(2))
		for range 3 {
			_, err := leader.send("t", 4)
			wants(t, "while the store is away", err, replica.ErrTimedOut)
			time.Sleep(time.Second)
		}
		end := leader.partition("t").Log().LogEnd()
		leader.noStore.Store(false)
		for i := int32(2); i < 7; i++ {
			a, err := leader.sendUntil("t", 2*i)
			f.must(err)
			same(t, "duplicate", a.Duplicate, true)
			same(t, "of offset", a.FirstOffset, first[i])
		}
		same(t, "log end", leader.partition("t").Log().LogEnd(), end)
		_, err := leader.sendUntil("t", 100)
		wants(t, "a gap", err, producer.ErrOutOfOrderSequence)
		a, err := leader.send("t", 14)
		f.must(err)
		same(t, "the next", a.FirstOffset, end)
	})
}
