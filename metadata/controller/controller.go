package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
)

// Options are what a Controller needs.
type Options struct {
	Store *metadata.Store
	// Sessions returns the registration in force under which the broker
	// campaigns. It may change; with none, or one that ended, it waits.
	Sessions func() *metadata.Session
	// Unclean says whether a replica that is not in sync may lead a partition of
	// the topic if no in-sync one lives (unclean.leader.election.enable). Nil: never.
	Unclean func(topic string) bool
	// Purge removes the data of a deleted topic. It may say that it is not yet
	// time, or that not all is gone; it is then asked again. It must be safe to
	// be called twice, also by two brokers at once. Nil: there is no data.
	Purge func(ctx context.Context, t metadata.Tombstone) (done bool, err error)
	// PurgeInterval is the pause between two attempts, default 10 s.
	PurgeInterval time.Duration
	// CreateTimeout is the age at which the creation of a topic counts as given
	// up, default 5 min.
	CreateTimeout time.Duration
	// BalanceInterval is the pause between checks whether leadership is to go
	// back to preferred leaders, default 5 min (Kafka's
	// leader.imbalance.check.interval.seconds); negative: never.
	BalanceInterval time.Duration
	Logger          *slog.Logger
	Meter           metric.Meter
}

// Controller takes part in the election and, when elected, decides.
type Controller struct {
	o       Options
	metrics *metrics
	active  atomic.Bool
}

