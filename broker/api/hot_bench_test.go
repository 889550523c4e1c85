package api_test

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// roundTrip writes a frame and reads its answer into buf.
func (k *conn) roundTrip(b *testing.B, frame, buf []byte) {
	k.write(frame)
	if _, err := io.ReadFull(k.nc, buf[:4]); err != nil {
		b.Fatal(err)
	}
	n := binary.BigEndian.Uint32(buf)
	if _, err := io.ReadFull(k.nc, buf[:n]); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkProduce is one request of one small batch, through everything.
func BenchmarkProduce(b *testing.B) {
	s := newCluster(b).start(nil).dial()
	s.topic("t", 1)
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, produceRequest("t", 0, batch("some value")), 1)
	buf := make([]byte, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		s.roundTrip(b, frame, buf)
	}
}

// BenchmarkFetch is one full fetch of one partition with 8 KiB to give.
func BenchmarkFetch(b *testing.B) {
	s := newCluster(b).start(nil).dial()
	s.topic("t", 1)
	s.produce("t", 0, string(make([]byte, 8<<10)))
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest("t", 0, 0), 1)
	buf := make([]byte, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		s.roundTrip(b, frame, buf)
	}
}
