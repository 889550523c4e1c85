package coordinator_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
	"github.com/coldbrook/coldbrook/segment/record"
)

// read reads a word in the background; the channel gets the result.
func (f *fixture) read(key string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := coordinator.Read(f.t.Context(), f.r, 0, func(w *words) (string, error) { return w.kept[key], nil })
		done <- err
	}()
	synctest.Wait()
	return done
}

// TestReadIsRefusedOnceAnotherLeads is about the moment between the election of
// another broker and this runtime hearing of it.
func TestReadIsRefusedOnceAnotherLeads(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		if err := errors.Join(<-f.write("a", "1"), <-f.read("a")); err != nil {
			t.Fatal(err)
		}
		f.log.Lead(0, 2)
		if err := <-f.read("a"); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("read of a deposed coordinator = %v, want ErrNotCoordinator", err)
		}
	})
}

// TestReadWithoutALeaseWaitsForACommit is about a broker that may have been
// deposed and cannot know: what it shows is proven by a commit.
func TestReadWithoutALeaseWaitsForACommit(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		if err := <-f.write("a", "1"); err != nil {
			t.Fatal(err)
		}
		end := f.log.End(0)
		if err := <-f.read("a"); err != nil || f.log.End(0) != end {
			t.Errorf("read with a lease = %v and wrote %d records, want none", err, f.log.End(0)-end)
		}
		f.log.Unlease(true)
		f.log.Hold(true)
		proven, lost := f.read("a"), f.read("a")
		if !pending(proven) {
			t.Fatal("answered before the commit")
		}
		f.log.Commit(0)
		if err := errors.Join(<-proven, <-lost); err != nil {
			t.Errorf("read after the commit = %v", err)
		}
		lost = f.read("a")
		f.log.Lead(0, 2)
		if err := <-lost; !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("read that no commit proves = %v, want ErrNotCoordinator", err)
		}
		f.log.Hold(false)
		f.r.Load(0, 2)
		synctest.Wait()
		wantKept(t, f.kept(), map[string]string{"a": "1"})
	})
}

// TestRecordsOfOthersMakeThePartitionLoadAgain holds the machine to the log: what
// is in it without having gone through the machine is not passed over.
func TestRecordsOfOthersMakeThePartitionLoadAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.load(1)
		b := record.NewBuilder(record.BuilderOptions{})
		b.Append(1, []byte("foreign"), []byte("1"))
		f.log.Put(0, b.Build())
		if err := <-f.write("a", "1"); err == nil {
			t.Error("a write beside a foreign record succeeded")
		}
		time.Sleep(2 * time.Second)
		wantKept(t, f.kept(), map[string]string{"foreign": "1", "a": "1"})
	})
}

// member is one broker's runtime over a replicated partition.
type member struct {
	*coordinator.Runtime[*words]
	t *testing.T
}

func (m member) peek() (map[string]string, error) {
	return coordinator.Peek(m.t.Context(), m.Runtime, 0, func(w *words) (map[string]string, error) { return maps.Clone(w.kept), nil })
}

// TestInheritedRecordsAreShownOnceCommitted: the second leader has a record that
// the third has not. It must show it to nobody, because it is never committed.
func TestInheritedRecordsAreShownOnceCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rs := memlog.NewReplicas(3)
		var ms []member
		ended := make(chan error, 3)
		for i := range 3 {
			r, err := coordinator.New(coordinator.Options[*words]{Log: rs.Log(i), NewMachine: func(*coordinator.Partition) *words {
				return &words{kept: make(map[string]string)}
			}})
			if err != nil {
				t.Fatal(err)
			}
			ms = append(ms, member{r, t})
			go func() { ended <- r.Run(ctx) }()
		}
		lead := func(i int) {
			t.Helper()
			if !rs.Elect(i, false) {
				t.Fatalf("broker %d may not lead", i)
			}
			for j := range ms {
				if epoch, began := rs.Tell(j); began {
					ms[j].Load(0, epoch)
				} else {
					ms[j].Unload(0, epoch)
				}
			}
			synctest.Wait()
		}
		lead(0)
		lost := make(chan error, 1)
		go func() {
			_, err := coordinator.Write(ctx, ms[0].Runtime, 0, func(w *words, u *coordinator.Update) (bool, error) {
				w.put("a", "1", u)
				return true, nil
			})
			lost <- err
		}()
		synctest.Wait()
		rs.Replicate(1) // and not 2: it is not committed
		lead(1)
		if err := <-lost; !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("write to the first leader = %v, want ErrNotCoordinator", err)
		}
		if got, err := ms[1].peek(); !errors.Is(err, coordinator.ErrLoading) {
			t.Errorf("the second leader shows %v, %v, want ErrLoading", got, err)
		}
		lead(2)
		for range 3 {
			rs.Replicate(0)
			rs.Replicate(1)
		}
		synctest.Wait()
		if got, err := ms[2].peek(); err != nil || len(got) != 0 {
			t.Errorf("the third leader shows %v, %v, want nothing", got, err)
		}
		if _, err := ms[1].peek(); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("the second leader answers %v, want ErrNotCoordinator", err)
		}
		lead(1) // again, under a new epoch: it loads anew, and has forgotten
		rs.Replicate(0)
		rs.Replicate(2)
		synctest.Wait()
		if got, err := ms[1].peek(); err != nil || len(got) != 0 {
			t.Errorf("the second leader, again, shows %v, %v, want nothing", got, err)
		}
		cancel()
		for range ms {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
