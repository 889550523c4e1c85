package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// endless is a leader that has as many 64 KiB batches as anybody asks for.
type endless struct {
	batches []byte // of one answer for one partition
	step    int    // bytes of a batch
	records int64  // of a batch
	mu      sync.Mutex
	offsets map[metadata.TopicIDPartition]int64
	order   []metadata.TopicIDPartition
}

func newEndless(perAnswer int) *endless {
	b := record.NewBuilder(record.BuilderOptions{LeaderEpoch: 1})
	for b.Size() < 64<<10-1200 {
		b.Append(1_700_000_000_000, nil, make([]byte, 1024))
	}
	n := b.Count()
	one := b.Build()
	return &endless{batches: slices.Repeat(one, perAnswer), step: len(one), records: int64(n), offsets: map[metadata.TopicIDPartition]int64{}}
}

func (e *endless) Terms(int16, int16) (wire.Terms, bool) {
	return wire.Terms{MaxBytes: 1 << 20, Pipelined: true}, true
}

func (e *endless) Handle(_ context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = r.Version
	if err := req.ReadFrom(r.Body); err != nil {
		return wire.Response{Close: true}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range req.Topics {
		for _, q := range req.Topics[i].Partitions {
			tip := metadata.TopicIDPartition{Topic: req.Topics[i].TopicID, Partition: q.Partition}
			if _, ok := e.offsets[tip]; !ok {
				e.order = append(e.order, tip)
			}
			e.offsets[tip] = q.FetchOffset
		}
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version, resp.SessionID = req.Version, 1
	buffers := [][]byte{nil}
	for _, tip := range e.order {
		at := e.offsets[tip]
		b := slices.Clone(e.batches)
		for i := 0; i < len(b); i += e.step {
			binary.BigEndian.PutUint64(b[i:], uint64(at))
			at += e.records
		}
		rt, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		rt.TopicID, rp.Partition = tip.Topic, tip.Partition
		rp.HighWatermark, rp.RecordBatches = e.offsets[tip], b
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
	}
	buffers[0] = resp.AppendTo(nil)
	return wire.Response{Buffers: buffers}, nil
}

// BenchmarkFollower copies 6 partitions in 64 KiB batches over loopback to a real disk, 16 batches a partition and fetch.
func BenchmarkFollower(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	g, ctx := errgroup.WithContext(ctx)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	leader := newEndless(16)
	server, err := wire.NewServer(wire.Options{Handler: leader, Listeners: []wire.Listener{{Name: "INTERNAL", Listener: listener}}})
	must(err)
	md, err := metadata.Open(ctx, metadata.Options{KV: kv.NewMem().Client(nil)})
	must(err)
	dir, err := segment.OpenDir(segment.DirOptions{FS: vfs.NewOS(), Path: b.TempDir()})
	must(err)
	for _, run := range []func(context.Context) error{server.Run, md.Run, dir.Run} {
		g.Go(func() error { return run(ctx) })
	}
	session, err := md.RegisterBroker(ctx, metadata.Registration{ID: 1, DirectoryID: "d", Incarnation: "i", Listeners: []metadata.Listener{
		{Name: "INTERNAL", Host: "127.0.0.1", Port: int32(listener.Addr().(*net.TCPAddr).Port)}}})
	must(err)
	cfg := TopicConfig{Log: segment.Config{SegmentBytes: 256 << 20, RetentionBytes: 512 << 20, RetentionAge: -1, Delete: true}}
	m, err := New(Options{Broker: 2, Metadata: md, Dirs: []*segment.Dir{dir}, Remote: noTier{}, InterBrokerListener: "INTERNAL",
		TopicConfig: func(map[string]string) (TopicConfig, error) { return cfg, nil }})
	must(err)
	f := newFetchers(m)
	g.Go(func() error { return f.run(ctx) })
	var parts []*Partition
	for i := range 6 {
		name := fmt.Sprint("t", i)
		p, err := m.open(dir, metadata.TopicPartition{Topic: name}, metadata.TopicIDPartition{Topic: metadata.TopicID{byte(i + 1)}}, cfg)
		must(err)
		parts = append(parts, p)
	}
	total := func() (n int64) {
		for _, p := range parts {
			n += p.log.SyncedOffset()
		}
		return n
	}
	b.SetBytes(int64(leader.step))
	b.ReportAllocs()
	b.ResetTimer()
	for _, p := range parts {
		f.assign(p, 1, 1)
	}
	for swept := time.Now(); total() < int64(b.N)*leader.records; {
		<-parts[0].moved.next()
		if now := time.Now(); now.Sub(swept) > time.Second {
			swept = now
			for _, p := range parts {
				_, err := p.log.ExpireLocal(now, -1, true)
				must(err)
			}
		}
	}
	b.StopTimer()
	must(session.Close(ctx))
	cancel()
	must(g.Wait())
	must(dir.Close())
}

// noTier is a RemoteLog that is not asked.
type noTier struct{ RemoteLog }
