package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// words is a machine that keeps words by key.
type words struct {
	part     *coordinator.Partition
	kept     map[string]string
	ended    []string // transactions
	loaded   bool
	unloaded chan<- struct{}
}

func (w *words) Replay(r coordinator.Replayed) error {
	key := string(r.Key)
	switch {
	case strings.HasPrefix(key, "?"):
		return fmt.Errorf("%w: %s", coordinator.ErrUnknownRecord, key)
	case key == "!":
		return errors.New("cannot be replayed")
	case r.Value == nil:
		delete(w.kept, key)
	default:
		w.kept[key] = string(r.Value)
	}
	return nil
}

func (w *words) ReplayEndTransaction(id int64, epoch int16, commit bool) {
	w.ended = append(w.ended, fmt.Sprint(id, epoch, commit))
}

func (w *words) Loaded(*coordinator.Update) { w.loaded = true }
func (w *words) Unloaded() {
	select {
	case w.unloaded <- struct{}{}:
	default:
	}
}

func (w *words) put(key, value string, u *coordinator.Update) {
	u.Append(coordinator.Record{Key: []byte(key), Value: []byte(value), Apply: func(int64) { w.kept[key] = value }})
}

type runtime = coordinator.Runtime[*words]

type fixture struct {
	t        *testing.T
	log      *memlog.Log
	r        *runtime
	unloaded chan struct{}
	logged   *strings.Builder
}

// run runs fn in a bubble with a runtime that leads nothing yet.
func run(t *testing.T, fn func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, log: memlog.New(), unloaded: make(chan struct{}, 10), logged: &strings.Builder{}}
		var err error
		f.r, err = coordinator.New(coordinator.Options[*words]{
			Name: "words", Log: f.log,
			NewMachine: func(p *coordinator.Partition) *words {
				return &words{part: p, kept: make(map[string]string), unloaded: f.unloaded}
			},
			LoadBytes: 200, MaxBatchBytes: 300, Barrier: []byte("barrier"),
			Logger: slog.New(slog.NewTextHandler(f.logged, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.r.Run(ctx) }()
		fn(t, f)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func (f *fixture) load(epoch int32) {
	f.log.Lead(0, epoch)
	f.r.Load(0, epoch)
	synctest.Wait()
}

// write puts a word in the background; the channel gets the result.
func (f *fixture) write(key, value string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := coordinator.Write(f.t.Context(), f.r, 0, func(w *words, u *coordinator.Update) (bool, error) {
			w.put(key, value, u)
			return true, nil
		})
		done <- err
	}()
	synctest.Wait()
	return done
}

func (f *fixture) kept() map[string]string {
	f.t.Helper()
	got, err := coordinator.Peek(f.t.Context(), f.r, 0, func(w *words) (map[string]string, error) {
		out := make(map[string]string)
		for k, v := range w.kept {
			out[k] = v
		}
		return out, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func wantKept(t *testing.T, got, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func pending(done <-chan error) bool { return len(done) == 0 }

func TestAnswersLeaveWhenCommittedAndHandlersGoOn(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		f.log.Hold(true)
		a, b := f.write("a", "1"), f.write("b", "2")
		if end := f.log.End(0); end != 2 {
			t.Fatalf("log end is %d: the second write waited for the first one's commit", end)
		}
		if !pending(a) || !pending(b) {
			t.Fatal("answered before the commit")
		}
		wantKept(t, f.kept(), map[string]string{"a": "1", "b": "2"})
		f.log.Commit(0)
		if err := errors.Join(<-a, <-b); err != nil {
			t.Error(err)
		}
	})
}

func TestReadWaitsForWhatItSaw(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		f.log.Hold(true)
		write := f.write("a", "1")
		read := make(chan error, 1)
		go func() {
			got, err := coordinator.Read(t.Context(), f.r, 0, func(w *words) (string, error) { return w.kept["a"], nil })
			if got != "1" {
				t.Errorf("read %q, want 1", got)
			}
			read <- err
		}()
		synctest.Wait()
		if !pending(read) {
			t.Fatal("the read showed what is not committed")
		}
		f.log.Commit(0)
		if err := errors.Join(<-write, <-read); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedAppendChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		full := errors.New("disk full")
		f.log.FailAppends(func(int32, record.Batch) error { return full })
		var told error
		_, err := coordinator.Write(t.Context(), f.r, 0, func(w *words, u *coordinator.Update) (bool, error) {
			w.put("a", "1", u)
			u.OnCommitted(func(err error, _ *coordinator.Update) { told = err })
			return true, nil
		})
		if !errors.Is(err, full) || !errors.Is(told, full) {
			t.Errorf("Write = %v, OnCommitted got %v; want %v", err, told, full)
		}
		wantKept(t, f.kept(), map[string]string{})
		f.log.FailAppends(nil)
		if err := <-f.write("a", "2"); err != nil {
			t.Error(err)
		}
		wantKept(t, f.kept(), map[string]string{"a": "2"})
	})
}

func TestUncommittedStateDoesNotSurviveALostLeadership(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		if err := <-f.write("a", "1"); err != nil {
			t.Fatal(err)
		}
		f.log.Hold(true)
		lost := f.write("a", "2")
		f.log.Lead(0, 2) // another broker led meanwhile and did not have the record
		if err := <-lost; !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write = %v, want ErrNotCoordinator", err)
		}
		synctest.Wait()
		if err := <-f.write("b", "3"); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write to a partition given up = %v, want ErrNotCoordinator", err)
		}
		if got := f.r.Partitions(); len(got) != 0 {
			t.Errorf("Partitions = %v, want none", got)
		}
		f.log.Hold(false)
		f.r.Load(0, 2)
		synctest.Wait()
		wantKept(t, f.kept(), map[string]string{"a": "1"})
	})
}

