package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// Errors that callers test for.
var (
	ErrTopicExists      = errors.New("topic exists")
	ErrUnknownTopic     = errors.New("unknown topic")
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrConflict means that somebody else changed it first: look at a newer
	// image and decide again.
	ErrConflict = errors.New("changed by somebody else")
	// ErrFenced means that the caller is not, or no longer, who may do this.
	ErrFenced = errors.New("fenced")
)

// Options are what a Store needs.
type Options struct {
	KV      kv.KV
	Cluster string // name of the cluster in the key-value store, default "coldbrook"
	Logger  *slog.Logger
	Meter   metric.Meter
}

// Store is the cluster's metadata: an Image that Run keeps, and the operations
// that change it. It is safe for concurrent use.
//
// An operation that changed the image returns when the image of this Store shows
// the change. Other brokers' changes are seen while Run runs.
type Store struct {
	kv      kv.KV
	keys    keyspace
	log     *slog.Logger
	metrics *metrics

	image atomic.Pointer[Image]
	turn  chan struct{} // held, by what is in it, by who makes the next image
	ended chan struct{} // closed when Run has returned

	mu         sync.Mutex
	grew       chan struct{} // closed and replaced with each image
	doubts     doubts
	subs       map[chan struct{}]struct{}
	registered map[BrokerID]string // incarnations that this Store registered
}

// Open connects the Store: it makes the cluster's id if there is none and loads
// the first Image with one range.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.KV == nil {
		return nil, errors.New("metadata: no key-value store given")
	}
	if o.Cluster == "" {
		o.Cluster = "coldbrook"
	}
	if strings.Contains(o.Cluster, "/") {
		return nil, fmt.Errorf("metadata: cluster name %q must not contain '/'", o.Cluster)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		kv: o.KV, keys: keyspaceOf(o.Cluster), log: o.Logger,
		turn: make(chan struct{}, 1), ended: make(chan struct{}),
		grew: make(chan struct{}), doubts: doubts{wake: make(chan struct{}, 1), unwatch: func(error) {}}, subs: map[chan struct{}]struct{}{}, registered: map[BrokerID]string{},
	}
	s.image.Store(newImage())
	var err error
	if s.metrics, err = newMetrics(o.Meter, s.Image); err != nil {
		return nil, err
	}
	if err := s.reload(ctx, s.Image()); err != nil {
		return nil, fmt.Errorf("load metadata of cluster %s: %w", o.Cluster, err)
	}
	if s.Image().ClusterID() == "" {
		if err := s.makeClusterID(ctx); err != nil {
			return nil, fmt.Errorf("make cluster id: %w", err)
		}
	}
	if s.Image().restore.value.Writing {
		return nil, fmt.Errorf("cluster %s: %w: `coldbrook cluster restore --again` begins anew", o.Cluster, ErrRestoring)
	}
	return s, nil
}

// makeClusterID lets one of several brokers that start together win.
func (s *Store) makeClusterID(ctx context.Context) error {
	key := s.keys.cluster()
	_, err := s.txn(ctx, "make-cluster", kv.Txn{
		If:   []kv.Cmp{kv.Absent(key)},
		Then: []kv.Op{kv.Put(key, encode(clusterValue{ID: NewTopicID().String()}), 0)},
	})
	if err != nil {
		return err
	}
	return s.reload(ctx, s.Image())
}

// Image returns the latest image. It never waits.
func (s *Store) Image() *Image { return s.image.Load() }

// txn is one transaction, measured.
func (s *Store) txn(ctx context.Context, op string, t kv.Txn) (kv.TxnResponse, error) {
	start := time.Now()
	resp, err := s.kv.Txn(ctx, t)
	s.metrics.observe(ctx, op, start, err)
	// No operation writes where its conditions do not hold.
	writes := func(op kv.Op) bool { return op.Kind != kv.OpGet }
	s.metrics.wrote(ctx, op, err == nil && resp.Succeeded && slices.ContainsFunc(t.Then, writes))
	return resp, err
}

