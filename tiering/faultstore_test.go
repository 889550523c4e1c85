package tiering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// lateStore is a store whose LIST, or reads as well, are behind: an object is seen only some time after its PUT, and
// in lists for as long after its deletion.
type lateStore struct {
	object.Store
	delay time.Duration
	reads bool

	mu   sync.Mutex
	born map[string]time.Time
	dead map[string]object.Info // Modified is when it died
}

func newLateStore(s object.Store, delay time.Duration) *lateStore {
	return &lateStore{Store: s, delay: delay, born: map[string]time.Time{}, dead: map[string]object.Info{}}
}

func (s *lateStore) Put(ctx context.Context, key string, b object.Body, o object.PutOptions) (object.Info, error) {
	info, err := s.Store.Put(ctx, key, b, o)
	if err == nil {
		s.mu.Lock()
		s.born[key] = time.Now()
		s.mu.Unlock()
	}
	return info, err
}

func (s *lateStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if info, err := s.Store.Head(ctx, key); err == nil {
			s.mu.Lock()
			s.dead[key] = object.Info{Key: key, Size: info.Size, Modified: time.Now()}
			s.mu.Unlock()
		}
	}
	return s.Store.Delete(ctx, keys...)
}

func (s *lateStore) hidden(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	born, ok := s.born[key]
	return ok && time.Since(born) < s.delay
}

func (s *lateStore) Head(ctx context.Context, key string) (object.Info, error) {
	if s.reads && s.hidden(key) {
		return object.Info{}, fmt.Errorf("head %s: %w", key, object.ErrNotFound)
	}
	return s.Store.Head(ctx, key)
}

func (s *lateStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if s.reads && s.hidden(key) {
		return nil, fmt.Errorf("get %s: %w", key, object.ErrNotFound)
	}
	return s.Store.Get(ctx, key, off, n)
}

// List merges what is there and not hidden with what died lately.
func (s *lateStore) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	ghosts := object.NewMem() // puts them into order
	bodies := map[string]object.Info{}
	s.mu.Lock()
	for key, info := range s.dead {
		if time.Since(info.Modified) < s.delay && strings.HasPrefix(key, prefix) && key > after {
			bodies[key] = info
		}
	}
	s.mu.Unlock()
	for info, err := range s.Store.List(ctx, prefix, after) {
		if err != nil {
			return func(yield func(object.Info, error) bool) { yield(object.Info{}, err) }
		}
		if !s.hidden(info.Key) {
			bodies[info.Key] = info
		}
	}
	return func(yield func(object.Info, error) bool) {
		for key := range bodies {
			if _, err := ghosts.Put(ctx, key, object.Bytes(nil), object.PutOptions{}); err != nil {
				yield(object.Info{}, err)
				return
			}
		}
		for info, err := range ghosts.List(ctx, "", "") {
			if err == nil {
				info = bodies[info.Key]
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// TestStaleListDeletesNothingAndReportsNothing: lists that lag behind by minutes, under a broker that uploads,
// expires and collects for hours, with a grace of an hour.
func TestStaleListDeletesNothingAndReportsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := smallLog()
		cfg.RetentionBytes = 40 << 10
		b := w.mustStart(settings{config: cfg, store: newLateStore(w.store, 10*time.Minute), o: sweepOptions(time.Hour)})
		for range 30 {
			if err := b.produce(20); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute) // virtual; ten looks of the collector
			w.nothingMissing()
			if _, n := b.m.gc.Found(); n != 0 {
				t.Fatalf("%d objects are reported as missing", n)
			}
		}
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

// unsureStore does not say the checksum of what it took.
type unsureStore struct {
	*lateStore
	puts atomic.Int64
}

func (s *unsureStore) Put(ctx context.Context, key string, b object.Body, o object.PutOptions) (object.Info, error) {
	info, err := s.lateStore.Put(ctx, key, b, o)
	info.HasCRC = false
	if strings.HasSuffix(key, manifest.LogSuffix) {
		s.puts.Add(1)
	}
	return info, err
}

// TestStoreThatShowsObjectsLateCostsNoSecondUpload: an upload is verified by a HEAD, which some stores answer with
// 404 for a moment.
func TestStoreThatShowsObjectsLateCostsNoSecondUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		store := &unsureStore{lateStore: newLateStore(w.store, time.Second)}
		store.reads = true
		b := w.mustStart(settings{config: smallLog(), store: store, o: Options{RetryMin: time.Second, RetryMax: time.Minute}})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		root, err := b.m.Root(t.Context(), w.tip())
		if err != nil {
			t.Fatal(err)
		}
		if store.puts.Load() != root.Segments {
			t.Errorf("%d uploads of %d segments", store.puts.Load(), root.Segments)
		}
	})
}

// TestReadsThatFailAreLoggedNowAndThen: an operator must see why clients are told of trouble, and not once for each
// of their attempts.
func TestReadsThatFailAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		late := newLateStore(w.store, 0)
		var lines strings.Builder
		b := w.mustStart(settings{config: smallLog(), store: late, o: Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))}})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		late.delay, late.reads = time.Hour, true
		for key := range w.objects() {
			late.born[key] = time.Now()
		}
		for range 30 { // half a minute
			if _, _, err := b.readAt(t.Context(), 0, 1<<20); !errors.Is(err, manifest.ErrMissing) {
				t.Fatalf("got %v, want %v", err, manifest.ErrMissing)
			}
			time.Sleep(time.Second)
		}
		if n := strings.Count(lines.String(), "remote read failed"); n != 3 {
			t.Errorf("%d lines, want one in %v:\n%s", n, 10*time.Second, lines.String())
		}
		if !strings.Contains(lines.String(), manifest.ErrMissing.Error()) {
			t.Errorf("no reason is given:\n%s", lines.String())
		}
	})
}

