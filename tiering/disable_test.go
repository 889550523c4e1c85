package tiering

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// disabled are settings of a topic that may give its tier up.
func disableSettings() settings {
	s := crashSettings()
	s.o.Topic = func(string) upload.TopicSettings {
		return upload.TopicSettings{DeleteOnDisable: true, CopyLagBytes: -1}
	}
	return s
}

// tier switches remote.storage.enable as the replica manager does.
func (b *broker) tier(on bool) {
	cfg := b.log.Config()
	cfg.RemoteEnabled = on
	if !on {
		cfg.LocalRetentionBytes, cfg.LocalRetentionAge = -1, -1
	} else {
		cfg.LocalRetentionBytes, cfg.LocalRetentionAge = 0, 0
	}
	b.log.SetConfig(cfg)
	b.m.Lead(b.tip(), b.epoch, b.log)
}

// halfLocal fills a partition so that its log begins in the tier and both tier and local log have some of it.
func (b *broker) halfLocal() {
	b.t.Helper()
	if err := b.produce(60); err != nil {
		b.t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.produce(60); err != nil {
		b.t.Fatal(err)
	}
	b.uploaded()
	if b.log.LocalLogStart() == 0 || b.m.View(b.tip()).HighestOffset <= b.log.LocalLogStart() {
		b.t.Fatalf("local log from %d, tier up to %d", b.log.LocalLogStart(), b.m.View(b.tip()).HighestOffset)
	}
}

// segmentObjects counts .log and .idx objects.
func (w *world) segmentObjects() (n int) {
	for key := range w.objects() {
		if strings.Contains(key, "/segments/") {
			n++
		}
	}
	return n
}

func (b *broker) emptied() bool {
	root, err := b.m.Root(b.t.Context(), b.tip())
	return err == nil && root != nil && root.Segments == 0
}

func TestDisabledTopicKeepsWhatIsLocalAndItsObjectsGoAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := disableSettings()
		s.o.Grace = 10 * time.Second
		b := w.mustStart(s)
		b.halfLocal()
		local := b.log.LocalLogStart()
		objects := w.segmentObjects()
		b.tier(false)
		settle(t, "the tier is given up", b.emptied)
		if b.log.LogStart() != local || b.log.LocalLogStart() != local {
			t.Fatalf("log start %d, local log start %d, want %d", b.log.LogStart(), b.log.LocalLogStart(), local)
		}
		if _, err := b.readAll(t.Context(), local, 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.readAt(t.Context(), local-1, 1<<20); !errors.Is(err, manifest.ErrOffsetOutOfRange) {
			t.Errorf("read below the log start: %v", err)
		}
		if v := b.m.View(w.tip()); v.HighestOffset != local-1 || v.Segments != 0 {
			t.Errorf("view %+v", v)
		}
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second) // virtual: within the grace
		if n := w.segmentObjects(); n != objects {
			t.Fatalf("%d objects within the grace, had %d", n, objects)
		}
		time.Sleep(5 * time.Second) // virtual
		if n := w.segmentObjects(); n != 0 {
			t.Fatalf("%d objects after the grace: %v", n, w.objects())
		}
		if st := b.m.Status(time.Now()); len(st) != 1 || st[0].View.PendingSegments != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestTopicThatIsTieredAgainIsCopiedFromItsLocalStart(t *testing.T) {
	for _, pause := range []time.Duration{0, 5 * time.Millisecond, 5 * time.Second} {
		t.Run(fmt.Sprint("after ", pause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				b := w.mustStart(disableSettings())
				b.halfLocal()
				for range 3 {
					b.tier(false)
					time.Sleep(pause) // virtual
					if err := b.produce(30); err != nil {
						t.Fatal(err)
					}
					b.tier(true)
					b.uploaded()
					w.nothingMissing()
					if err := b.evict(); err != nil {
						t.Fatal(err)
					}
					root, err := b.m.Root(t.Context(), w.tip())
					if err != nil || root.StartOffset > b.log.LogStart() || root.EndOffset < b.log.LocalLogStart() {
						t.Fatalf("tier of %d to %d, log from %d, local from %d, %v", root.StartOffset, root.EndOffset, b.log.LogStart(), b.log.LocalLogStart(), err)
					}
					if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
						t.Fatal(err)
					}
					if err := b.produce(30); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second) // virtual: all that was given up is deleted, nothing that is named
				w.nothingMissing()
				if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestTierIsKeptWithoutTheWordToDeleteIt: brokers that run without their store for a while must not cost a year of data.
func TestTierIsKeptWithoutTheWordToDeleteIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := disableSettings()
		s.o.Topic = nil
		b := w.mustStart(s)
		b.halfLocal()
		before, _ := w.named()
		b.tier(false)
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // virtual
		if b.log.LogStart() != 0 {
			t.Errorf("log start %d", b.log.LogStart())
		}
		after, root := w.named()
		if len(before) != len(after) || root.Segments == 0 {
			t.Errorf("%d names before, %d after", len(before), len(after))
		}
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Error(err)
		}
		b.tier(true)
		b.uploaded()
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Error(err)
		}
	})
}

func TestTopicThatWasNeverTieredCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := disableSettings()
		s.config.RemoteEnabled = false
		s.config.LocalRetentionBytes = -1
		b := w.mustStart(s)
		if err := b.produce(60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // virtual
		if n := len(w.objects()); n != 0 {
			t.Errorf("%d objects", n)
		}
		if st := b.m.Status(time.Now()); len(st) != 0 {
			t.Errorf("status %+v", st)
		}
		b.tier(true) // enabled later: from the local log start
		b.uploaded()
		if root, err := b.m.Root(t.Context(), w.tip()); err != nil || root.StartOffset != 0 {
			t.Fatalf("root %+v, %v", root, err)
		}
		if err := b.evict(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDisablingSurvivesEveryCrash: the process and the machine die at each write-side operation of disabling, and
// another leader epoch goes on. Nothing that is named is missing, what was given up goes, and what is above the log
// start stays readable.
func TestDisablingSurvivesEveryCrash(t *testing.T) {
	run := func(t *testing.T, at int) (steps int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := disableSettings()
			b, err := w.start(s)
			if err != nil {
				t.Fatal(err)
			}
			b.halfLocal()
			b.close()
			b.dir = nil
			w.elect()
			c := &crashPoint{}
			if b, err = w.start(c.arm(w, s)); err != nil {
				t.Fatal(err)
			}
			b.log.SetHighWatermark(b.log.LogEnd())
			settle(t, "loaded", func() bool { return b.m.View(w.tip()).Loaded })
			local, end := b.log.LocalLogStart(), b.log.LogEnd()
			c.mu.Lock()
			c.n, c.at = 0, at
			c.mu.Unlock()
			b.tier(false)
			for range 400 { // 2 s: beyond the grace
				if c.dead() {
					break
				}
				time.Sleep(5 * time.Millisecond) // virtual
			}
			c.mu.Lock()
			steps = c.n
			c.mu.Unlock()
			w.fs = w.fs.Crash(rand.New(rand.NewSource(int64(at))), 50)
			b.close()
			w.nothingMissing()
			w.elect()
			s.config.RemoteEnabled = false
			s.config.LocalRetentionBytes = -1
			b = w.mustStart(s)
			b.log.SetHighWatermark(b.log.LogEnd())
			settle(t, "the tier is given up", b.emptied)
			time.Sleep(5 * time.Second) // virtual: beyond every grace period
			if n := w.segmentObjects(); n != 0 {
				t.Errorf("%d objects are left", n)
			}
			if b.log.LogStart() != local || b.log.LogEnd() != end {
				t.Errorf("log from %d to %d, want %d to %d", b.log.LogStart(), b.log.LogEnd(), local, end)
			}
			if _, err := b.readAll(t.Context(), local, 1<<20); err != nil {
				t.Error(err)
			}
			b.tier(true)
			if err := b.produce(40); err != nil {
				t.Fatal(err)
			}
			b.uploaded()
			if err := b.evict(); err != nil {
				t.Fatal(err)
			}
			w.nothingMissing()
			if _, err := b.readAll(t.Context(), b.log.LogStart(), 1<<20); err != nil {
				t.Error(err)
			}
			b.close()
			b.dir = nil
		})
		return steps
	}
	total := run(t, -1)
	if total < 6 {
		t.Fatalf("only %d operations", total)
	}
	for at := 1; at <= total && !t.Failed(); at++ {
		t.Logf("crash at %d of %d", at, total)
		run(t, at)
	}
}

