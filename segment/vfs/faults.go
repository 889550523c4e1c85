package vfs

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand"
	"sync"
	"sync/atomic"
	"syscall"
)

// OpKind names an operation of FS or File.
type OpKind uint8

// The operations. Those up to OpPreallocate are write-side: they change something
// or make a change durable.
const (
	OpCreate OpKind = iota
	OpOpenReadWrite
	OpRemove
	OpRemoveAll
	OpRename
	OpMkdirAll
	OpSyncDir
	OpWrite
	OpTruncate
	OpSync
	OpPreallocate
	OpOpen
	OpRead
	OpList
	OpStat
	OpLock
	OpUsage
)

var opNames = [...]string{
	"create", "open-read-write", "remove", "remove-all", "rename", "mkdir-all", "sync-dir",
	"write", "truncate", "sync", "preallocate", "open", "read", "list", "stat", "lock", "usage",
}

// String returns the name used in tests and logs.
func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return "unknown"
}

// Write reports whether the operation changes something or makes a change durable.
func (k OpKind) Write() bool { return k <= OpPreallocate }

// Op is one operation, as wrappers see it.
type Op struct {
	Kind OpKind
	Path string
	// N counts write-side operations from 1; it is 0 for the others. Over one
	// Mem used only through the wrapper it equals Mem.Ops.
	N int64
	// Off and Len are the range of a read, write or preallocation; Off is the new
	// size of a truncation.
	Off, Len int64
	// Done is true in the last report of WithWatch: the operation returned.
	Done bool
}

// String returns the operation as one line, for lists of calls in tests.
func (o Op) String() string {
	s := o.Kind.String() + " " + o.Path
	switch o.Kind {
	case OpWrite, OpRead, OpPreallocate:
		return fmt.Sprintf("%s %d+%d", s, o.Off, o.Len)
	case OpTruncate:
		return fmt.Sprintf("%s to %d", s, o.Off)
	}
	return s
}

// TornWrite is an error with which a fault makes a write stop after Bytes bytes.
type TornWrite struct {
	Bytes int
	Err   error
}

func (e *TornWrite) Error() string { return "torn write: " + e.Err.Error() }

// Unwrap returns what the write failed with.
func (e *TornWrite) Unwrap() error { return e.Err }

// WithFaults returns fs with before called ahead of each operation. An error that
// before returns replaces the operation, which then does not happen at all; a
// *TornWrite lets the beginning of a write happen. before may block, to hold an
// operation, and is called concurrently.
func WithFaults(fs FS, before func(Op) error) FS {
	return &hookFS{fs: fs, hook: &faults{before: before}}
}

type faults struct {
	before func(Op) error
	n      atomic.Int64
}

func (h *faults) start(op Op) (token, error) {
	if op.Kind.Write() {
		op.N = h.n.Add(1)
	}
	return nil, h.before(op)
}

func (*faults) end(token) {}

func (*faults) transparent() bool { return false }

// Randomly returns a function for WithFaults that fails each operation of the
// given kinds (none: every write-side one) with err and probability p. It draws
// from the seed, the path and the number of the operation on that path, so that
// what happens to one file does not depend on how operations on others
// interleave with it.
func Randomly(seed int64, p float64, err error, kinds ...OpKind) func(Op) error {
	var mu sync.Mutex
	sources := map[string]*rand.Rand{}
	draw := func(path string) float64 {
		mu.Lock()
		defer mu.Unlock()
		src := sources[path]
		if src == nil {
			h := fnv.New64a()
			_, _ = io.WriteString(h, path) // a hash never fails
			src = rand.New(rand.NewSource(seed ^ int64(h.Sum64())))
			sources[path] = src
		}
		return src.Float64()
	}
	return func(op Op) error {
		if !matches(op.Kind, kinds) || draw(op.Path) >= p {
			return nil
		}
		return pathError(op.Kind.String(), op.Path, err)
	}
}

func matches(kind OpKind, kinds []OpKind) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return len(kinds) == 0 && kind.Write()
}

// PowerLoss returns a function for WithFaults that lets n write-side operations
// happen and fails every operation after them with EIO: what a process sees
// whose disk went away. Then Mem.Crash gives what the disk kept.
func PowerLoss(n int64) func(Op) error {
	var lost atomic.Bool
	return func(op Op) error {
		if op.Kind.Write() && op.N > n {
			lost.Store(true)
		}
		if lost.Load() {
			return pathError(op.Kind.String(), op.Path, syscall.EIO)
		}
		return nil
	}
}
