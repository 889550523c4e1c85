package replica_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestRetentionOfManyPartitionsSharesCheckpoints: whose records expire together have
// their log starts on disk by few writes, and a partition whose files the disk is slow
// to remove holds neither the others nor the rolls.
func TestRetentionOfManyPartitionsSharesCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		b := newBench(t)
		b.config.Log.RemoteEnabled, b.config.Log.SegmentBytes = false, 100
		b.start()
		b.create("t", n)
		put := func(i int32) {
			batch := record.NewBuilder(record.BuilderOptions{})
			batch.Append(time.Now().UnixMilli(), nil, []byte(strings.Repeat("x", 60)))
			a, err := b.m.Append(metadata.TopicPartition{Topic: "t", Partition: i}, batch.Build(), replica.AcksAll, segment.Client, time.Now())
			b.must(err)
			b.must(a.Wait(t.Context()))
		}
		for i := range int32(n) {
			for range 3 {
				put(i)
			}
		}
		time.Sleep(2 * time.Minute)
		var writes atomic.Int64
		stuck := make(chan struct{})
		hook := func(op vfs.Op) error {
			switch {
			case op.Kind == vfs.OpRename && op.Path == "/data/log-start-offset-checkpoint":
				writes.Add(1)
				time.Sleep(10 * time.Millisecond)
			case op.Kind == vfs.OpRemove && strings.HasPrefix(op.Path, "/data/t-7/"):
				<-stuck
			}
			return nil
		}
		b.onDisk.Store(&hook)
		b.config.Log.RetentionAge = time.Minute
		b.m.Reconfigure()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range int32(n) {
			p, err := b.m.Partition(metadata.TopicPartition{Topic: "t", Partition: i})
			b.must(err)
			if got := p.Log().LogStart(); got < 2 {
				t.Errorf("partition %d starts at %d", i, got)
			}
		}
		if got := writes.Load(); got < 1 || got > 10 {
			t.Errorf("the log starts of %d partitions were written %d times", n, got)
		}
		for range 3 {
			put(8)
		}
		time.Sleep(2 * time.Minute)
		p, err := b.m.Partition(metadata.TopicPartition{Topic: "t", Partition: 8})
		b.must(err)
		if got := p.Log().LogStart(); got < 5 {
			t.Errorf("partition 8 starts at %d after the next passes, %d are in it", got, p.Log().LogEnd())
		}
		close(stuck)
	})
}
