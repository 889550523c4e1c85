package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Lease is a lease that is kept alive until it is closed or lost.
type Lease struct {
	kv        KV
	id        LeaseID
	ttl       time.Duration
	confirmed atomic.Pointer[time.Time]
	lost      chan struct{} // closed by the keeper when the store says that the lease is gone
	stop      context.CancelFunc
	stopped   chan struct{} // closed when the keeper has returned
}

// StartLease grants a lease of at least ttl and keeps it alive until Close or
// Abandon. ctx bounds the grant only.
func StartLease(ctx context.Context, kv KV, ttl time.Duration, log *slog.Logger) (*Lease, error) {
	asked := time.Now()
	id, granted, err := kv.Grant(ctx, ttl)
	if err != nil {
		return nil, fmt.Errorf("grant lease of %s: %w", ttl, err)
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Lease{kv: kv, id: id, ttl: granted, lost: make(chan struct{}), stop: stop, stopped: make(chan struct{})}
	l.confirmed.Store(&asked)
	go func() {
		defer close(l.stopped)
		l.keep(keep, log)
	}()
	return l, nil
}

// ID is the lease's name in the store.
func (l *Lease) ID() LeaseID { return l.id }

// TTL is the time to live that the store granted.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Confirmed is when the last renewal that the store confirmed was sent: up to
// Confirmed + TTL nobody can have seen the lease expire.
func (l *Lease) Confirmed() time.Time { return *l.confirmed.Load() }

// Done is closed when the store said that the lease is gone. While the store
// does not answer it stays open: etcd extends all leases when it elects a leader.
func (l *Lease) Done() <-chan struct{} { return l.lost }

// Close revokes the lease, so that its keys go now, and stops keeping it. After
// an error the lease ends by itself within its time to live.
func (l *Lease) Close(ctx context.Context) error {
	l.Abandon()
	err := l.kv.Revoke(ctx, l.id)
	if err != nil && !errors.Is(err, ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// Abandon stops keeping the lease without a word to the store, as a crash does.
func (l *Lease) Abandon() {
	l.stop()
	<-l.stopped
}

// keep renews at a third of the time to live, and sooner after an error. A
// renewal that is not answered does not hold up the next: etcd may be slow, or
// the member that was asked gone.
func (l *Lease) keep(ctx context.Context, log *slog.Logger) {
	interval, again := l.ttl/3, l.ttl/10
	answers := make(chan renewal)
	under := 0 // renewals under way
	defer func() {
		for ; under > 0; under-- {
			<-answers // ctx has ended: they end too
		}
	}()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			under++
			go func() { answers <- l.renew(ctx) }()
			timer.Reset(interval)
			continue
		case r := <-answers:
			under--
			switch {
			case r.err == nil:
				if r.sent.After(l.Confirmed()) {
					l.confirmed.Store(&r.sent)
				}
				if failing {
					log.Info("lease renewed again", "lease", int64(l.id))
				}
				failing = false
				continue
			case ctx.Err() != nil:
				return
			case errors.Is(r.err, ErrLeaseNotFound):
				log.Warn("lease lost", "lease", int64(l.id), "since", time.Since(l.Confirmed()))
				close(l.lost)
				return
			case !failing: // once, not every third of a second while etcd is away
				log.Warn("lease not renewed", "lease", int64(l.id), "since", time.Since(l.Confirmed()), "err", r.err)
			}
			failing = true
			if under == 0 { // else the timer does it
				timer.Reset(again)
			}
		}
	}
}

// renewal is one attempt.
type renewal struct {
	sent time.Time
	err  error
}

func (l *Lease) renew(ctx context.Context) renewal {
	ctx, cancel := context.WithTimeout(ctx, l.ttl)
	defer cancel()
	sent := time.Now()
	_, err := l.kv.KeepAlive(ctx, l.id)
	return renewal{sent: sent, err: err}
}
