package bucket

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// LoadLimit bounds one detached load of a manifest object or an index head.
const LoadLimit = 2 * time.Minute

// Memo keeps decoded roots, nodes and index heads by object name, bounded by their weight in bytes. Objects are
// immutable, so nothing in it is ever stale. One load per name at a time; a load goes on when those who wait for
// it leave, so that a slow store makes progress even for readers that give up early.
type Memo struct {
	tasks *Tasks
	max   int64

	mu    sync.Mutex
	size  int64
	lru   *list.List // of *memoItem, most recently used first
	items map[string]*list.Element
	calls map[string]*memoCall
}

type memoItem struct {
	key    string
	value  any
	weight int64
}

type memoCall struct {
	done  chan struct{}
	value any
	err   error
}

// NewMemo returns an empty memo of at most so many bytes, whose loads are tasks of t.
func NewMemo(max int64, t *Tasks) *Memo {
	return &Memo{tasks: t, max: max, lru: list.New(), items: map[string]*list.Element{}, calls: map[string]*memoCall{}}
}

// Load returns what key stands for, loading it when need be.
func Load[T any](ctx context.Context, m *Memo, key string, load func(context.Context) (T, int64, error)) (T, error) {
	v, err := m.get(ctx, key, func(ctx context.Context) (any, int64, error) { return load(ctx) })
	if err != nil {
		var zero T
		return zero, err
	}
	return v.(T), nil
}

func (m *Memo) get(ctx context.Context, key string, load func(context.Context) (any, int64, error)) (any, error) {
	m.mu.Lock()
	if el, ok := m.items[key]; ok {
		m.lru.MoveToFront(el)
		m.mu.Unlock()
		return el.Value.(*memoItem).value, nil
	}
	c, ok := m.calls[key]
	if !ok {
		c = &memoCall{done: make(chan struct{})}
		m.calls[key] = c
	}
	m.mu.Unlock()
	if !ok && !m.tasks.Start(ctx, LoadLimit, func(ctx context.Context) { m.load(ctx, key, c, load) }) {
		m.finish(key, c, nil, 0, fmt.Errorf("load %s: %w", key, context.Canceled))
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Has says whether key is here; it does not count as use.
func (m *Memo) Has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.items[key]
	return ok
}

func (m *Memo) load(ctx context.Context, key string, c *memoCall, load func(context.Context) (any, int64, error)) {
	value, weight, err := load(ctx)
	m.finish(key, c, value, weight, err)
}

func (m *Memo) finish(key string, c *memoCall, value any, weight int64, err error) {
	m.mu.Lock()
	c.value, c.err = value, err
	delete(m.calls, key)
	if err == nil {
		m.putLocked(key, value, weight)
	}
	m.mu.Unlock()
	close(c.done)
}

// Put adds what its maker already has decoded.
func (m *Memo) Put(key string, value any, weight int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putLocked(key, value, weight)
}

func (m *Memo) putLocked(key string, value any, weight int64) {
	if el, ok := m.items[key]; ok {
		m.removeLocked(el)
	}
	m.items[key] = m.lru.PushFront(&memoItem{key, value, weight})
	m.size += weight
	// The newest item stays whatever its weight: the one who loads it needs it.
	for m.size > m.max && m.lru.Len() > 1 {
		m.removeLocked(m.lru.Back())
	}
}

func (m *Memo) removeLocked(el *list.Element) {
	item := el.Value.(*memoItem)
	m.lru.Remove(el)
	delete(m.items, item.key)
	m.size -= item.weight
}

// Drop forgets a name whose object is no longer needed.
func (m *Memo) Drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if el, ok := m.items[key]; ok {
		m.removeLocked(el)
	}
}
