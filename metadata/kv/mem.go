package kv

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Mem is one client's view of a store in memory. Views of one store see the
// same keys; each has its own hook, so that one broker can be cut off.
type Mem struct {
	srv    *memServer
	before Hook
	closed chan struct{}
	once   sync.Once
	asked  atomic.Int64 // how often for progress
}

// Call says what a Hook is asked about.
type Call struct {
	Kind  CallKind
	Key   string // first key concerned, if any
	After bool   // the operation was applied, its answer is on the way
}

// CallKind is an operation of KV, or the delivery of events to a watch.
type CallKind string

// The kinds of Call.
const (
	CallRange     CallKind = "range"
	CallTxn       CallKind = "txn"
	CallWatch     CallKind = "watch" // opening one
	CallEvents    CallKind = "events"
	CallProgress  CallKind = "progress"
	CallGrant     CallKind = "grant"
	CallKeepAlive CallKind = "keep-alive"
	CallRevoke    CallKind = "revoke"
)

// Hook is called before and after each operation. It may wait, which delays the
// operation; an error replaces the operation, or, after it, its answer. Such
// errors should wrap ErrUnavailable, as a lost connection does.
type Hook func(ctx context.Context, c Call) error

// MemOptions are the limits of a store in memory.
type MemOptions struct {
	MaxTxnOps int // default DefaultMaxTxnOps
	History   int // revisions kept for watches and old reads; default 10000
}

// NewMem returns an empty store.
func NewMem() *Mem { return NewMemWith(MemOptions{}) }

// NewMemWith returns an empty store with other limits.
func NewMemWith(o MemOptions) *Mem {
	srv := &memServer{
		maxOps: cmp.Or(o.MaxTxnOps, DefaultMaxTxnOps), history: cmp.Or(o.History, 10_000),
		rev:  1, // as etcd's first
		keys: map[string][]memVersion{}, leases: map[LeaseID]*memLease{}, grew: make(chan struct{}),
	}
	return srv.client(nil)
}

// Client returns another view of the same store whose operations pass hook.
func (m *Mem) Client(hook Hook) *Mem { return m.srv.client(hook) }

func (s *memServer) client(hook Hook) *Mem {
	return &Mem{srv: s, before: hook, closed: make(chan struct{})}
}

// Close ends the watches of this view; other views go on.
func (m *Mem) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// MaxTxnOps implements KV.
func (m *Mem) MaxTxnOps() int { return m.srv.maxOps }

// Size implements Sizer: as large as the keys and values that are there, within the quota of an embedded member.
func (m *Mem) Size(context.Context) (Size, error) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var n int64
	for key, versions := range m.srv.keys {
		for _, v := range versions {
			n += int64(len(key) + len(v.kv.Value))
		}
	}
	return Size{Bytes: n, InUse: n, Quota: defaultQuotaBytes}, nil
}

// call runs one operation between the two calls of the hook.
func (m *Mem) call(ctx context.Context, c Call, do func() error) error {
	if err := m.ask(ctx, c); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	c.After = true
	return m.ask(ctx, c)
}

func (m *Mem) ask(ctx context.Context, c Call) error {
	select {
	case <-m.closed:
		return ErrClosed
	default:
	}
	if m.before != nil {
		if err := m.before(ctx, c); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Range implements KV.
func (m *Mem) Range(ctx context.Context, r RangeRequest) (resp RangeResponse, err error) {
	err = m.call(ctx, Call{Kind: CallRange, Key: r.Key}, func() (err error) {
		resp, err = m.srv.rangeKeys(r)
		return err
	})
	return resp, err
}

// Txn implements KV.
func (m *Mem) Txn(ctx context.Context, t Txn) (resp TxnResponse, err error) {
	c := Call{Kind: CallTxn}
	switch {
	case len(t.Then) > 0:
		c.Key = t.Then[0].Key
	case len(t.If) > 0:
		c.Key = t.If[0].Key
	}
	err = m.call(ctx, c, func() (err error) {
		resp, err = m.srv.txn(t)
		return err
	})
	return resp, err
}

// Grant implements KV.
func (m *Mem) Grant(ctx context.Context, ttl time.Duration) (id LeaseID, granted time.Duration, err error) {
	err = m.call(ctx, Call{Kind: CallGrant}, func() (err error) {
		id, granted, err = m.srv.grant(ttl)
		return err
	})
	return id, granted, err
}

// KeepAlive implements KV.
func (m *Mem) KeepAlive(ctx context.Context, id LeaseID) (ttl time.Duration, err error) {
	err = m.call(ctx, Call{Kind: CallKeepAlive}, func() (err error) {
		ttl, err = m.srv.keepAlive(id)
		return err
	})
	return ttl, err
}

// Revoke implements KV.
func (m *Mem) Revoke(ctx context.Context, id LeaseID) error {
	return m.call(ctx, Call{Kind: CallRevoke}, func() error { return m.srv.revoke(id) })
}

// RequestProgress implements KV.
func (m *Mem) RequestProgress(ctx context.Context) error {
	return m.call(ctx, Call{Kind: CallProgress}, func() error {
		m.asked.Add(1)
		m.srv.wake()
		return nil
	})
}

// Watch implements KV.
func (m *Mem) Watch(ctx context.Context, w WatchRequest) iter.Seq2[WatchResponse, error] {
	return func(yield func(WatchResponse, error) bool) {
		err := m.ask(ctx, Call{Kind: CallWatch, Key: w.Key})
		next := w.Revision
		if next == 0 {
			next = m.srv.revision() + 1
		}
		told := m.asked.Load()
		for err == nil {
			asked := m.asked.Load()
			events, upTo, grew, readErr := m.srv.eventsFrom(w, next)
			switch {
			case readErr != nil:
				err = readErr
			case len(events) > 0:
				if err = m.ask(ctx, Call{Kind: CallEvents, Key: w.Key}); err == nil {
					next = upTo + 1
					if !yield(WatchResponse{Events: events, Revision: upTo}, nil) {
						return
					}
				}
			case asked != told:
				told, next = asked, max(next, upTo+1)
				if err = m.ask(ctx, Call{Kind: CallEvents, Key: w.Key}); err == nil && !yield(WatchResponse{Revision: upTo}, nil) {
					return
				}
			default:
				next = max(next, upTo+1)
				select {
				case <-grew:
				case <-ctx.Done():
					err = ctx.Err()
				case <-m.closed:
					err = ErrClosed
				}
			}
		}
		if ctx.Err() == nil {
			yield(WatchResponse{}, err)
		}
	}
}

// memServer is the store that views share.
type memServer struct {
	maxOps, history int

	mu        sync.Mutex
	rev       int64
	compacted int64 // revisions below it are gone
	keys      map[string][]memVersion
	sorted    []string // keys of keys, in order
	events    []Event  // by revision, from compacted on
	leases    map[LeaseID]*memLease
	lastLease LeaseID
	grew      chan struct{} // closed and replaced with each revision
}

// memVersion is a key from its ModRevision up to the next version's.
type memVersion struct {
	kv      KeyValue
	deleted bool
}

type memLease struct {
	ttl     time.Duration
	expires time.Time
	timer   *time.Timer
	keys    map[string]bool
}

// wake has all watches look again.
func (s *memServer) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grew)
	s.grew = make(chan struct{})
}

