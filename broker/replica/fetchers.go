package replica

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
)

// maxCuts bounds how many of the logs that this broker follows are truncated, or
// get another log start, at the same time: enough for one rewrite of a checkpoint to
// serve many of them.
const maxCuts = 64

// maxTierStarts bounds how many partitions ask the tier at the same time where
// they shall begin (remote.log.manager.follower.thread.pool.size).
const maxTierStarts = 8

// fetchers copy what this broker follows from its leaders: Kafka's
// ReplicaFetcherManager. Each leader is asked by Options.Fetchers goroutines,
// each with a connection and a fetch session of its own; a partition belongs to
// one of them for as long as its leader stays. mu is held for bookkeeping alone.
type fetchers struct {
	m        *Manager
	metrics  *fetcherMetrics
	throttle *throttle
	tier     chan struct{} // of capacity maxTierStarts
	cuts     chan struct{} // of capacity maxCuts
	wanted   chan struct{} // a fetcher is to be started

	mu      sync.Mutex
	follows map[*Partition]*follow
	byKey   map[fetcherKey]*fetcher
}

// fetcherKey is the n-th fetcher of a leader.
type fetcherKey struct {
	leader metadata.BrokerID
	n      int
}

func newFetchers(m *Manager) *fetchers {
	return &fetchers{
		m: m, throttle: newThrottle(m), tier: make(chan struct{}, maxTierStarts), cuts: make(chan struct{}, maxCuts), wanted: make(chan struct{}, 1),
		follows: make(map[*Partition]*follow), byKey: make(map[fetcherKey]*fetcher),
	}
}

// run owns the goroutines of all fetchers until ctx ends.
func (f *fetchers) run(ctx context.Context) error {
	metrics, err := newFetcherMetrics(f, f.m.o.Meter)
	if err != nil {
		return fmt.Errorf("fetcher metrics: %w", err)
	}
	defer metrics.close()
	f.metrics = metrics
	var g errgroup.Group
	for {
		for _, w := range f.unstarted() {
			g.Go(func() error { w.run(ctx); return nil })
		}
		select {
		case <-f.wanted:
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

func (f *fetchers) unstarted() []*fetcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*fetcher
	for _, w := range f.byKey {
		if !w.started {
			w.started = true
			list = append(list, w)
		}
	}
	return list
}

// assign has p follow leader in epoch, or go on. It never blocks: an operation
// of the former leader's fetch may still be under way, and then precedes those
// of the new one's.
func (f *fetchers) assign(p *Partition, leader metadata.BrokerID, epoch int32) {
	f.mu.Lock()
	old := f.follows[p]
	if old != nil && old.leader == leader && old.epoch == epoch {
		f.mu.Unlock()
		return
	}
	fo := newFollow(p, leader, epoch)
	f.follows[p] = fo
	idle := f.dropLocked(old)
	var busy *poll
	if leader >= 0 && leader != f.m.o.Broker {
		busy = f.addLocked(fo)
	}
	f.mu.Unlock()
	idle.interrupt()
	busy.interruptIfIdle()
	p.moved.broadcast() // a fetcher may wait for p to be synced
}

// remove ends the following of p. When it returns no fetch will append to p's log
// or truncate it any more; it waits only for an operation that is under way.
func (f *fetchers) remove(p *Partition) {
	if f.drop(p) {
		p.turn.pass()
	}
}

// drop is remove without the wait. It says whether p was followed.
func (f *fetchers) drop(p *Partition) bool {
	f.mu.Lock()
	fo := f.follows[p]
	delete(f.follows, p)
	idle := f.dropLocked(fo)
	f.mu.Unlock()
	idle.interrupt()
	if fo != nil {
		p.moved.broadcast()
	}
	return fo != nil
}

// addLocked gives fo to its fetcher, and returns the poll that it has to wait for.
func (f *fetchers) addLocked(fo *follow) *poll {
	key := fetcherKey{fo.leader, spread(fo.p.tip, f.m.o.Fetchers)}
	w := f.byKey[key]
	if w == nil {
		w = newFetcher(f, key)
		f.byKey[key] = w
		select {
		case f.wanted <- struct{}{}:
		default: // run looks at all of them
		}
	}
	fo.fetcher = w
	w.follows[fo] = struct{}{}
	return w.changedLocked()
}

// dropLocked takes fo from its fetcher. It returns the poll of a fetcher that
// has nothing left to poll for.
func (f *fetchers) dropLocked(fo *follow) *poll {
	if fo == nil {
		return nil
	}
	close(fo.over)
	w := fo.fetcher
	if w == nil {
		return nil
	}
	delete(w.follows, fo)
	if busy := w.changedLocked(); len(w.follows) == 0 {
		return busy
	}
	return nil
}

// list returns what w has to follow, in the order of topics and partitions.
// False means that it is nothing and that w is not known any more.
func (f *fetchers) list(w *fetcher) ([]*follow, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(w.follows) == 0 {
		delete(f.byKey, w.key)
		return nil, false
	}
	if w.changed {
		w.changed = false
		w.sorted = w.sorted[:0]
		for fo := range w.follows {
			w.sorted = append(w.sorted, fo)
		}
		slices.SortFunc(w.sorted, func(a, b *follow) int {
			return cmp.Or(bytes.Compare(a.p.tip.Topic[:], b.p.tip.Topic[:]), cmp.Compare(a.p.tip.Partition, b.p.tip.Partition))
		})
	}
	return w.sorted, true
}

// polling tells assign and remove which poll of w is under way, nil for none.
func (f *fetchers) polling(w *fetcher, p *poll) {
	f.mu.Lock()
	w.poll = p
	f.mu.Unlock()
}

// all lists what is followed now.
func (f *fetchers) all() []*follow {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*follow, 0, len(f.follows))
	for _, fo := range f.follows {
		if fo.fetcher != nil {
			list = append(list, fo)
		}
	}
	return list
}

// address is where a leader is reached: as the Image says, which does not name
// brokers that lost their lease.
func (f *fetchers) address(leader metadata.BrokerID) (string, bool) {
	b, ok := f.m.o.Metadata.Image().Broker(leader)
	if !ok {
		return "", false
	}
	i := slices.IndexFunc(b.Listeners, func(l metadata.Listener) bool { return l.Name == f.m.o.InterBrokerListener })
	if i < 0 {
		return "", false
	}
	return net.JoinHostPort(b.Listeners[i].Host, strconv.Itoa(int(b.Listeners[i].Port))), true
}

// epoch is this broker's registration as a leader compares it (KIP-903), -1 for none.
func (f *fetchers) epoch() int64 {
	if f.m.o.Session != nil {
		if s := f.m.o.Session(); s != nil {
			return s.Epoch
		}
		return -1
	}
	if self, ok := f.m.o.Metadata.Image().Broker(f.m.o.Broker); ok {
		return self.Epoch
	}
	return -1
}

// spread chooses among n fetchers so that neighbours of one topic have different ones.
func spread(tip metadata.TopicIDPartition, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write(tip.Topic[:])
	return int((uint64(h.Sum32()) + uint64(uint32(tip.Partition))) % uint64(n))
}