// TestReadOfAnObjectThatIsLateIsAnErrorAndThenTheBytes: a store that answers 404 for a while after the PUT. The
// answer is ErrMissing (clients see a retriable storage error), never the end of the log, and it is not kept.
func TestReadOfAnObjectThatIsLateIsAnErrorAndThenTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		late := newLateStore(w.store, 0)
		b := w.mustStart(settings{config: smallLog(), store: late})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		late.delay, late.reads = time.Minute, true
		for key := range w.objects() {
			late.born[key] = time.Now()
		}
		_, _, err := b.readAt(t.Context(), 0, 1<<20)
		var where *bucket.ObjectError
		if !errors.Is(err, manifest.ErrMissing) || !errors.As(err, &where) || where.Object == "" || errors.Is(err, manifest.ErrOffsetOutOfRange) {
			t.Fatalf("got %v, want %v with the object's name", err, manifest.ErrMissing)
		}
		time.Sleep(time.Minute)
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStoreErrorsOfAReadAreNamedAndNeverTheEndOfTheLog: what each sentinel of the store becomes. The replica manager
// makes a retriable storage error of all of them, and OFFSET_OUT_OF_RANGE of none.
func TestStoreErrorsOfAReadAreNamedAndNeverTheEndOfTheLog(t *testing.T) {
	for _, kind := range []error{object.ErrArchived, object.ErrAccess, object.ErrNoBucket, object.ErrUnavailable, object.ErrNotFound, object.ErrShortBody} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var broken atomic.Bool
				var asked atomic.Int64
				store := object.WithFaults(w.store, func(_ context.Context, op object.Op) error {
					if broken.Load() && op.Kind == object.OpGet && strings.HasSuffix(op.Key, manifest.LogSuffix) {
						asked.Add(1)
						return &object.Error{Op: "get", Key: op.Key, Store: "the test", Kind: kind}
					}
					return nil
				})
				b := w.mustStart(settings{config: smallLog(), store: store, o: Options{RetryMin: time.Second, RetryMax: time.Minute}})
				if err := b.produce(60); err != nil {
					t.Fatal(err)
				}
				b.uploaded()
				if err := b.evict(); err != nil {
					t.Fatal(err)
				}
				broken.Store(true)
				_, _, err := b.readAt(t.Context(), 0, 1<<20)
				var where *bucket.ObjectError
				if !errors.Is(err, kind) || !errors.As(err, &where) || !strings.HasSuffix(where.Object, manifest.LogSuffix) || errors.Is(err, segment.ErrOffsetOutOfRange) {
					t.Errorf("got %v", err)
				}
				most := int64(1)
				if kind == object.ErrUnavailable {
					most = bucket.Retries + 1
				}
				if n := asked.Load(); n < 1 || n > most {
					t.Errorf("the store was asked %d times, want at most %d", n, most)
				}
				broken.Store(false)
				if kind == object.ErrNotFound {
					time.Sleep(time.Minute) // it is remembered for seconds
				}
				if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil { // nothing was kept
					t.Fatal(err)
				}
			})
		})
	}
}

// TestWrongBytesOfARangeAreFetchedAgainAndThenNamed: a store that sends other bytes under the right name and range.
func TestWrongBytesOfARangeAreFetchedAgainAndThenNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		shifted := &shiftedStore{Store: w.store}
		b := w.mustStart(settings{config: smallLog(), store: shifted, chunk: 1 << 10})
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		b.uploaded()
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		shifted.left.Store(1)
		if _, _, err := b.readAt(t.Context(), 0, 1<<10); err != nil {
			t.Errorf("damage on the way: %v", err)
		}
		shifted.left.Store(1 << 30)
		var err error
		for at := int64(0); err == nil && at < b.log.LocalLogStart(); {
			var got []byte
			var next int64
			if got, next, err = b.readAt(t.Context(), at, 1<<10); err == nil {
				if err := checkRecords(got, at, next); err != nil {
					t.Fatalf("wrong bytes came through: %v", err)
				}
				at = next
			}
		}
		var where *bucket.ObjectError
		if !errors.Is(err, manifest.ErrCorrupt) || !errors.As(err, &where) || !strings.HasSuffix(where.Object, manifest.LogSuffix) {
			t.Errorf("got %v, want %v with the object's name", err, manifest.ErrCorrupt)
		}
	})
}

// shiftedStore answers reads of logs with the bytes before or behind the ones that were asked for.
type shiftedStore struct {
	object.Store
	left atomic.Int64
}

func (s *shiftedStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if n > 0 && strings.HasSuffix(key, manifest.LogSuffix) && s.left.Add(-1) >= 0 {
		if off > 0 {
			off--
		} else {
			off++
		}
	}
	return s.Store.Get(ctx, key, off, n)
}
