package object

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	deleteBatch = 1000 // S3's limit of one DeleteObjects
	// deleteWorkers is how many objects are deleted at a time where a store takes one a request.
	deleteWorkers = 16
)

// deleter is what a client library does of a delete. It sends each request once.
type deleter interface {
	deleteOne(ctx context.Context, key string) error
	// deleteMany returns what the store said of each key it named: nil when it is gone.
	deleteMany(ctx context.Context, keys []string) (said map[string]error, err error)
}

var errUntold = errors.New("the store does not say whether it is deleted")

// delete removes objects in batches, or one by one where the store has no such request. What the store refuses, and
// what it says nothing of, is an error of its own whatever became of the others.
func (l *location) delete(ctx context.Context, d deleter, keys []string) error {
	for _, key := range keys {
		if err := l.checkKey(key); err != nil {
			return l.fail("delete", key, err)
		}
	}
	var errs []error
	for len(keys) > 0 {
		n := min(len(keys), deleteBatch)
		errs = append(errs, l.deleteBatch(ctx, d, keys[:n])...)
		keys = keys[n:]
	}
	return errors.Join(errs...)
}

func (l *location) deleteBatch(ctx context.Context, d deleter, keys []string) []error {
	if len(keys) == 1 || l.oneByOne.Load() {
		return l.deleteEach(ctx, d, keys)
	}
	b := deletion{l: l, left: keys}
	err := l.try(ctx, request{op: "delete", key: fmt.Sprintf("%s and %d more", keys[0], len(keys)-1), patience: ofRequests}, func(ctx context.Context) error {
		said, err := d.deleteMany(ctx, b.left)
		if err != nil {
			b.failed = nil
			return err
		}
		return b.take(said)
	})
	switch {
	case err == nil:
		return b.refused
	case ctx.Err() == nil && noDeleteMany(err):
		// Objects go one by one if the first of them does: then it is the request that the store does not know.
		if l.deleteKey(ctx, d, b.left[0]) == nil {
			l.oneByOne.Store(true)
			return append(b.refused, l.deleteEach(ctx, d, b.left[1:])...)
		}
	}
	if len(b.failed) == 0 {
		b.failed = []error{err}
	}
	return append(b.refused, b.failed...)
}

// noDeleteMany says whether an error of a batch may mean that the store does not delete in batches: it is final, and
// not about who asks or where, or the answer was not about the objects.
func noDeleteMany(err error) bool {
	return errors.Is(err, errUntold) || !Retriable(err) && !errors.Is(err, ErrAccess) && !errors.Is(err, ErrNoBucket)
}

// deletion is a batch on its way.
type deletion struct {
	l       *location
	left    []string // asked for in the next request
	failed  []error  // of those that are left, as the last answer said
	refused []error  // for good
}

// take sorts an answer, and returns an error when a repetition may help some objects.
func (b *deletion) take(said map[string]error) error {
	var left []string
	b.failed = nil
	for _, key := range b.left {
		err, told := said[key]
		switch {
		case !told:
			err = &Error{Op: "delete", Key: key, Store: b.l.String(), Kind: ErrUnavailable, Err: errUntold, again: soon}
		case err == nil || errors.Is(err, ErrNotFound):
			continue
		case !Retriable(err):
			b.refused = append(b.refused, err)
			continue
		}
		left, b.failed = append(left, key), append(b.failed, err)
	}
	b.left = left
	if len(left) == 0 {
		return nil
	}
	return b.failed[0]
}

// deleteEach deletes one object a request, some at a time.
func (l *location) deleteEach(ctx context.Context, d deleter, keys []string) []error {
	if len(keys) == 1 {
		if err := l.deleteKey(ctx, d, keys[0]); err != nil {
			return []error{err}
		}
		return nil
	}
	var g errgroup.Group
	g.SetLimit(deleteWorkers)
	var mu sync.Mutex
	var errs []error
	for _, key := range keys {
		g.Go(func() error {
			if err := l.deleteKey(ctx, d, key); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // each key has its own error
	return errs
}

func (l *location) deleteKey(ctx context.Context, d deleter, key string) error {
	err := l.try(ctx, request{op: "delete", key: key, patience: ofRequests}, func(ctx context.Context) error {
		return d.deleteOne(ctx, key)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