// TestLeaderWithLessThanTheOneThatGaveTheTierUpBeginsBehindTheHole: the new leader's local log begins above the log
// start that the old one has left, and the tier no longer has what lies between.
func TestLeaderWithLessThanTheOneThatGaveTheTierUpBeginsBehindTheHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.mustStart(disableSettings())
		b.halfLocal()
		b.tier(false)
		settle(t, "the tier is given up", b.emptied)
		start, end := b.log.LogStart(), b.log.LogEnd()
		b.m.Resign(w.tip())
		w2 := &world{t: t, fs: newWorld(t).fs, kv: w.kv, store: w.store, topic: w.topic}
		w2.elect()
		f := w2.mustStart(func() settings { s := disableSettings(); s.noLead = true; return s }())
		if err := f.log.TruncateFullyAndStartAt(end, start); err != nil {
			t.Fatal(err)
		}
		f.epoch = 1
		if err := f.log.AssignEpoch(1, f.log.LogEnd()); err != nil {
			t.Fatal(err)
		}
		f.m.Lead(w.tip(), 1, f.log) // tiered again meanwhile
		if err := f.produce(60); err != nil {
			t.Fatal(err)
		}
		f.uploaded()
		if f.log.LogStart() != end {
			t.Errorf("log start %d, want %d", f.log.LogStart(), end)
		}
		root, err := f.m.Root(t.Context(), metadata.TopicIDPartition{Topic: w.topic.ID})
		if err != nil || root.StartOffset != end {
			t.Errorf("root %+v, %v, want a start of %d", root, err, end)
		}
		if _, err := f.readAll(t.Context(), end, 1<<20); err != nil {
			t.Error(err)
		}
		w.nothingMissing()
	})
}

// TestNewLeaderFinishesWhatTheOldOneGaveUp: within the grace another broker takes over, whose local log reaches
// further back than the log start that the old one committed.
func TestNewLeaderFinishesWhatTheOldOneGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := disableSettings()
		s.o.Grace = 10 * time.Second
		b := w.mustStart(s)
		b.halfLocal()
		b.tier(false)
		settle(t, "the tier is given up", b.emptied)
		start, end := b.log.LogStart(), b.log.LogEnd()
		b.close()
		b.dir = nil
		if w.segmentObjects() == 0 {
			t.Fatal("deleted within the grace")
		}
		w2 := &world{t: t, fs: newWorld(t).fs, kv: w.kv, store: w.store, topic: w.topic}
		s.config.RemoteEnabled, s.config.LocalRetentionBytes, s.noLead = false, -1, true
		n := w2.mustStart(s)
		if err := n.produce(int(end)); err != nil {
			t.Fatal(err)
		}
		w2.elect()
		n.epoch = 1
		if err := n.log.AssignEpoch(1, n.log.LogEnd()); err != nil {
			t.Fatal(err)
		}
		n.m.Lead(w.tip(), 1, n.log)
		settle(t, "the log start is taken over", func() bool { return n.log.LogStart() == start })
		time.Sleep(15 * time.Second) // virtual
		if left := w.segmentObjects(); left != 0 {
			t.Errorf("%d objects are left", left)
		}
		n.tier(true)
		if err := n.produce(40); err != nil {
			t.Fatal(err)
		}
		n.uploaded()
		if root, err := n.m.Root(t.Context(), w.tip()); err != nil || root.StartOffset > start {
			t.Errorf("root %+v, %v, log starts at %d", root, err, start)
		}
		if err := n.evict(); err != nil {
			t.Fatal(err)
		}
		w.nothingMissing()
		if _, err := n.readAll(t.Context(), start, 1<<20); err != nil {
			t.Error(err)
		}
	})
}
