package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

const (
	// answerTimeout is how much longer than it may wait a leader may take to
	// answer: replica.socket.timeout.ms.
	answerTimeout = 30 * time.Second
	// dialTimeout is socket.connection.setup.timeout.ms.
	dialTimeout = 10 * time.Second
	// settling is how long after a change of what is followed requests wait for
	// shortWait at most, so that the next change does not wait for long.
	settling  = time.Second
	shortWait = 100 * time.Millisecond
	// busyWait is how soon a partition is looked at again that is not ready
	// because of the disk or the throttle.
	busyWait = 50 * time.Millisecond
	// batchRoom is what one batch may be larger than replica.fetch.response.max.bytes (KIP-74).
	batchRoom = 100 << 20
)

// fetcher asks one leader for the partitions in follows: fetch, append, wait
// until all of it is synced, fetch. The offset it asks for is what is synced, so
// the leader counts nothing that a power cut here could take.
type fetcher struct {
	f   *fetchers
	key fetcherKey

	// Guarded by fetchers.mu.
	started bool
	follows map[*follow]struct{}
	changed bool      // sorted is not up to date
	sorted  []*follow // made by fetchers.list, used by the fetcher
	since   time.Time // follows changed last
	poll    *poll     // under way

	wake chan struct{} // follows changed, or one of them may go on

	// Owned by run.
	peer     *wire.Peer
	session  *fetchSession
	faults   int // in a row
	report   report
	unsynced []*follow // what the last answer appended to
	astray   []*follow // whose offset the leader does not have
	starts   sync.WaitGroup
}

// report is where the handling of answers leaves what others want to know.
type report struct {
	log     *slog.Logger
	backoff time.Duration // the longest
	bytes   int           // appended
}

func newFetcher(f *fetchers, key fetcherKey) *fetcher {
	return &fetcher{
		f: f, key: key, follows: make(map[*follow]struct{}), wake: make(chan struct{}, 1), session: newFetchSession(),
		report: report{log: f.m.log, backoff: f.m.o.FetchBackoff},
	}
}

// changedLocked notes that follows changed and returns the poll under way.
func (w *fetcher) changedLocked() *poll {
	w.changed, w.since = true, time.Now()
	w.poke()
	return w.poll
}

// poke makes the fetcher look at its partitions again, unless it polls.
func (w *fetcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // it will
	}
}

// poll is a request that is under way.
type poll struct {
	peer   *wire.Peer
	cancel context.CancelFunc
	long   bool
}

// interrupt ends the poll, at the price of its connection.
func (p *poll) interrupt() {
	if p != nil {
		p.cancel()
	}
}

// interruptIfIdle ends a poll that would keep others waiting for long although
// the leader has nothing to say.
func (p *poll) interruptIfIdle() {
	if p != nil && p.long && !p.peer.Answered() {
		p.cancel()
	}
}

// errInterrupted means that follows changed during a poll.
var errInterrupted = errors.New("interrupted")

// run fetches until nothing is left to follow, or ctx ends.
func (w *fetcher) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.starts.Wait()
	defer cancel()
	defer w.hangUp()
	for ctx.Err() == nil {
		list, ok := w.f.list(w)
		if !ok {
			return
		}
		wait := w.choose(ctx, list)
		if w.session.named == 0 {
			w.pause(ctx, wait)
			continue
		}
		err := w.fetch(ctx, wait)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errInterrupted):
		case err != nil:
			w.fault(ctx, err)
		default:
			w.faults = 0
			w.awaitSynced(ctx)
		}
	}
}

func (w *fetcher) hangUp() {
	if w.peer != nil {
		_ = w.peer.Close() // nothing more is expected of it
		w.peer = nil
	}
}

// fault notes that the leader could not be asked, and waits.
func (w *fetcher) fault(ctx context.Context, err error) {
	w.faults++
	w.f.metrics.failed(ctx)
	say := w.f.m.log.Debug
	if w.faults == noisy {
		say = w.f.m.log.Warn
	}
	say("fetch from leader", "broker", w.key.leader, "err", err)
	pause(ctx, backoff(w.faults, w.f.m.o.FetchBackoff), nil)
}

// pause waits until something is to be looked at again.
func (w *fetcher) pause(ctx context.Context, d time.Duration) { pause(ctx, d, w.wake) }

func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// choose puts the partitions that are ready into the next request. It returns
// for how long that may wait: until another one is ready.
func (w *fetcher) choose(ctx context.Context, list []*follow) time.Duration {
	o := &w.f.m.o
	now := time.Now()
	wait := o.FetchWait
	w.f.mu.Lock()
	if now.Sub(w.since) < settling {
		wait = min(wait, shortWait)
	}
	w.f.mu.Unlock()
	w.session.begin()
	for _, fo := range list {
		in, ok := w.ready(ctx, fo, now)
		if !ok {
			wait = min(wait, max(in, time.Millisecond))
			continue
		}
		w.session.want(fo, o.FetchBytes)
	}
	return wait
}