func (s *memServer) revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

// Compact forgets what was superseded before revision, as etcd's Compact.
func (m *Mem) Compact(revision int64) {
	s := m.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactLocked(min(revision, s.rev))
}

func (s *memServer) compactLocked(revision int64) {
	if revision <= s.compacted {
		return
	}
	s.compacted = revision
	i, _ := slices.BinarySearchFunc(s.events, revision, func(e Event, rev int64) int { return cmp.Compare(e.KV.ModRevision, rev) })
	s.events = slices.Clone(s.events[i:])
	s.sorted = slices.DeleteFunc(s.sorted, func(key string) bool {
		vs := s.keys[key]
		keep := 0 // the last version at or before revision is still readable
		for keep+1 < len(vs) && vs[keep+1].kv.ModRevision <= revision {
			keep++
		}
		if vs[keep].deleted && vs[keep].kv.ModRevision <= revision {
			keep++
		}
		if keep == len(vs) {
			delete(s.keys, key)
			return true
		}
		s.keys[key] = slices.Clone(vs[keep:])
		return false
	})
}

// atLocked returns the key as it was after revision.
func (s *memServer) atLocked(key string, revision int64) (KeyValue, bool) {
	vs := s.keys[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].kv.ModRevision <= revision {
			return vs[i].kv, !vs[i].deleted
		}
	}
	return KeyValue{}, false
}

func inRange(key, from, end string) bool {
	switch end {
	case "":
		return key == from
	case "\x00":
		return key >= from
	}
	return key >= from && key < end
}

func (s *memServer) scanLocked(from, end string, revision int64) iter.Seq[KeyValue] {
	return func(yield func(KeyValue) bool) {
		i, _ := slices.BinarySearch(s.sorted, from)
		for ; i < len(s.sorted) && inRange(s.sorted[i], from, end); i++ {
			if kv, ok := s.atLocked(s.sorted[i], revision); ok && !yield(kv.clone()) {
				return
			}
		}
	}
}

func (kv KeyValue) clone() KeyValue {
	kv.Value = slices.Clone(kv.Value)
	return kv
}

func (s *memServer) rangeKeys(r RangeRequest) (RangeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := RangeResponse{Revision: s.rev}
	at := cmp.Or(r.Revision, s.rev)
	switch {
	case at > s.rev:
		return RangeResponse{}, fmt.Errorf("%w: %d, the store is at %d", ErrFutureRevision, at, s.rev)
	case at < s.compacted:
		return RangeResponse{}, fmt.Errorf("%w: %d, kept from %d", ErrCompacted, at, s.compacted)
	}
	for kv := range s.scanLocked(r.Key, r.End, at) {
		if r.Limit > 0 && int64(len(resp.KVs)) == r.Limit {
			resp.More = true
			break
		}
		resp.KVs = append(resp.KVs, kv)
	}
	return resp, nil
}

func (s *memServer) eventsFrom(w WatchRequest, next int64) (events []Event, upTo int64, grew <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next < s.compacted {
		return nil, 0, nil, fmt.Errorf("%w: watch from %d, kept from %d", ErrCompacted, next, s.compacted)
	}
	i, _ := slices.BinarySearchFunc(s.events, next, func(e Event, rev int64) int { return cmp.Compare(e.KV.ModRevision, rev) })
	for _, e := range s.events[i:] {
		if inRange(e.KV.Key, w.Key, w.End) {
			events = append(events, Event{Deleted: e.Deleted, KV: e.KV.clone()})
		}
	}
	return events, s.rev, s.grew, nil
}
