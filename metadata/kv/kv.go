// Package kv is the part of etcd's model that the cluster needs: ranges,
// compare-and-write transactions, watches from a revision, and leases.
//
// It hides which etcd that is. [Dial] talks to an external cluster,
// [StartEmbedded] runs a member in this process, and [Mem] is the same model in
// memory, on the clock of package time, so that a whole cluster runs in one
// testing/synctest bubble. All three pass one contract test.
//
// Model: every transaction that writes makes one new revision. A key has the
// revision that created it and the revision that changed it last. A watch from a
// revision sees each change once, in order, and never half a revision.
package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Errors that callers test for. Any other error is the caller's mistake.
var (
	// ErrCompacted means that the revision asked for is no longer kept: read anew.
	ErrCompacted = errors.New("revision compacted")
	// ErrFutureRevision means that the store has not come to the revision asked for.
	ErrFutureRevision = errors.New("revision is in the future")
	// ErrLeaseNotFound means that the lease expired or was revoked.
	ErrLeaseNotFound = errors.New("lease not found")
	// ErrTooManyOps means that a transaction is larger than [KV.MaxTxnOps].
	ErrTooManyOps = errors.New("too many operations in one transaction")
	// ErrUnavailable means that the answer did not come. A write may or may not
	// have been made.
	ErrUnavailable = errors.New("key-value store unavailable")
	// ErrNoSpace means that the store reached its quota and refuses writes.
	ErrNoSpace = errors.New("key-value store out of space")
	// ErrAccess means that the store refused the credentials.
	ErrAccess = errors.New("key-value store refused access")
	// ErrClosed means that the KV was closed.
	ErrClosed = errors.New("key-value store closed")
)

// DefaultMaxTxnOps is what an etcd server accepts unless it is told otherwise
// (--max-txn-ops).
const DefaultMaxTxnOps = 128

// KV is the seam to etcd. It is safe for concurrent use.
type KV interface {
	// Range returns the keys of [Key, End) in order, or the one key.
	Range(ctx context.Context, r RangeRequest) (RangeResponse, error)
	// Txn applies Then if all of If hold, else Else, atomically.
	Txn(ctx context.Context, t Txn) (TxnResponse, error)
	// Watch yields all changes at or after w.Revision until ctx ends, then it
	// returns without an error. Another end is one last error: ErrCompacted, or
	// ErrUnavailable, after which the caller watches again from the revision
	// after the last it saw.
	Watch(ctx context.Context, w WatchRequest) iter.Seq2[WatchResponse, error]
	// RequestProgress has the watches of this KV that are not behind say how far
	// they are, as other keys' changes move on: each yields a response without
	// events.
	RequestProgress(ctx context.Context) error
	// Grant makes a lease and returns the time to live the store gave it, which
	// may be longer than asked for. [StartLease] is the way to keep one.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error)
	// KeepAlive renews a lease for another time to live, which it returns.
	KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error)
	// Revoke ends a lease and deletes its keys in one revision.
	Revoke(ctx context.Context, id LeaseID) error
	// MaxTxnOps is the largest length of each of Txn's three lists.
	MaxTxnOps() int
	// Close ends all watches and lets go of connections. The leases live on
	// until they expire.
	Close() error
}

// LeaseID names a lease; 0 is none.
type LeaseID int64

// KeyValue is one key at one revision. Value is the receiver's.
type KeyValue struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Lease          LeaseID
}

// RangeRequest asks for [Key, End), or for Key alone where End is empty.
type RangeRequest struct {
	Key, End string
	Limit    int64 // 0 = all
	Revision int64 // 0 = now; else the state after that revision
}

// RangeResponse is the answer to a RangeRequest.
type RangeResponse struct {
	KVs      []KeyValue
	Revision int64 // of the store when it answered
	More     bool  // Limit left keys out
}

// PrefixEnd returns the End that makes [prefix, End) all keys with that prefix.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return "\x00" // etcd's "all keys from Key on"
}

// Txn is one atomic decision and change. No key may be written twice in it.
type Txn struct {
	If         []Cmp
	Then, Else []Op
}

// TxnResponse is the outcome of a Txn.
type TxnResponse struct {
	Succeeded bool
	Revision  int64        // of this transaction if it wrote, else of the store
	Gets      [][]KeyValue // by index into Then or Else, whichever was applied; set for Get ops
}

// Cmp is a condition on a key's revisions; an absent key has revision 0.
type Cmp struct {
	Key      string
	Target   CmpTarget
	Result   CmpResult
	Revision int64
}

// CmpTarget says which revision of a key a Cmp looks at.
type CmpTarget uint8

// CmpResult says how the key's revision must relate to the given one.
type CmpResult uint8

// The parts of a Cmp.
const (
	ModRevision CmpTarget = iota
	CreateRevision
)
const (
	Equal CmpResult = iota
	Greater
)

// Unchanged holds while key was last changed at revision.
func Unchanged(key string, revision int64) Cmp {
	return Cmp{Key: key, Target: ModRevision, Revision: revision}
}

// CreatedAt holds while key is the one that was created at revision.
func CreatedAt(key string, revision int64) Cmp {
	return Cmp{Key: key, Target: CreateRevision, Revision: revision}
}

// Absent holds while key does not exist.
func Absent(key string) Cmp { return Cmp{Key: key, Target: CreateRevision} }

// Exists holds while key exists.
func Exists(key string) Cmp { return Cmp{Key: key, Target: CreateRevision, Result: Greater} }

// OpKind is what an Op does.
type OpKind uint8

// The kinds of Op.
const (
	OpGet OpKind = iota
	OpPut
	OpDelete
)

// Op is one step of a transaction.
type Op struct {
	Kind     OpKind
	Key, End string
	Value    []byte
	Lease    LeaseID
}

// Get reads [key, end), or key alone if end is empty.
func Get(key, end string) Op { return Op{Kind: OpGet, Key: key, End: end} }

// Put sets key. With a lease, the key goes when the lease ends.
func Put(key string, value []byte, lease LeaseID) Op {
	return Op{Kind: OpPut, Key: key, Value: value, Lease: lease}
}

// Delete removes [key, end), or key alone if end is empty.
func Delete(key, end string) Op { return Op{Kind: OpDelete, Key: key, End: end} }

// WatchRequest asks for the changes of [Key, End) at or after Revision.
type WatchRequest struct {
	Key, End string
	Revision int64 // 0 = from now on
}

// WatchResponse is one or more whole revisions. Without events it says that
// nothing changed up to Revision.
type WatchResponse struct {
	Events   []Event
	Revision int64 // everything up to here has been seen
}

// Event is one change. Of a deleted key only Key and ModRevision are set.
type Event struct {
	Deleted bool
	KV      KeyValue
}

// check refuses what every implementation must refuse alike, before it is sent.
func (t Txn) check(maxOps int) error {
	if n := max(len(t.If), len(t.Then), len(t.Else)); n > maxOps {
		return fmt.Errorf("%w: %d, at most %d are allowed", ErrTooManyOps, n, maxOps)
	}
	return nil
}
