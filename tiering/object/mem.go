package object

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Mem is a Store in memory, for tests and simulation. It is strictly consistent.
type Mem struct {
	mu      sync.Mutex
	objects map[string]memObject
	puts    int64
}

type memObject struct {
	data []byte // never changed once stored
	info Info
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{objects: make(map[string]memObject)} }

func (m *Mem) fail(op, key string, kind, err error) error {
	return &Error{Op: op, Key: key, Store: "memory", Kind: kind, Err: err}
}

func (m *Mem) begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return m.fail(op, key, nil, err)
	}
	if err := ValidKey(key); err != nil {
		return m.fail(op, key, nil, err)
	}
	return nil
}

// Put implements Store.
func (m *Mem) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	if err := m.begin(ctx, "put", key); err != nil {
		return Info{}, err
	}
	body = newSource(body, o)
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		return Info{}, m.fail("put", key, nil, shortBody(err))
	}
	sum := crc32.Checksum(data, castagnoli)
	if o.HasCRC && sum != o.CRC32C {
		return Info{}, m.fail("put", key, ErrChecksum, nil)
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok && o.IfAbsent {
		return Info{}, m.fail("put", key, ErrExists, nil)
	}
	m.puts++
	info := Info{Key: key, Size: int64(len(data)), CRC32C: sum, HasCRC: true, Modified: now, ETag: fmt.Sprintf("%d-%08x", m.puts, sum)}
	m.objects[key] = memObject{data, info}
	return info, nil
}

// Get implements Store.
func (m *Mem) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.begin(ctx, "get", key); err != nil {
		return nil, err
	}
	if n == 0 {
		return emptyBody{}, nil
	}
	m.mu.Lock()
	obj, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, m.fail("get", key, ErrNotFound, nil)
	}
	n, err := checkRange(obj.info.Size, off, n)
	if err != nil {
		return nil, m.fail("get", key, ErrShortBody, err)
	}
	return &memBody{Reader: bytes.NewReader(obj.data[off : off+n]), ctx: ctx, m: m, key: key}, nil
}

// checkRange resolves n < 0 and says why a range does not lie within size bytes.
func checkRange(size, off, n int64) (int64, error) {
	switch {
	case off < 0 || off > size || (off == size && off > 0):
		return 0, fmt.Errorf("offset %d of %d bytes", off, size)
	case n < 0:
		return size - off, nil
	case n > size-off:
		return 0, fmt.Errorf("%d bytes from %d of %d bytes", n, off, size)
	}
	return n, nil
}

// memBody breaks when ctx ends, as a network body does.
type memBody struct {
	*bytes.Reader
	ctx context.Context // of the one Get that this body belongs to
	m   *Mem
	key string
}

func (b *memBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, b.m.fail("get", b.key, nil, err)
	}
	return b.Reader.Read(p)
}

func (b *memBody) Close() error { return nil }

// Head implements Store.
func (m *Mem) Head(ctx context.Context, key string) (Info, error) {
	if err := m.begin(ctx, "head", key); err != nil {
		return Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.objects[key]
	if !ok {
		return Info{}, m.fail("head", key, ErrNotFound, nil)
	}
	return obj.info, nil
}

// Delete implements Store.
func (m *Mem) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := m.begin(ctx, "delete", key); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return nil
}

// List implements Store.
func (m *Mem) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		m.mu.Lock()
		var found []Info
		for key, obj := range m.objects {
			if strings.HasPrefix(key, prefix) && key > after {
				info := obj.info
				info.CRC32C, info.HasCRC = 0, false
				found = append(found, info)
			}
		}
		m.mu.Unlock()
		slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range found {
			if err := ctx.Err(); err != nil {
				yield(Info{}, m.fail("list", prefix, nil, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Close implements Store. What is stored stays.
func (m *Mem) Close() error { return nil }
