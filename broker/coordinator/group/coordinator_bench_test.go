package group

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

// benchCoordinator runs over a log in memory, outside of a bubble.
func benchCoordinator(b *testing.B) *Coordinator {
	c, err := New(Options{Log: memlog.New(), Config: testConfig()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	c.Load(0, 1)
	req := kmsg.NewPtrListGroupsRequest()
	for c.ListGroups(ctx, Client{}, req).ErrorCode != 0 {
	}
	return c
}

func BenchmarkOffsetCommit(b *testing.B) {
	for _, partitions := range []int32{1, 50} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) {
			c := benchCoordinator(b)
			req := commitRequest(9, "g", "t", [16]byte{}, 0, 5)
			one := req.Topics[0].Partitions[0]
			for p := int32(1); p < partitions; p++ {
				one.Partition = p
				req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
			}
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.OffsetCommit(b.Context(), Client{}, req)
				}
			})
		})
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	c := benchCoordinator(b)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group = 4, "g"
	b.ReportAllocs()
	for b.Loop() {
		c.Heartbeat(b.Context(), Client{}, req)
	}
}

func BenchmarkOffsetFetch(b *testing.B) {
	c := benchCoordinator(b)
	c.OffsetCommit(b.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 0, 5))
	req := fetchRequest(9, "g", "t", [16]byte{}, 0)
	b.ReportAllocs()
	for b.Loop() {
		c.OffsetFetch(b.Context(), Client{}, req)
	}
}
