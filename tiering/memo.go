package tiering

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// loadLimit bounds one detached load of a manifest object or an index head.
const loadLimit = 2 * time.Minute

// memo keeps decoded roots, nodes and index heads by object name, bounded by their weight in bytes. Objects are
// immutable, so nothing in it is ever stale. One load per name at a time; a load goes on when those who wait for
// it leave, so that a slow store makes progress even for readers that give up early.
type memo struct {
	tasks *tasks
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

func newMemo(max int64, t *tasks) *memo {
	return &memo{tasks: t, max: max, lru: list.New(), items: map[string]*list.Element{}, calls: map[string]*memoCall{}}
}

// memoGet returns what key stands for, loading it when need be.
func memoGet[T any](ctx context.Context, m *memo, key string, load func(context.Context) (T, int64, error)) (T, error) {
	v, err := m.get(ctx, key, func(ctx context.Context) (any, int64, error) { return load(ctx) })
	if err != nil {
		var zero T
		return zero, err
	}
	return v.(T), nil
}

func (m *memo) get(ctx context.Context, key string, load func(context.Context) (any, int64, error)) (any, error) {
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
	if !ok && !m.tasks.start(ctx, loadLimit, func(ctx context.Context) { m.load(ctx, key, c, load) }) {
		m.finish(key, c, nil, 0, fmt.Errorf("load %s: %w", key, context.Canceled))
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// has says whether key is here; it does not count as use.
func (m *memo) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.items[key]
	return ok
}

func (m *memo) load(ctx context.Context, key string, c *memoCall, load func(context.Context) (any, int64, error)) {
	value, weight, err := load(ctx)
	m.finish(key, c, value, weight, err)
}

func (m *memo) finish(key string, c *memoCall, value any, weight int64, err error) {
	m.mu.Lock()
	c.value, c.err = value, err
	delete(m.calls, key)
	if err == nil {
		m.putLocked(key, value, weight)
	}
	m.mu.Unlock()
	close(c.done)
}

// put adds what its maker already has decoded.
func (m *memo) put(key string, value any, weight int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putLocked(key, value, weight)
}

func (m *memo) putLocked(key string, value any, weight int64) {
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

func (m *memo) removeLocked(el *list.Element) {
	item := el.Value.(*memoItem)
	m.lru.Remove(el)
	delete(m.items, item.key)
	m.size -= item.weight
}

// drop forgets a name whose object is no longer needed.
func (m *memo) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if el, ok := m.items[key]; ok {
		m.removeLocked(el)
	}
}
