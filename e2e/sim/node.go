package sim

import (
	"context"
	"errors"
	"fmt"
	oldrand "math/rand"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/e2e/power"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// node is one machine: its disk, its line to power, its host in the network,
// its view of etcd and of the object store, and the broker that runs on it.
type node struct {
	w    *world
	id   metadata.BrokerID
	host string
	role string
	turn chan struct{} // of who starts, stops or pauses the broker

	etcd, store trouble
	slow        trouble     // of the disk: every sync takes slowSync
	failSync    atomic.Bool // the next sync fails
	diskFailed  atomic.Bool // in this life: the broker need not go on
	bare        atomic.Bool // its disk was lost, and it is not registered with the new one
	cancel      func()
	done        chan struct{} // of the life

	mu    sync.Mutex
	disk  *vfs.Mem
	line  *power.Line
	coins *oldrand.Rand // of what a crash keeps
}

const slowSync = 300 * time.Millisecond

// restartAfter is how long a broker that ended by itself stays down, as under a
// service manager.
const restartAfter = time.Second

func newNode(w *world, id int, role string) *node {
	return &node{w: w, id: metadata.BrokerID(id), host: hostOf(id), role: role, turn: make(chan struct{}, 1), disk: vfs.NewMem(),
		coins: oldrand.New(oldrand.NewSource(int64(w.seed)<<8 + int64(id)))}
}

func hostOf(id int) string { return "broker-" + strconv.Itoa(id) }

func (n *node) addr() string { return n.host + ":9092" }

// rack is one of two, so that every rack has a replica.
func (n *node) rack() string { return "rack-" + strconv.Itoa(int(n.id)%2) }

func (n *node) settings() (*config.Settings, error) {
	return config.Load("", nil, map[string]string{
		"node.id": strconv.Itoa(int(n.id)), "broker.rack": n.rack(), "broker.role": n.role,
		"data.dir": "/data", "listeners": "PLAINTEXT://" + n.addr(), "http.listen": "", "remote.store.url": "file:///objects",
		"broker.session.timeout.ms": "2000", "shutdown.timeout.ms": "5000", "auto.create.topics.enable": "false",
		"default.replication.factor": "3", "min.insync.replicas": "2", "replica.lag.time.max.ms": "3000",
		"replica.fetch.wait.max.ms": "300", "replica.fetch.backoff.ms": "200", "replica.socket.timeout.ms": "2000",
		"replica.selector.class": config.RackAwareSelector, "replay.client.ids": "replay-*",
		"leader.imbalance.check.interval.seconds": "7", "log.retention.check.interval.ms": "1000",
		"log.segment.delete.delay.ms": "1000", "remote.log.manager.task.interval.ms": "500", "remote.delete.grace.ms": "5000",
		"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000",
		"offsets.topic.num.partitions": "2", "offsets.topic.replication.factor": "3",
	})
}

// start runs the broker on the disk as it is, and again whenever it ends by
// itself, until stop. It does not wait.
func (n *node) start(ctx context.Context) {
	ctx, n.cancel = context.WithCancel(ctx)
	n.done = make(chan struct{})
	n.w.note("%s starts", n.host)
	go func() {
		defer close(n.done)
		for {
			ready, err := n.live(ctx)
			if ctx.Err() != nil {
				n.w.note("%s stopped: %v", n.host, err)
				return
			}
			if ready && !n.diskFailed.Load() {
				n.w.h.fail("%s ended by itself: %v", n.host, err)
			}
			n.w.note("%s ended by itself, ready %v: %v", n.host, ready, err)
			if n.diskFailed.Load() {
				n.swap(n.crashed(50)) // the kernel may have dropped what it could not sync
			}
			select {
			case <-time.After(restartAfter):
			case <-ctx.Done():
				return
			}
		}
	}()
}

// live is one life of the broker.
func (n *node) live(ctx context.Context) (ready bool, err error) {
	settings, err := n.settings()
	if err != nil {
		return false, err
	}
	line := &power.Line{}
	n.diskFailed.Store(false)
	n.mu.Lock()
	n.line = line
	disk := n.disk
	n.mu.Unlock()
	b, err := broker.New(broker.Options{
		Settings: settings, Logger: n.w.log.With("on", n.host),
		FS: vfs.WithFaults(disk, func(op vfs.Op) error { return errors.Join(line.Disk(op), n.diskOp(op)) }),
		KV: n.w.kv.Client(func(ctx context.Context, c kv.Call) error {
			return cmpErr(line.KV(ctx, c), n.etcd.kv(ctx, c), n.w.etcd.kv(ctx, c))
		}),
		Objects: object.WithFaults(n.w.objects, func(ctx context.Context, op object.Op) error {
			return cmpErr(line.Objects(ctx, op), n.store.object(ctx, op), n.w.store.object(ctx, op))
		}),
		Listen: line.Listen(func(_ context.Context, addr string) (net.Listener, error) { return n.w.network.Listen(addr) }),
		Dial:   line.Dial(n.w.network.Host(n.host).Dial),
	})
	if err != nil {
		return false, err
	}
	err = b.Run(ctx, func(broker.Addresses) {
		ready = true
		n.bare.Store(false)
		n.w.note("%s ready", n.host)
	})
	return ready, err
}

// cmpErr is the first error.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *node) diskOp(op vfs.Op) error {
	if op.Kind != vfs.OpSync && op.Kind != vfs.OpSyncDir {
		return nil
	}
	if mode, _ := n.slow.now(); mode != "" {
		time.Sleep(slowSync)
	}
	if n.failSync.CompareAndSwap(true, false) {
		n.diskFailed.Store(true)
		n.w.note("%s cannot sync %s", n.host, op.Path)
		return fmt.Errorf("simulated: sync %s: %w", op.Path, syscall.EIO)
	}
	return nil
}