// New checks the options. Run does the work.
func New(o Options) (*Controller, error) {
	if o.Store == nil || o.Sessions == nil {
		return nil, errors.New("controller: a store and its sessions are required")
	}
	if o.Purge == nil {
		o.Purge = func(context.Context, metadata.Tombstone) (bool, error) { return true, nil }
	}
	if o.PurgeInterval == 0 {
		o.PurgeInterval = 10 * time.Second
	}
	if o.CreateTimeout == 0 {
		o.CreateTimeout = 5 * time.Minute
	}
	if o.BalanceInterval == 0 {
		o.BalanceInterval = 5 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Controller{o: o}
	var err error
	if c.metrics, err = newMetrics(o.Meter, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Active says whether this broker believes to be the controller.
func (c *Controller) Active() bool { return c.active.Load() }

const (
	// retryAfter is the pause after a write that failed or came too late, and
	// between looks at whether there is a session.
	retryAfter = 100 * time.Millisecond
	// reviewInterval is how often all is planned for and not only what changed:
	// what Unclean says may change without a change of the image.
	reviewInterval = 10 * time.Second
)

// Run campaigns and decides until ctx ends, one term after the other. It needs
// Store.Run. A term ends with the session it was won under; the broker campaigns
// again under the next.
func (c *Controller) Run(ctx context.Context) error {
	wake, stop := c.o.Store.Watch()
	defer stop()
	for ctx.Err() == nil {
		session := c.session()
		if session != nil {
			term, err := c.campaign(ctx, session)
			if err != nil && ctx.Err() == nil {
				c.o.Logger.Warn("no campaign for controller", "err", err)
			}
			if term != nil {
				c.serve(ctx, session, term)
				continue
			}
		}
		var again <-chan time.Time
		if session == nil || c.o.Store.Image().Controller() == metadata.NoBroker {
			again = time.After(retryAfter)
		}
		var ended <-chan struct{}
		if session != nil {
			ended = session.Done()
		}
		select {
		case <-wake:
		case <-again:
		case <-ended:
		case <-ctx.Done():
		}
	}
	return nil
}

// session is the one to campaign under: nil if there is none that lasts, or if
// the broker is no candidate.
func (c *Controller) session() *metadata.Session {
	s := c.o.Sessions()
	if s == nil || !s.Broker().Holds() {
		return nil
	}
	select {
	case <-s.Done():
		return nil
	default:
		return s
	}
}

// campaign asks only if there is no controller, or if it is this session's
// broker, whose election was answered too late.
func (c *Controller) campaign(ctx context.Context, session *metadata.Session) (*metadata.Term, error) {
	im := c.o.Store.Image()
	if now := im.Controller(); now != metadata.NoBroker && now != session.Broker().ID {
		return nil, nil
	}
	return c.o.Store.Campaign(ctx, session)
}

// serve is one term.
func (c *Controller) serve(ctx context.Context, session *metadata.Session, term *metadata.Term) {
	c.o.Logger.Info("elected controller", "broker", session.Broker().ID, "epoch", term.Epoch)
	c.active.Store(true)
	defer c.active.Store(false)
	g, termCtx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.decideLoop(termCtx, term) })
	g.Go(func() error { return c.purgeLoop(termCtx, term) })
	g.Go(func() error {
		select {
		case <-session.Done():
			return errSessionEnded
		case <-termCtx.Done():
			return termCtx.Err()
		}
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		c.o.Logger.Info("controller term ended", "epoch", term.Epoch, "err", err)
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := term.Resign(bounded); err != nil {
		c.o.Logger.Debug("controller did not resign", "err", err)
	}
}

// What ends a term.
var (
	errDeposed      = errors.New("no longer the controller")
	errSessionEnded = errors.New("the session ended")
)

// current returns the image while the term lasts.
func (c *Controller) current(term *metadata.Term) (*metadata.Image, error) {
	im := c.o.Store.Image()
	// An image that is older than the election does not know of it yet.
	if im.Revision() >= term.Epoch && im.ControllerEpoch() != term.Epoch {
		return nil, errDeposed
	}
	return im, nil
}

// decideLoop plans at each change of the image, looking only at what changed.
func (c *Controller) decideLoop(ctx context.Context, term *metadata.Term) error {
	wake, stop := c.o.Store.Watch()
	defer stop()
	balance, review := newTicker(c.o.BalanceInterval), newTicker(reviewInterval)
	defer balance.stop()
	defer review.stop()
	if err := c.o.Store.WaitRevision(ctx, term.Epoch); err != nil {
		return err
	}
	var done *metadata.Image // all decisions up to this image are made
	var missed []metadata.BrokerID
	for {
		im, err := c.current(term)
		if err != nil {
			return err
		}
		err = c.write(ctx, term, planSince(im, done, c.o.Unclean))
		var again <-chan time.Time
		switch {
		case err == nil:
			done = im
		case errors.Is(err, metadata.ErrFenced):
			return errDeposed
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			done, again = nil, time.After(retryAfter) // look at all again
			c.o.Logger.Warn("leader elections not made", "retry", retryAfter, "err", err)
		}
		select {
		case <-wake:
		case <-again:
		case <-review.c:
			done = nil
			if n, brokers := awaited(im); n > 0 && !slices.Equal(brokers, missed) {
				missed = brokers
				c.o.Logger.Warn("restored partitions wait for their brokers to say what is on their disks", "partitions", n, "brokers", brokers,
					"hint", "start them; if their disks are lost, give them up with an unclean election (kafka-leader-election.sh --election-type unclean)")
			}
		case <-balance.c:
			if err := c.write(ctx, term, Prefer(c.o.Store.Image())); err != nil && ctx.Err() == nil {
				c.o.Logger.Warn("preferred leaders not elected", "err", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// planSince plans for what differs from an image for which all was decided.
func planSince(im, done *metadata.Image, unclean func(topic string) bool) []metadata.PartitionChange {
	if done == nil || !sameBrokers(im.Brokers(), done.Brokers()) || !maps.Equal(im.DefaultBrokerConfig(), done.DefaultBrokerConfig()) {
		return Plan(im, unclean, im.Topics()...)
	}
	var topics []*metadata.Topic
	for c := range im.ChangedTopics(done) {
		if c.New != nil {
			topics = append(topics, c.New)
		}
	}
	for name := range im.ChangedTopicConfigs(done) { // unclean may be allowed now
		if t, ok := im.Topic(name); ok && !slices.Contains(topics, t) {
			topics = append(topics, t)
		}
	}
	return Plan(im, unclean, topics...)
}

func sameBrokers(a, b []metadata.Broker) bool {
	return slices.EqualFunc(a, b, func(x, y metadata.Broker) bool {
		return x.ID == y.ID && x.Epoch == y.Epoch && x.Draining == y.Draining
	})
}

// write makes the changes. A partition that changed meanwhile is no error: its
// change is in a coming image, which is planned for.
func (c *Controller) write(ctx context.Context, term *metadata.Term, changes []metadata.PartitionChange) error {
	if len(changes) == 0 {
		return nil
	}
	start := time.Now()
	var failed error
	var elected, unclean, conflicts int64
	for i, err := range term.AlterPartitions(ctx, changes) {
		c := changes[i]
		if err == nil && c.To.Leader != metadata.NoBroker && !slices.Contains(c.From.ISR, c.To.Leader) {
			unclean++
		}
		switch {
		case err == nil && c.To.LeaderEpoch != c.From.LeaderEpoch:
			elected++
		case err == nil:
		case errors.Is(err, metadata.ErrConflict), errors.Is(err, metadata.ErrUnknownPartition):
			conflicts++
		default:
			failed = err
		}
	}
	c.metrics.elections.Add(ctx, elected)
	c.metrics.unclean.Add(ctx, unclean)
	c.metrics.conflicts.Add(ctx, conflicts)
	if failed != nil {
		return fmt.Errorf("elect leaders: %w", failed)
	}
	c.o.Logger.Info("leaders decided", "partitions", len(changes), "elected", elected, "unclean", unclean, "outdated", conflicts, "took", time.Since(start))
	return nil
}

// ticker is a time.Ticker that may never tick.
type ticker struct {
	c    <-chan time.Time
	stop func()
}

func newTicker(interval time.Duration) ticker {
	if interval <= 0 {
		return ticker{stop: func() {}}
	}
	t := time.NewTicker(interval)
	return ticker{t.C, t.Stop}
}
