package kv

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (s *memServer) txn(t Txn) (TxnResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := t.check(s.maxOps); err != nil {
		return TxnResponse{}, err
	}
	for _, ops := range [][]Op{t.Then, t.Else} {
		if err := checkOps(ops); err != nil {
			return TxnResponse{}, err
		}
	}
	ops, ok := t.Then, true
	for _, c := range t.If {
		if !s.holdsLocked(c) {
			ops, ok = t.Else, false
			break
		}
	}
	for _, op := range ops {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return TxnResponse{}, fmt.Errorf("%w: %d", ErrLeaseNotFound, op.Lease)
		}
	}
	gets, wrote := s.applyLocked(ops)
	if wrote {
		s.committedLocked()
	}
	return TxnResponse{Succeeded: ok, Revision: s.rev, Gets: gets}, nil
}

// checkOps refuses what etcd refuses, whether the operations come to be applied
// or not: a key written twice.
func checkOps(ops []Op) error {
	puts := map[string]bool{}
	for _, op := range ops {
		if op.Key == "" {
			return fmt.Errorf("empty key in transaction")
		}
		if op.Kind != OpPut {
			continue
		}
		if puts[op.Key] {
			return fmt.Errorf("key %q is written twice in one transaction", op.Key)
		}
		puts[op.Key] = true
	}
	for _, op := range ops {
		if op.Kind != OpDelete {
			continue
		}
		for key := range puts {
			if inRange(key, op.Key, op.End) {
				return fmt.Errorf("key %q is written and deleted in one transaction", key)
			}
		}
	}
	return nil
}

func (s *memServer) holdsLocked(c Cmp) bool {
	var have int64
	if kv, ok := s.atLocked(c.Key, s.rev); ok {
		have = kv.ModRevision
		if c.Target == CreateRevision {
			have = kv.CreateRevision
		}
	}
	if c.Result == Greater {
		return have > c.Revision
	}
	return have == c.Revision
}

// applyLocked writes at revision s.rev+1, which committedLocked then publishes.
func (s *memServer) applyLocked(ops []Op) (gets [][]KeyValue, wrote bool) {
	gets = make([][]KeyValue, len(ops))
	for i, op := range ops {
		switch op.Kind {
		case OpGet:
			gets[i] = slices.Collect(s.scanLocked(op.Key, op.End, s.rev+1))
		case OpPut:
			s.putLocked(op)
			wrote = true
		case OpDelete:
			for _, kv := range slices.Collect(s.scanLocked(op.Key, op.End, s.rev+1)) {
				s.deleteLocked(kv)
				wrote = true
			}
		}
	}
	return gets, wrote
}

func (s *memServer) putLocked(op Op) {
	rev := s.rev + 1
	kv := KeyValue{Key: op.Key, Value: slices.Clone(op.Value), CreateRevision: rev, ModRevision: rev, Lease: op.Lease}
	if old, ok := s.atLocked(op.Key, rev); ok {
		kv.CreateRevision = old.CreateRevision
		s.detachLocked(old)
	}
	if l := s.leases[op.Lease]; l != nil {
		l.keys[op.Key] = true
	}
	if _, known := s.keys[op.Key]; !known {
		i, _ := slices.BinarySearch(s.sorted, op.Key)
		s.sorted = slices.Insert(s.sorted, i, op.Key)
	}
	s.keys[op.Key] = append(s.keys[op.Key], memVersion{kv: kv})
	s.events = append(s.events, Event{KV: kv})
}

func (s *memServer) deleteLocked(old KeyValue) {
	s.detachLocked(old)
	kv := KeyValue{Key: old.Key, ModRevision: s.rev + 1}
	s.keys[old.Key] = append(s.keys[old.Key], memVersion{kv: kv, deleted: true})
	s.events = append(s.events, Event{Deleted: true, KV: kv})
}

func (s *memServer) detachLocked(old KeyValue) {
	if l := s.leases[old.Lease]; l != nil {
		delete(l.keys, old.Key)
	}
}

func (s *memServer) committedLocked() {
	s.rev++
	if s.rev-s.compacted > 2*int64(s.history) {
		s.compactLocked(s.rev - int64(s.history))
	}
	close(s.grew)
	s.grew = make(chan struct{})
}

// grant rounds up to whole seconds, as etcd's leases are.
func (s *memServer) grant(ttl time.Duration) (LeaseID, time.Duration, error) {
	if ttl <= 0 {
		return 0, 0, fmt.Errorf("lease time to live %s: want more than 0", ttl)
	}
	ttl = (ttl + time.Second - 1) / time.Second * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastLease++
	id := s.lastLease
	s.leases[id] = &memLease{
		ttl: ttl, expires: time.Now().Add(ttl), keys: map[string]bool{},
		timer: time.AfterFunc(ttl, func() { s.expire(id) }),
	}
	return id, ttl, nil
}

func (s *memServer) keepAlive(id LeaseID) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return 0, fmt.Errorf("%w: %d", ErrLeaseNotFound, id)
	}
	l.expires = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
	return l.ttl, nil
}

func (s *memServer) expire(id LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The timer may have fired while a renewal held the lock.
	if l := s.leases[id]; l != nil && !time.Now().Before(l.expires) {
		s.endLeaseLocked(id, l)
	}
}

func (s *memServer) revoke(id LeaseID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return fmt.Errorf("%w: %d", ErrLeaseNotFound, id)
	}
	s.endLeaseLocked(id, l)
	return nil
}

func (s *memServer) endLeaseLocked(id LeaseID, l *memLease) {
	l.timer.Stop()
	delete(s.leases, id)
	keys := slices.Sorted(maps.Keys(l.keys))
	for _, key := range keys {
		if kv, ok := s.atLocked(key, s.rev); ok {
			s.deleteLocked(kv)
		}
	}
	if len(keys) > 0 {
		s.committedLocked()
	}
}
