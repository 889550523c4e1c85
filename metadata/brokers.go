package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// DefaultLeaseTTL is how long a broker that is not heard of stays registered.
const DefaultLeaseTTL = 3 * time.Second

// Registration is what a broker says of itself.
type Registration struct {
	ID          BrokerID
	Rack        string
	Listeners   []Listener
	DirectoryID string // of its data directory
	Incarnation string // of this run
	Role        string // "" or RoleReplay
	HTTP        string // HOST:PORT where other brokers reach its HTTP, "" for none
	LeaseTTL    time.Duration
}

// ErrBrokerIDTaken is wrapped by every *BrokerConflictError.
var ErrBrokerIDTaken = errors.New("broker id is taken")

// BrokerConflictError names the two brokers that want one id.
type BrokerConflictError struct {
	Registered, Refused Broker
}

// Error implements error.
func (e *BrokerConflictError) Error() string {
	return fmt.Sprintf("broker id %d is taken by the live broker %s; refused is %s: give one of them another node.id",
		e.Registered.ID, describeBroker(e.Registered), describeBroker(e.Refused))
}

// Unwrap makes errors.Is(err, ErrBrokerIDTaken) hold.
func (e *BrokerConflictError) Unwrap() error { return ErrBrokerIDTaken }

func describeBroker(b Broker) string {
	at := "without listeners"
	if len(b.Listeners) > 0 {
		at = fmt.Sprintf("at %s:%d", b.Listeners[0].Host, b.Listeners[0].Port)
	}
	return fmt.Sprintf("%s with data directory %s (incarnation %s)", at, b.DirectoryID, b.Incarnation)
}

// Session is a broker's registration for as long as its lease lives.
type Session struct {
	// Epoch is Kafka's broker epoch: the revision that made this registration.
	Epoch  int64
	store  *Store
	lease  *kv.Lease
	broker Broker
}

// Done is closed when the registration is known to be gone: the lease ran out,
// or the same data directory registered again. While the key-value store does
// not answer it stays open, see Confirmed.
func (s *Session) Done() <-chan struct{} { return s.lease.Done() }

// Confirmed is when the last renewal that was answered was sent, and the time
// to live it bought: before Confirmed + ttl nobody else was told that this broker
// is gone.
func (s *Session) Confirmed() (at time.Time, ttl time.Duration) {
	return s.lease.Confirmed(), s.lease.TTL()
}

// Broker is what was registered.
func (s *Session) Broker() Broker { return s.broker }

// Close takes the registration back at once.
func (s *Session) Close(ctx context.Context) error {
	if err := s.lease.Close(ctx); err != nil {
		return fmt.Errorf("unregister broker %d: %w", s.broker.ID, err)
	}
	return nil
}

// Abandon stops renewing without a word, as a crash does. The registration ends
// with its lease.
func (s *Session) Abandon() { s.lease.Abandon() }

// Drain marks the broker as one that wants to give its leaderships away, the
// first step of a controlled shutdown. ErrFenced if the registration is gone.
func (s *Session) Drain(ctx context.Context) error {
	b, key := s.broker, s.store.keys.broker(s.broker.ID)
	b.Draining = true
	resp, err := s.store.txn(ctx, "drain-broker", kv.Txn{
		If:   []kv.Cmp{kv.CreatedAt(key, s.Epoch)},
		Then: []kv.Op{kv.Put(key, encode(b), s.lease.ID())},
	})
	switch {
	case err != nil:
		return fmt.Errorf("drain broker %d: %w", b.ID, err)
	case !resp.Succeeded:
		return fmt.Errorf("drain broker %d: %w: it is no longer registered", b.ID, ErrFenced)
	}
	s.store.settle(ctx, resp.Revision)
	return nil
}

// RegisterBroker makes the broker known and live. A process whose Session ended
// calls it again, with the same incarnation.
//
// If the id is taken by another data directory it returns a *BrokerConflictError.
// If the same data directory is registered, that is what is left of a crashed run,
// or of this run: it is ended and replaced. But a run that was registered before
// does not fight with another one over the directory: it is refused.
//
// If the id was last registered with another data directory, what it held is
// lost: it is taken out of all in-sync replicas, which may leave none, before it
// is registered. A crash meanwhile leaves nothing that the next try does not mend.
func (s *Store) RegisterBroker(ctx context.Context, r Registration) (*Session, error) {
	session, err := s.register(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("register broker %d: %w", r.ID, err)
	}
	return session, nil
}