// ready says whether a partition can be fetched now, else when to look again.
func (w *fetcher) ready(ctx context.Context, fo *follow, now time.Time) (in time.Duration, ok bool) {
	p := fo.p
	switch {
	case fo.isOver() || fo.aside.Load():
		return w.f.m.o.FetchWait, false // who changes that pokes us
	case now.Before(fo.notBefore):
		return fo.notBefore.Sub(now), false
	}
	if err := p.dir.Offline(); err != nil {
		fo.fault(err, now, &w.report)
		return w.f.m.o.FetchBackoff, false
	}
	if !fo.begun {
		if err := fo.begin(); err != nil {
			fo.fault(err, now, &w.report)
			return fo.notBefore.Sub(now), false
		}
	}
	switch {
	case fo.empty() && !fo.tierKnown && w.tierHasMore(fo):
		w.startFromTier(ctx, fo, noTierStart)
		return w.f.m.o.FetchWait, false
	case p.log.SyncedOffset() < p.log.LogEnd():
		p.log.RequestSync()
		return busyWait, false
	case w.f.throttle.holds(fo, now):
		return busyWait, false
	}
	return 0, true
}

// fetch asks the leader for what was chosen, and takes what it answers.
func (w *fetcher) fetch(ctx context.Context, wait time.Duration) error {
	o := &w.f.m.o
	req := w.session.finish()
	req.ReplicaState.ID, req.ReplicaState.Epoch = int32(o.Broker), w.f.epoch()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), o.FetchMinBytes, o.FetchResponseBytes
	if err := w.reach(); err != nil {
		w.session.lost()
		return err
	}
	resp, err := w.do(ctx, req, wait > shortWait, wait+answerTimeout)
	if err != nil {
		w.session.lost()
		return err
	}
	r := resp.(*kmsg.FetchResponse)
	if err := w.session.answered(r); err != nil {
		if w.faults == 0 && errors.Is(err, errSession) {
			w.faults++
			return errInterrupted // once; another session is made at once
		}
		return err
	}
	w.take(ctx, r)
	return nil
}

// reach makes sure that peer is where the Image says the leader is. A leader
// that the Image does not show any more is still reached where it was.
func (w *fetcher) reach() error {
	addr, ok := w.f.address(w.key.leader)
	switch {
	case w.peer != nil && (!ok || addr == w.peer.Addr()):
		return nil
	case !ok:
		return fmt.Errorf("broker %d has no listener %q that is known", w.key.leader, w.f.m.o.InterBrokerListener)
	}
	w.hangUp()
	o := &w.f.m.o
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	w.peer = wire.NewPeer(addr, wire.PeerOptions{
		ClientID:         fmt.Sprintf("broker-%d-fetcher-%d", o.Broker, w.key.n),
		MaxResponseBytes: int32(min(int64(o.FetchResponseBytes)+batchRoom, 1<<31-1)),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return dial(ctx, network, addr)
		},
	})
	return nil
}

// do sends a request that assign and remove may interrupt.
func (w *fetcher) do(ctx context.Context, req kmsg.Request, long bool, timeout time.Duration) (kmsg.Response, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w.f.polling(w, &poll{peer: w.peer, cancel: cancel, long: long})
	if fetch, ok := req.(*kmsg.FetchRequest); ok {
		select {
		case <-w.wake: // a change from before it was known whom to interrupt
			fetch.MaxWaitMillis = 0
		default:
		}
	}
	resp, err := w.peer.Do(bounded, req)
	w.f.polling(w, nil)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return nil, errInterrupted
	}
	return resp, err
}

// take handles the answers of all partitions.
func (w *fetcher) take(ctx context.Context, r *kmsg.FetchResponse) {
	w.unsynced, w.astray, w.report.bytes = w.unsynced[:0], w.astray[:0], 0
	now := time.Now()
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			part := w.session.parts[metadata.TopicIDPartition{Topic: t.TopicID, Partition: rp.Partition}]
			if part == nil || part.asked != w.session.asked {
				continue // not asked for
			}
			w.takePartition(ctx, part, rp, now)
		}
	}
	w.f.metrics.fetched(ctx, w.report.bytes)
	if len(w.astray) > 0 {
		w.findWay(ctx, w.astray, now)
	}
}

func (w *fetcher) takePartition(ctx context.Context, part *fetchPart, rp *kmsg.FetchResponseTopicPartition, now time.Time) {
	fo := part.follow
	err := errorOf(rp.ErrorCode)
	before := w.report.bytes
	if err == nil {
		err = fo.answer(part.offset, rp, &w.report)
	}
	if n := w.report.bytes - before; n > 0 {
		w.unsynced = append(w.unsynced, fo)
		w.f.throttle.record(fo, n, now)
	}
	switch {
	case fo.due != nil:
		w.startCut(ctx, fo)
	case err == nil:
		fo.fine(&w.report)
		w.trim(ctx, fo)
	case errors.Is(err, errOver):
	case errors.Is(err, ErrMovedToTier):
		w.startFromTier(ctx, fo, noTierStart)
	case rp.ErrorCode != 0 && errors.Is(err, segment.ErrOffsetOutOfRange):
		w.astray = append(w.astray, fo)
	default:
		fo.fault(err, now, &w.report)
	}
}

// awaitSynced returns when what the last answer brought is on stable storage.
// After a while it goes on without the partitions that are not: their disk may
// be stuck, and the others' need not be.
func (w *fetcher) awaitSynced(ctx context.Context) {
	if len(w.unsynced) == 0 {
		return
	}
	patience := time.NewTimer(w.f.m.o.FetchWait)
	defer patience.Stop()
	for _, fo := range w.unsynced {
		for {
			moved := fo.p.moved.next()
			if fo.isOver() || fo.p.log.SyncedOffset() >= fo.p.log.LogEnd() || fo.p.dir.Offline() != nil {
				break
			}
			select {
			case <-moved:
				continue
			case <-patience.C:
			case <-ctx.Done():
			}
			return
		}
	}
}