// load brings the image to what the store has now.
func (s *Store) load(ctx context.Context) (invalid []error, err error) {
	return s.loadOver(ctx, s.Image())
}

// loadOver replaces the image by what the store has now. What has the revision
// that it has in the image from is taken from there.
func (s *Store) loadOver(ctx context.Context, from *Image) (invalid []error, err error) {
	start := time.Now()
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: string(s.keys), End: kv.PrefixEnd(string(s.keys))})
	s.metrics.observe(ctx, "load", start, err)
	if err != nil {
		return nil, err
	}
	b := newBuilder(s.keys, from)
	invalid = b.sync(resp.KVs)
	s.mu.Lock()
	s.doubts.seen, s.doubts.before = resp.Revision, change{}
	s.mu.Unlock()
	s.publish(b.build(resp.Revision))
	s.doubts.fresh.Store(&start)
	s.log.Debug("metadata loaded", "keys", len(resp.KVs), "revision", resp.Revision, "took", time.Since(start))
	return invalid, nil
}

func (s *Store) publish(im *Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.image.Store(im)
	close(s.grew)
	s.grew = make(chan struct{})
	for ch := range s.subs {
		select {
		case ch <- struct{}{}:
		default: // it has not looked since the last wake-up
		}
	}
}

// Watch returns a channel that gets a wake-up after each change of the image,
// one for several changes if the receiver is slow, and the function that ends it.
func (s *Store) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, ch)
	}
}

// WaitRevision returns when the image is at rev, the revision of a change to this
// cluster's metadata, or later. It needs Run.
func (s *Store) WaitRevision(ctx context.Context, rev int64) error {
	return s.waitRevision(ctx, rev, nil, nil)
}

// waitRevision also ends when it can put something into turn, and when ended is
// closed.
func (s *Store) waitRevision(ctx context.Context, rev int64, turn chan<- struct{}, ended <-chan struct{}) error {
	for {
		s.mu.Lock()
		at, grew := s.Image().Revision(), s.grew
		s.mu.Unlock()
		if at >= rev {
			return nil
		}
		select {
		case <-grew:
		case turn <- struct{}{}:
			return errTurn
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("wait for metadata revision %d, have %d: %w", rev, at, ctx.Err())
		}
	}
}

// Why waitRevision returned before the revision came.
var (
	errTurn  = errors.New("it is the caller's turn to make the next image")
	errEnded = errors.New("the image grows no more")
)

// settle lets a caller see its own write: it waits for Run, or, before Run has
// begun, makes the next images itself. The write is made: that the image is late
// is no error of it.
func (s *Store) settle(ctx context.Context, rev int64) {
	err := s.waitRevision(ctx, rev, s.turn, s.ended)
	if errors.Is(err, errTurn) {
		err = s.catchUp(ctx, rev)
		<-s.turn
	}
	if err != nil {
		s.log.Debug("metadata image is late", "err", err)
	}
}