func TestFormerEpochCannotWrite(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		f.log.Lead(0, 2) // nobody told the runtime yet
		if err := <-f.write("a", "1"); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write = %v, want ErrNotCoordinator", err)
		}
		if end := f.log.End(0); end != 0 {
			t.Errorf("log end = %d, want 0", end)
		}
	})
}

func TestFailedCommitLoadsAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		broken := &brokenLog{Log: f.log, err: errors.New("log directory offline")}
		r, err := coordinator.New(coordinator.Options[*words]{Log: broken, NewMachine: func(p *coordinator.Partition) *words {
			return &words{kept: make(map[string]string), unloaded: f.unloaded}
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.Load(0, 1)
		synctest.Wait()
		put := func() error {
			_, err := coordinator.Write(ctx, r, 0, func(w *words, u *coordinator.Update) (bool, error) {
				w.put("a", "1", u)
				return true, nil
			})
			return err
		}
		if err := put(); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write that cannot be committed = %v, want ErrNotCoordinator", err)
		}
		synctest.Wait()
		if err := put(); !errors.Is(err, coordinator.ErrLoading) {
			t.Errorf("write after it = %v, want ErrLoading", err)
		}
		broken.heal()
		time.Sleep(2 * time.Second)
		if err := put(); err != nil {
			t.Errorf("write after the load = %v", err)
		}
		cancel()
		<-done
	})
}

type brokenLog struct {
	*memlog.Log
	mu  sync.Mutex
	err error
}

func (l *brokenLog) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = nil
}

func (l *brokenLog) WaitCommitted(ctx context.Context, t coordinator.Term, offset int64) error {
	l.mu.Lock()
	err := l.err
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.Log.WaitCommitted(ctx, t, offset)
}

func TestLoadReplaysTheWholeLog(t *testing.T) {
	for _, c := range []record.Compression{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		run(t, func(t *testing.T, f *fixture) {
			f.log.Lead(0, 7)
			for i := range 50 {
				b := record.NewBuilder(record.BuilderOptions{Compression: c})
				b.Append(1, fmt.Append(nil, "k", i%7), fmt.Append(nil, i))
				b.Append(1, []byte("?new"), []byte("of a later version"))
				f.log.Put(0, b.Build())
			}
			b := record.NewBuilder(record.BuilderOptions{Compression: c})
			b.Append(1, []byte("k3"), nil)
			f.log.Put(0, b.Build())
			f.log.Put(0, record.NewEndTxnBatch(9, 2, record.EndTxnMarker{Commit: true}, 1))
			f.r.Load(0, 7)
			synctest.Wait()
			wantKept(t, f.kept(), map[string]string{"k0": "49", "k1": "43", "k2": "44", "k4": "46", "k5": "47", "k6": "48"})
			ended, _ := coordinator.Peek(t.Context(), f.r, 0, func(w *words) ([]string, error) { return w.ended, nil })
			if diff := cmp.Diff([]string{"9 2 true"}, ended); diff != "" {
				t.Error(diff)
			}
			if n := strings.Count(f.logged.String(), "level=WARN"); n != 1 || !strings.Contains(f.logged.String(), "skipped=50") {
				t.Errorf("want one warning and the number of records skipped in the log, got:\n%s", f.logged)
			}
		})
	}
}

