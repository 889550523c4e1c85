package object

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// How long an object that is not there is not asked for again: clients repeat what fails at once, and each time
	// would be a request. Short, as a store may show an object late, or somebody puts it back.
	missingMemory = 5 * time.Second
	missingKeys   = 4096
)

// WithoutRepeats is s for readers who are asked for the same object again and again: for a few seconds Get answers
// from memory that an object is not there. It is not for those who put what they get.
func WithoutRepeats(s Store) Store { return &unrepeated{Store: s} }

type unrepeated struct {
	Store
	mu   sync.Mutex
	keys map[string]absence
}

type absence struct {
	err   error
	until time.Time
}

// Get implements Store.
func (m *unrepeated) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.recall(key, time.Now()); err != nil {
		return nil, err
	}
	body, err := m.Store.Get(ctx, key, off, n)
	if errors.Is(err, ErrNotFound) {
		m.remember(key, err, time.Now())
	}
	return body, err
}

func (m *unrepeated) recall(key string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.keys[key]
	if ok && !now.Before(a.until) {
		delete(m.keys, key)
		return nil
	}
	return a.err
}

func (m *unrepeated) remember(key string, err error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil || len(m.keys) >= missingKeys {
		m.keys = map[string]absence{} // asking again is only a request
	}
	m.keys[key] = absence{err, now.Add(missingMemory)}
}
