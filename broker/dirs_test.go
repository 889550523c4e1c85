package broker

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestBrokerWithoutALogDirectoryStops, with the disk's error, so that others lead what
// it led.
func TestBrokerWithoutALogDirectoryStops(t *testing.T) {
	var bad atomic.Bool
	disk := vfs.WithFaults(vfs.NewMem(), func(op vfs.Op) error {
		if bad.Load() && op.Kind.Write() {
			return syscall.EIO
		}
		return nil
	})
	settings, err := config.Load("", nil, map[string]string{
		"node.id": "1", "data.dir": "/data", "listeners": "PLAINTEXT://127.0.0.1:0", "http.listen": "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Settings: settings, FS: disk, KV: kv.NewMem(), Objects: object.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() { ended <- b.Run(t.Context(), func(at Addresses) { ready <- at }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	bad.Store(true)
	meta, _ := b.dirs[0].Meta()
	if err := b.dirs[0].SetMeta(meta); !errors.Is(err, segment.ErrOffline) {
		t.Fatalf("a directory on a dead disk: %v", err)
	}
	if err := <-ended; !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "every log directory is offline") {
		t.Errorf("ended with %v", err)
	}
}