// catchUp follows the store up to a revision. It needs the turn.
func (s *Store) catchUp(ctx context.Context, rev int64) error {
	select {
	case <-s.ended:
		return errEnded
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for s.Image().Revision() < rev {
		done := func() bool { return s.Image().Revision() >= rev }
		if err := s.follow(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// Pauses between attempts to watch while the store does not answer.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// Run, which is called once, keeps the image until ctx ends: it watches, opens the watch again where it
// ended, and loads the image anew when what it missed is compacted away.
func (s *Store) Run(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		close(s.ended)
		return nil
	}
	var confirming sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	confirming.Go(func() { s.keepConfirmed(ctx) })
	defer func() {
		stop()
		confirming.Wait()
		close(s.ended) // lets go of those who wait to see their own writes
		<-s.turn
	}()
	backoff := minBackoff
	for {
		before := s.Image().Revision()
		err := s.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, kv.ErrClosed) || errors.Is(err, ErrNewerFormat) || errors.Is(err, errNeeded) {
			return fmt.Errorf("watch metadata: %w", err)
		}
		if s.Image().Revision() != before {
			backoff = minBackoff
		}
		s.metrics.restarts.Add(ctx, 1)
		s.log.Warn("metadata watch ended", "revision", s.Image().Revision(), "retry", backoff, "err", err)
		if errors.Is(err, kv.ErrCompacted) || errors.Is(err, errSetBack) || errors.Is(err, errLate) {
			from := s.Image()
			if errors.Is(err, errSetBack) {
				s.log.Error("etcd was set back to an earlier state, which is taken for what is decided now", "revision", from.Revision(), "err", err)
				from = newImage() // what has the same revision may be another value
				from.clusterID = s.Image().ClusterID()
			}
			if err = s.reload(ctx, from); err == nil {
				continue
			}
			if errors.Is(err, ErrNewerFormat) || errors.Is(err, errNeeded) {
				return fmt.Errorf("load metadata: %w", err)
			}
			s.log.Warn("metadata not loaded", "err", err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// watch follows the store until the watch ends, or until somebody finds that it
// is not to be believed.
func (s *Store) watch(ctx context.Context) error {
	if _, err := s.whereabouts(ctx); err != nil {
		return err // a watch of a store that was set back has nothing to tell
	}
	ctx, unwatch := context.WithCancelCause(ctx)
	defer unwatch(nil)
	s.mu.Lock()
	s.doubts.unwatch = unwatch
	s.mu.Unlock()
	err := s.follow(ctx, func() bool { return false })
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// follow applies what one watch yields until it ends, and says why it did, or
// until done. It needs the turn.
func (s *Store) follow(ctx context.Context, done func() bool) error {
	watch := kv.WatchRequest{Key: string(s.keys), End: kv.PrefixEnd(string(s.keys)), Revision: s.Image().Revision() + 1}
	for resp, err := range s.kv.Watch(ctx, watch) {
		if err != nil {
			return err
		}
		if len(resp.Events) > 0 && resp.Revision < s.Image().Revision() {
			return fmt.Errorf("%w: to revision %d from %d", errSetBack, resp.Revision, s.Image().Revision())
		}
		if len(resp.Events) > 0 {
			if err := s.applyEvents(ctx, resp); err != nil {
				return err
			}
		}
		s.sawUpTo(resp.Revision)
		if done() {
			return nil
		}
	}
	return ctx.Err()
}

func (s *Store) applyEvents(ctx context.Context, resp kv.WatchResponse) error {
	b := newBuilder(s.keys, s.Image())
	for _, e := range resp.Events {
		if err := b.apply(e); err != nil {
			if err = s.reject(ctx, err); err != nil {
				return err
			}
		}
	}
	s.metrics.events.Add(ctx, int64(len(resp.Events)))
	s.publish(b.build(resp.Revision))
	return nil
}

// errNeeded marks values without which nothing else can be understood.
var errNeeded = errors.New("a value that is needed")

// reject keeps the broker running on the last good value, or without one, after
// somebody wrote nonsense by hand. It returns the errors with which nobody may go
// on: a later release means something by its value, and without the cluster's id
// or the mark of a restore it is not known what all the others belong to.
func (s *Store) reject(ctx context.Context, err error) error {
	if errors.Is(err, ErrNewerFormat) || errors.Is(err, errNeeded) {
		return err
	}
	s.metrics.rejected.Add(ctx, 1)
	s.log.Error("metadata value ignored", "err", err)
	return nil
}

// reload reads everything anew.
func (s *Store) reload(ctx context.Context, from *Image) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	invalid, err := s.loadOver(ctx, from)
	errs := []error{err}
	for _, e := range invalid {
		errs = append(errs, s.reject(ctx, e))
	}
	return errors.Join(errs...)
}