func TestOperationsDuringLoadFailAtOnce(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		if err := <-f.write("a", "1"); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("before Load: %v, want ErrNotCoordinator", err)
		}
		f.log.FailReads(errors.New("disk is slow today"))
		f.load(1)
		if err := <-f.write("a", "1"); !errors.Is(err, coordinator.ErrLoading) {
			t.Errorf("while loading: %v, want ErrLoading", err)
		}
		f.log.FailReads(nil)
		time.Sleep(2 * time.Second)
		if err := <-f.write("a", "1"); err != nil {
			t.Errorf("after the load: %v", err)
		}
	})
}

func TestUnloadAnswersWhoWaits(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(3)
		f.log.Hold(true)
		waits := f.write("a", "1")
		f.r.Unload(0, 2) // of a former epoch: ignored
		synctest.Wait()
		if !pending(waits) {
			t.Fatal("an unload of a former epoch was obeyed")
		}
		f.r.Unload(0, 3)
		if err := <-waits; !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write = %v, want ErrNotCoordinator", err)
		}
		<-f.unloaded
	})
}

func TestLoadOfAHigherEpochStartsOver(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		if err := <-f.write("a", "1"); err != nil {
			t.Fatal(err)
		}
		f.r.Load(0, 1) // the same epoch: nothing to do
		f.r.Load(0, 0) // late news
		synctest.Wait()
		if len(f.unloaded) != 0 {
			t.Fatal("the machine was thrown away without need")
		}
		f.load(2)
		<-f.unloaded
		wantKept(t, f.kept(), map[string]string{"a": "1"})
		if err := <-f.write("b", "2"); err != nil {
			t.Error(err)
		}
	})
}

func TestCallerThatGivesUpDoesNotStopTheWrite(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		f.log.Hold(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := coordinator.Write(ctx, f.r, 0, func(w *words, u *coordinator.Update) (bool, error) {
			w.put("a", "1", u)
			return true, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Write = %v, want DeadlineExceeded", err)
		}
		f.log.Commit(0)
		synctest.Wait()
		wantKept(t, f.kept(), map[string]string{"a": "1"})
	})
}

func TestSplitUpdateTakesSeveralBatches(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		big := strings.Repeat("x", 100)
		put := func(split bool) error {
			_, err := coordinator.Write(t.Context(), f.r, 0, func(w *words, u *coordinator.Update) (bool, error) {
				u.Split = split
				for i := range 5 {
					w.put(fmt.Sprint(i), big, u)
				}
				return true, nil
			})
			return err
		}
		f.log.FailAppends(func(_ int32, b record.Batch) error {
			if b.Size() > 400 {
				return record.ErrTooLarge
			}
			return nil
		})
		if err := put(false); !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("one batch: %v, want ErrTooLarge", err)
		}
		if err := put(true); err != nil {
			t.Errorf("split: %v", err)
		}
		if got := len(f.kept()); got != 5 {
			t.Errorf("%d records took effect, want 5", got)
		}
	})
}

func TestTimersFireInOrderAndMayWrite(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		began := time.Now()
		var order []string
		_, err := coordinator.Submit(t.Context(), f.r, 0, func(w *words, _ *coordinator.Update) (bool, error) {
			timer := func(name string, after time.Duration) *coordinator.Timer {
				tm := w.part.NewTimer(func(u *coordinator.Update) {
					order = append(order, fmt.Sprint(name, " ", time.Since(began)))
					w.put(name, "fired", u)
				})
				tm.Schedule(after)
				return tm
			}
			late := timer("late", time.Second)
			timer("b", 3*time.Second)
			timer("c", 3*time.Second)
			timer("a", 2*time.Second)
			timer("stopped", 2*time.Second).Stop()
			late.Schedule(4 * time.Second) // pushed away, as by a heartbeat
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantKept(t, f.kept(), map[string]string{"a": "fired", "b": "fired", "c": "fired", "late": "fired"})
		if diff := cmp.Diff([]string{"a 2s", "b 3s", "c 3s", "late 4s"}, order); diff != "" {
			t.Error(diff)
		}
	})
}