// stop asks the broker to stop and waits for it.
func (n *node) stop() {
	n.w.note("%s is asked to stop", n.host)
	n.cancel()
	<-n.done
}

// crash takes the power away: what was not synced may be gone.
func (n *node) crash(keepPercent int) {
	n.mu.Lock()
	line := n.line
	n.mu.Unlock()
	line.Cut()
	after := n.crashed(keepPercent)
	n.cancel()
	<-n.done
	n.swap(after)
}

func (n *node) crashed(keepPercent int) *vfs.Mem {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.disk.Crash(n.coins, keepPercent)
}

func (n *node) swap(disk *vfs.Mem) {
	n.mu.Lock()
	n.disk = disk
	n.mu.Unlock()
}

// pause and resume hold the broker still; see package power.
func (n *node) pause() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line.Pause()
}

func (n *node) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line.Resume()
}

// fill leaves the disk so many bytes; 0 heals it.
func (n *node) fill(left int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if left > 0 {
		n.diskFailed.Store(true)
		left += n.disk.Used()
	}
	n.disk.SetCapacity(left)
}

var errAway = errors.New("simulated: no answer")

// trouble is what somebody else does for a while instead of answering:
// "refuse" says so at once, "hang" says nothing, "deaf" does what it is asked
// and its answer is lost, "slow" answers late, "" is well.
type trouble struct {
	mu    sync.Mutex
	mode  string
	until time.Time
}

func (t *trouble) set(mode string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mode, t.until = mode, time.Now().Add(d)
}

func (t *trouble) now() (mode string, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if left = time.Until(t.until); left <= 0 {
		return "", 0
	}
	return t.mode, left
}

// act waits and fails as the mode says.
func (t *trouble) act(ctx context.Context, after bool) error {
	for {
		mode, left := t.now()
		switch {
		case mode == "" || mode == "deaf" && !after:
			return nil
		case mode == "refuse" || mode == "deaf":
			return errAway
		case mode == "slow":
			left = min(left, time.Second)
		}
		select {
		case <-time.After(min(left, time.Second)): // it may heal before its time
		case <-ctx.Done():
			return errAway
		}
		if mode == "slow" {
			return nil
		}
	}
}

func (t *trouble) kv(ctx context.Context, c kv.Call) error {
	if err := t.act(ctx, c.After); err != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	return nil
}

func (t *trouble) object(ctx context.Context, op object.Op) error {
	if err := t.act(ctx, op.After); err != nil {
		return fmt.Errorf("%w: %w", object.ErrUnavailable, err)
	}
	return nil
}