func (s *Store) register(ctx context.Context, r Registration) (*Session, error) {
	switch {
	case r.ID < 0:
		return nil, fmt.Errorf("broker id %d is negative", r.ID)
	case r.DirectoryID == "" || r.Incarnation == "":
		return nil, errors.New("directory id and incarnation are required")
	case r.Role != "" && r.Role != RoleReplay:
		return nil, fmt.Errorf("role %q: want none or %q", r.Role, RoleReplay)
	}
	if r.LeaseTTL == 0 {
		r.LeaseTTL = DefaultLeaseTTL
	}
	lease, err := s.grant(ctx, r.LeaseTTL)
	if err != nil {
		return nil, err
	}
	b := Broker{ID: r.ID, Rack: r.Rack, Listeners: r.Listeners, Incarnation: r.Incarnation, DirectoryID: r.DirectoryID, Role: r.Role, HTTP: r.HTTP}
	if b.Epoch, err = s.putBroker(ctx, b, lease.ID()); err != nil {
		lease.Abandon()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if closeErr := lease.Close(bounded); closeErr != nil {
			s.log.Debug("lease left to expire", "err", closeErr)
		}
		return nil, err
	}
	s.mu.Lock()
	s.registered[b.ID] = b.Incarnation
	s.mu.Unlock()
	s.settle(ctx, b.Epoch)
	return &Session{Epoch: b.Epoch, store: s, lease: lease, broker: b}, nil
}

func (s *Store) grant(ctx context.Context, ttl time.Duration) (*kv.Lease, error) {
	start := time.Now()
	lease, err := kv.StartLease(ctx, s.kv, ttl, s.log)
	s.metrics.observe(ctx, "grant-lease", start, err)
	s.metrics.wrote(ctx, "grant-lease", err == nil)
	return lease, err
}

// putBroker creates the broker's key and returns its create revision.
func (s *Store) putBroker(ctx context.Context, b Broker, lease kv.LeaseID) (int64, error) {
	broker, node := s.keys.broker(b.ID), s.keys.node(b.ID)
	look := []kv.Op{kv.Get(broker, ""), kv.Get(node, "")}
	for {
		resp, err := s.txn(ctx, "read-broker", kv.Txn{Then: look})
		if err != nil {
			return 0, err
		}
		if len(resp.Gets[0]) > 0 {
			epoch, err := s.replaceBroker(ctx, resp.Gets[0][0], b, lease)
			if epoch != 0 || err != nil {
				return epoch, err
			}
			continue
		}
		next := b.node(time.Now())
		held := []kv.Cmp{kv.Absent(broker), kv.Absent(node)}
		if len(resp.Gets[1]) > 0 {
			held[1] = kv.Unchanged(node, resp.Gets[1][0].ModRevision)
			last, err := decode[Node](kv.Event{KV: resp.Gets[1][0]})
			if err != nil {
				return 0, fmt.Errorf("key %q: %w", node, err)
			}
			next.Kept = last.Kept
			if last.DirectoryID == b.DirectoryID {
				next.Since = last.Since
			} else if err := s.loseReplicas(ctx, b.ID, held); errors.Is(err, ErrFenced) {
				continue // somebody registers the id at the same time
			} else if err != nil {
				return 0, err
			}
		}
		// The node's key is written each time, so that no registration in between
		// goes unseen by held.
		resp, err = s.txn(ctx, "register-broker", kv.Txn{
			If:   held,
			Then: []kv.Op{kv.Put(broker, encode(b), lease), kv.Put(node, encode(next), 0)},
		})
		if err != nil {
			return 0, err
		}
		if resp.Succeeded {
			return resp.Revision, nil
		}
	}
}

// node is what is remembered of the broker.
func (b Broker) node(now time.Time) Node {
	n := Node{ID: b.ID, DirectoryID: b.DirectoryID, Rack: b.Rack, Role: b.Role, Since: now.UTC().Truncate(time.Millisecond)}
	if len(b.Listeners) > 0 {
		n.Host, n.Port = b.Listeners[0].Host, b.Listeners[0].Port
	}
	return n
}

// replaceBroker makes room for a broker whose id is registered, or returns the
// epoch if it is this registration.
func (s *Store) replaceBroker(ctx context.Context, old kv.KeyValue, b Broker, lease kv.LeaseID) (int64, error) {
	registered, err := decode[Broker](kv.Event{KV: old})
	if err != nil {
		return 0, fmt.Errorf("key %q: %w", old.Key, err)
	}
	same := registered.Incarnation == b.Incarnation
	s.mu.Lock()
	again := s.registered[b.ID] == b.Incarnation
	s.mu.Unlock()
	switch {
	case registered.DirectoryID != b.DirectoryID, again && !same:
		return 0, &BrokerConflictError{Registered: registered, Refused: b}
	case same && old.Lease == lease:
		return old.CreateRevision, nil // ours: an answer was lost
	}
	if err := s.takeOver(ctx, old); err != nil {
		return 0, err
	}
	s.log.Info("took over the registration of a former run", "broker", b.ID, "incarnation", registered.Incarnation)
	return 0, nil
}

// takeOver ends a registration of the same data directory. Its lease goes with
// it, so that a former run that is alive after all learns it.
func (s *Store) takeOver(ctx context.Context, old kv.KeyValue) error {
	_, err := s.txn(ctx, "take-over-broker", kv.Txn{
		If:   []kv.Cmp{kv.Unchanged(old.Key, old.ModRevision)},
		Then: []kv.Op{kv.Delete(old.Key, "")},
	})
	if err != nil || old.Lease == 0 {
		return err
	}
	if err := s.kv.Revoke(ctx, old.Lease); err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
		return err
	}
	return nil
}
