package sim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds  = flag.Int("seeds", 20, "number of seeds to run")
	first  = flag.Uint64("first", 1, "first seed")
	length = flag.Duration("length", 30*time.Second, "virtual time in which things go wrong")
)

// TestAckedRecordsSurviveEverything is invariants 1 to 6 over whatever the
// schedule of a seed does to a cluster.
func TestAckedRecordsSurviveEverything(t *testing.T) {
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			steps := plan(seed, *length, kinds())
			alive := watch(t, steps)
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, steps, alive) })
		})
	}
}

// stuck is how long virtual time may stand still while real time goes on.
const stuck = 90 * time.Second

// watch ends the process when alive is not called for too long: somebody in the
// bubble waits for a lock that is held by who waits for time to go on, or two
// send each other back and forth without an end.
func watch(t *testing.T, steps []step) (alive func()) {
	timer := time.AfterFunc(stuck, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%s: virtual time stands still\n%v", t.Name(), steps))
	})
	t.Cleanup(func() { timer.Stop() })
	var ticks atomic.Int64
	seen := int64(-1)
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for ticker := time.NewTicker(stuck / 3); ; {
			select {
			case <-ticker.C:
				if now := ticks.Load(); now != seen {
					seen = now
					timer.Reset(stuck)
				}
			case <-done:
				ticker.Stop()
				return
			}
		}
	}()
	return func() { ticks.Add(1) }
}

func simulate(t *testing.T, seed uint64, steps []step, alive func()) {
	log := &buffer{}
	w := newWorld(seed, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), *length+10*time.Minute)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			alive()
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	if err := w.run(ctx, steps, *length); err != nil {
		w.h.fail("%v", err)
	}
	if w.h.ackedRecords() == 0 {
		w.h.fail("nothing was acked: the simulation checked nothing")
	}
	t.Logf("%d records acked", w.h.ackedRecords())
	broken := w.h.complaints()
	if len(broken) == 0 {
		return
	}
	var planned []string
	for _, s := range steps {
		planned = append(planned, s.String())
	}
	keep := t.ArtifactDir()
	for name, text := range map[string]string{
		"brokers.log": log.String(), "etcd.log": strings.Join(w.truth.log(), "\n"), "journal.log": w.journal(), "schedule.log": strings.Join(planned, "\n"),
	} {
		if err := os.WriteFile(filepath.Join(keep, name), []byte(text), 0o600); err != nil {
			t.Log(err)
		}
	}
	t.Logf("schedule:\n%s\n\njournal:\n%s\n\nlogs in %s if run with -artifacts", strings.Join(planned, "\n"), w.journal(), keep)
	t.Errorf("broken:\n%s", strings.Join(broken, "\n"))
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestSchedulesAreTheirSeeds is what a line of the track record rests on.
func TestSchedulesAreTheirSeeds(t *testing.T) {
	all := kinds()
	text := func(seed uint64, kinds []*kind) (lines []string) {
		for _, s := range plan(seed, time.Minute, kinds) {
			lines = append(lines, s.String())
		}
		return lines
	}
	if a, b := text(5, all), text(5, kinds()); !slices.Equal(a, b) || len(a) == 0 {
		t.Errorf("one seed, two schedules: %q and %q", a, b)
	}
	without := text(5, slices.DeleteFunc(kinds(), func(k *kind) bool { return k.name == "pause" }))
	with := slices.DeleteFunc(text(5, all), func(line string) bool { return strings.Contains(line, "s pause ") })
	if !slices.Equal(with, without) {
		t.Errorf("a kind more changes the others: %q and %q", with, without)
	}
	if slices.Equal(text(5, all), text(6, all)) {
		t.Error("two seeds, one schedule")
	}
}
