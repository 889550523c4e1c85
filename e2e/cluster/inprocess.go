package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"net"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/e2e/power"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// inProcess runs the broker in this process on a crashable disk in memory, so
// that Kill can lose what was not synced, which killing a process cannot.
type inProcess struct {
	disk   *vfs.Mem
	kv     *kv.Mem
	power  *power.Line
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (p *inProcess) start(ctx context.Context, b *Broker) error {
	if p.disk == nil {
		p.disk, p.kv = vfs.NewMem(), kv.NewMem()
	}
	flags := map[string]string{"data.dir": b.o.Dir, "listeners": "PLAINTEXT://" + b.kafka, "http.listen": b.http}
	if b.o.StoreURL != "" {
		flags["remote.store.url"] = b.o.StoreURL
	}
	settings, err := config.Load("", b.environment(), flags)
	if err != nil {
		return err
	}
	p.power = &power.Line{}
	listen := func(ctx context.Context, addr string) (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp", addr)
	}
	br, err := broker.New(broker.Options{
		Settings: settings, Logger: slog.New(slog.NewTextHandler(&b.log, nil)), FS: p.disk, KV: p.kv.Client(p.power.KV), Listen: p.power.Listen(listen),
	})
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel, p.done = cancel, make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(p.done)
		p.err = br.Run(run, func(broker.Addresses) { close(ready) })
	}()
	select {
	case <-ready:
		return nil
	case <-p.done:
		return errors.Join(p.err, errors.New("broker ended"))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill takes the disk as a power loss would leave it, then ends the broker
// that still writes to the old one.
func (p *inProcess) kill() error {
	if p.done == nil {
		return nil
	}
	p.power.Cut()
	after := p.disk.Crash(rand.New(rand.NewSource(rand.Int63())), 50)
	p.cancel()
	<-p.done
	p.disk = after
	return nil
}

func (p *inProcess) stop(context.Context) error {
	p.cancel()
	<-p.done
	return p.err
}

var errInProcess = errors.New("a broker in this process cannot do that")

func (p *inProcess) pause() error { return errInProcess }

func (p *inProcess) resume() error { return errInProcess }

func (p *inProcess) loseDisk(context.Context, *Broker) error {
	p.disk = vfs.NewMem()
	return nil
}

func (p *inProcess) ended() error { return nil } // start has waited for it

func (p *inProcess) pid() int { return 0 }

// SetCapacity makes the disk of an in-process broker as small as so many bytes;
// 0 is without limit.
func (b *Broker) SetCapacity(bytes int64) {
	if p, ok := b.run.(*inProcess); ok {
		p.disk.SetCapacity(bytes)
	}
}
