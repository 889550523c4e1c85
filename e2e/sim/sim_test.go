package sim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Int("seeds", 3, "number of seeds to run")
	first = flag.Uint64("first", 1, "first seed")
)

// TestAckedRecordsSurviveEverything is invariants 1 and 2 over crashes that lose
// unsynced data, restarts and an object store that comes and goes.
func TestAckedRecordsSurviveEverything(t *testing.T) {
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

func simulate(t *testing.T, seed uint64) {
	var log bytes.Buffer
	var mu sync.Mutex
	w := newWorld(seed, slog.New(slog.NewTextHandler(&locked{mu: &mu, b: &log}, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			t.Fatalf("%s: %v\n%s", what, err, log.String())
		}
	}
	check("start", w.start(ctx))
	check("create topic", w.createTopic(ctx))
	working, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	var produceErr, followErr error
	clients.Go(func() { produceErr = w.produce(working, seed) })
	clients.Go(func() { followErr = w.follow(working) })
	check("faults", w.faults(ctx, time.Minute))
	stop()
	clients.Wait()
	check("produce", produceErr)
	check("follow", followErr)
	check("verify", w.verify(ctx))
	check("stop", w.stop())
	for _, err := range w.broken {
		t.Error(err)
	}
	if len(w.acked) == 0 {
		t.Error("nothing was acked: the simulation checked nothing")
	}
	t.Logf("%d records acked", len(w.acked))
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
