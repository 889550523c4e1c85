package object

import (
	"context"
	"io"
	"iter"
	"sync/atomic"
)

// OpKind names an operation for WithFaults.
type OpKind int

// The operations that WithFaults announces. OpRead is the body of a Get.
const (
	OpPut OpKind = iota
	OpGet
	OpRead
	OpHead
	OpDelete
	OpList
)

func (k OpKind) String() string {
	return [...]string{"put", "get", "read", "head", "delete", "list"}[k]
}

// Op is one operation about to happen, or just done.
type Op struct {
	Kind OpKind
	Key  string // first key of a delete, prefix of a list
	N    int64  // counts the store's operations from 1; the same before and after
	// After marks the call after the operation took effect: an error returned now is an answer that
	// got lost. It is made for put and delete.
	After    bool
	Off, Len int64 // of a get and its body
}

// WithFaults asks hook before each operation of s, and again after puts and deletes. An error
// replaces the operation's result; the hook may also block until ctx ends. An error for OpRead breaks
// the body off half-way.
func WithFaults(s Store, hook func(ctx context.Context, op Op) error) Store {
	return &faulty{Store: s, hook: hook}
}

type faulty struct {
	Store
	hook func(ctx context.Context, op Op) error
	n    atomic.Int64
}

func (f *faulty) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	op := Op{Kind: OpPut, Key: key, N: f.n.Add(1), Len: body.Size()}
	if err := f.hook(ctx, op); err != nil {
		return Info{}, err
	}
	info, err := f.Store.Put(ctx, key, body, o)
	if err != nil {
		return Info{}, err
	}
	op.After = true
	if err := f.hook(ctx, op); err != nil {
		return Info{}, err
	}
	return info, nil
}

func (f *faulty) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	op := Op{Kind: OpGet, Key: key, N: f.n.Add(1), Off: off, Len: n}
	if err := f.hook(ctx, op); err != nil {
		return nil, err
	}
	body, err := f.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	op.Kind = OpRead
	if err := f.hook(ctx, op); err != nil {
		return &brokenBody{ReadCloser: body, left: n / 2, err: err}, nil
	}
	return body, nil
}

// brokenBody returns left bytes and then err.
type brokenBody struct {
	io.ReadCloser
	left int64
	err  error
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (f *faulty) Head(ctx context.Context, key string) (Info, error) {
	if err := f.hook(ctx, Op{Kind: OpHead, Key: key, N: f.n.Add(1)}); err != nil {
		return Info{}, err
	}
	return f.Store.Head(ctx, key)
}

func (f *faulty) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	op := Op{Kind: OpDelete, Key: keys[0], N: f.n.Add(1)}
	if err := f.hook(ctx, op); err != nil {
		return err
	}
	if err := f.Store.Delete(ctx, keys...); err != nil {
		return err
	}
	op.After = true
	return f.hook(ctx, op)
}

func (f *faulty) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	if err := f.hook(ctx, Op{Kind: OpList, Key: prefix, N: f.n.Add(1)}); err != nil {
		return func(yield func(Info, error) bool) { yield(Info{}, err) }
	}
	return f.Store.List(ctx, prefix, after)
}
