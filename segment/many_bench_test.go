package segment

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// BenchmarkManyLogs is what a directory with 3,000 logs costs on a real disk: one
// operation on each of them, so many at the same time as package replica does.
func BenchmarkManyLogs(b *testing.B) {
	for b.Loop() {
		manyLogsOnce(b, b.TempDir())
	}
}

func manyLogsOnce(b *testing.B, path string) {
	const n = 3000
	var d *Dir
	var logs [n]*Log
	each := func(atOnce int, fn func(i int) error) {
		b.Helper()
		var g errgroup.Group
		g.SetLimit(atOnce)
		for i := range n {
			g.Go(func() error { return fn(i) })
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	open := func(i int) (err error) {
		logs[i], err = d.OpenLog(LogOptions{TopicPartition: metadata.TopicPartition{Topic: "a-topic-with-a-name", Partition: int32(i)}, TopicID: testID,
			Config: Config{Delete: true, RetentionAge: -1, RetentionBytes: -1}})
		return err
	}
	start := func() (stop func()) {
		var err error
		if d, err = OpenDir(DirOptions{FS: vfs.NewOS(), Path: path}); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	fill := func(i int) error {
		for range 3 {
			if _, err := logs[i].AppendAsLeader(plain(1, "value"), AppendOptions{Now: t0}); err != nil {
				return err
			}
		}
		return nil
	}
	run := func(name string, fn func()) {
		began := time.Now()
		fn()
		b.ReportMetric(time.Since(began).Seconds(), "s-"+name)
	}
	stop := start()
	run("creations", func() { each(8, open) })
	each(64, fill)
	each(64, func(i int) error { return logs[i].Sync() })
	for _, l := range logs {
		l.SetHighWatermark(3)
	}
	if err := d.Checkpoint(); err != nil {
		b.Fatal(err)
	}
	run("log-starts", func() { each(64, func(i int) error { return logs[i].SetLogStart(1) }) })
	run("truncations", func() { each(64, func(i int) error { return logs[i].TruncateTo(2) }) })
	stop()
	run("start", func() {
		stop = start()
		each(8, open)
	})
	run("deletions", func() {
		for _, err := range d.DeleteLogs(logs[:]) {
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	stop()
}
