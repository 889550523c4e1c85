package segment

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Files that are not what was written.

// harm changes a file of the test's log.
func harm(t *testing.T, mem *vfs.Mem, name string, change func(f vfs.File) error) {
	t.Helper()
	f, err := mem.OpenReadWrite("/data/orders-3/" + name)
	noError(t, err)
	noError(t, errors.Join(change(f), f.Close()))
}

func truncated(size int64) func(vfs.File) error {
	return func(f vfs.File) error { return f.Truncate(size) }
}

// TestShortSealedSegmentIsFound: a sealed segment that lost its end, or all of it, is
// neither skipped by readers nor uploaded as if it were whole, and can be cut where
// it is sound.
func TestShortSealedSegmentIsFound(t *testing.T) {
	one := int64(len(plain(1, "a")))
	for _, keep := range []int64{0, one, one + 9} {
		mem := vfs.NewMem()
		d := openDir(t, mem)
		l := openLog(t, d, Config{})
		for range 3 {
			mustAppend(t, l, 0, plain(1, "a"))
			mustAppend(t, l, 0, plain(1, "a"))
			noError(t, l.Roll())
		}
		l.SetHighWatermark(6)
		noError(t, d.Close())
		harm(t, mem, fileName(2, logSuffix), truncated(keep))
		l, err := reopen(mem, t)
		noError(t, err)
		var lost *DamageError
		if _, err := l.Read(3, ReadOptions{UpTo: 6, MaxBytes: 1000, MinOne: true}); !errors.As(err, &lost) {
			t.Fatalf("%d bytes left: read with %v", keep, err)
		}
		if want := 2 + min(keep/one, 1); lost.Offset != want || lost.End != 4 || !strings.HasSuffix(lost.Path, fileName(2, logSuffix)) || !errors.Is(lost, ErrCorrupt) {
			t.Errorf("%d bytes left: %v, want offset %d", keep, lost, want)
		}
		if _, err := l.OpenSealed(2); !errors.As(err, &lost) {
			t.Errorf("%d bytes left: opened to be uploaded with %v", keep, err)
		}
		if s := l.Sealed(0); len(s) != 3 || !errors.As(s[1].StatsErr, &lost) {
			t.Errorf("%d bytes left: listed as %+v", keep, s)
		}
		noError(t, l.CutDamage(lost))
		if l.LogEnd() != lost.Offset || len(values(t, l, 0)) != int(lost.Offset) {
			t.Errorf("%d bytes left: log end %d after it was cut at %d", keep, l.LogEnd(), lost.Offset)
		}
	}
}

// TestSegmentThatShrinksWhileItIsOpenIsNotUploadedWhole: the scan before the upload
// counts.
func TestSegmentThatShrinksWhileItIsOpenIsNotUploadedWhole(t *testing.T) {
	mem := vfs.NewMem()
	l := filled(t, mem, Config{}, 2)
	s, err := l.OpenSealed(0)
	noError(t, err)
	defer s.Release()
	harm(t, mem, fileName(0, logSuffix), truncated(10))
	if err := s.Scan(func(record.Batch, int64) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

// TestDamageBelowTheHighWatermarkIsNotCut: what was committed is not cut in silence
// although it lies behind the recovery point, and whoever can get it elsewhere may say so.
func TestDamageBelowTheHighWatermarkIsNotCut(t *testing.T) {
	one := int64(len(plain(1, "a")))
	for name, change := range map[string]func(vfs.File) error{
		"changed": func(f vfs.File) error { _, err := f.WriteAt([]byte{0xff}, one+65); return err },
		"short":   truncated(one + 30),
		"fewer":   truncated(one),
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			d := openDir(t, mem)
			l := openLog(t, d, Config{})
			for range 5 {
				mustAppend(t, l, 0, plain(1, "a"))
			}
			noError(t, l.Sync())
			l.SetHighWatermark(5)
			noError(t, d.persist(markHighWatermark))
			mem = killed(mem)
			harm(t, mem, fileName(0, logSuffix), change)
			_, err := reopen(mem, t)
			var lost *DamageError
			if !errors.As(err, &lost) || lost.Offset != 1 || lost.End != 5 || lost.Pos != one || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("opened with %v", err)
			}
			mem = killed(mem)
			d = openDir(t, mem)
			l, err = d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, CutDamage: true})
			if err != nil || l.LogEnd() != 1 || l.HighWatermark() != 1 {
				t.Fatalf("opened to be healed with %v", err)
			}
			mustAppend(t, l, 0, plain(1, "b"))
			noError(t, l.Sync())
			noError(t, d.Checkpoint())
			if l, err := reopen(killed(mem), t); err != nil || l.LogEnd() != 2 {
				t.Fatalf("opened after that with %v", err)
			}
		})
	}
}

// TestHighWatermarkOnDiskIsDurable: a log that ends below the high watermark on disk
// has lost records, so nothing that is not durable may be below it.
func TestHighWatermarkOnDiskIsDurable(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	l := openLog(t, d, Config{})
	mustAppend(t, l, 0, plain(1, "a"))
	noError(t, l.Sync())
	mustAppend(t, l, 0, plain(1, "b"))
	l.SetHighWatermark(2)
	noError(t, d.persist(markHighWatermark))
	if l, err := reopen(unsynced(mem), t); err != nil || l.LogEnd() != 1 || l.HighWatermark() != 1 {
		t.Fatalf("opened with %v", err)
	}
}

// TestTransactionIndexIsMadeAnew: whatever happens to a transaction index, aborted
// records stay aborted.
func TestTransactionIndexIsMadeAnew(t *testing.T) {
	for name, change := range map[string]func(vfs.File) error{
		"torn":      truncated(10),
		"empty":     truncated(0),
		"cut":       truncated(txnEntryLen),
		"too large": truncated(maxTxnIndex + txnEntryLen),
		"huge":      truncated((1 << 31) * txnEntryLen),
		"changed":   func(f vfs.File) error { _, err := f.WriteAt([]byte{9}, 12); return err },
		"missing":   nil,
	} {
		for _, how := range []string{"clean", "killed", "sealed"} {
			t.Run(name+" "+how, func(t *testing.T) {
				mem := vfs.NewMem()
				d := openDir(t, mem)
				l := openLog(t, d, Config{})
				mustAppend(t, l, 0, inTxn(1, 0, 0, "x"))
				endTxn(t, l, 1, 0, false)
				mustAppend(t, l, 0, inTxn(1, 0, 1, "y"))
				endTxn(t, l, 1, 0, false)
				noError(t, l.Sync())
				want, err := l.AbortedTransactions(0, 4)
				if err != nil || len(want) != 2 {
					t.Fatalf("%+v, %v", want, err)
				}
				noError(t, d.Checkpoint())
				if how == "sealed" {
					noError(t, l.Roll())
				}
				if how == "killed" {
					mem = killed(mem)
				} else {
					noError(t, d.Close())
				}
				if change != nil {
					harm(t, mem, fileName(0, txnSuffix), change)
				} else {
					noError(t, mem.Remove("/data/orders-3/"+fileName(0, txnSuffix)))
				}
				for range 2 {
					d = openDir(t, mem)
					l = openLog(t, d, Config{})
					got, err := l.AbortedTransactions(0, 4)
					if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] || d.Offline() != nil {
						t.Fatalf("got %+v, %v, want %+v; directory: %v", got, err, want, d.Offline())
					}
					noError(t, d.Close())
				}
				if info, err := mem.Stat("/data/orders-3/" + fileName(0, txnSuffix)); err != nil || info.Size != 2*txnEntryLen {
					t.Errorf("the file has %d bytes, %v", info.Size, err)
				}
			})
		}
	}
}

// TestDerivedFilesAreMadeAnew: indexes and snapshots that are missing, short, empty
// or huge are found. A short time index must not make records look older.
func TestDerivedFilesAreMadeAnew(t *testing.T) {
	changes := map[string]func(vfs.File) error{
		"empty": truncated(0), "torn": truncated(7), "one entry": truncated(timeEntryLen), "two entries": truncated(2 * timeEntryLen),
		"huge": truncated(1 << 40), "missing": nil,
	}
	for _, how := range []string{"clean", "killed"} {
		for _, suffix := range []string{indexSuffix, timeSuffix, snapshotSuffix} {
			for name, change := range changes {
				t.Run(strings.Join([]string{how, suffix, name}, " "), func(t *testing.T) {
					mem := vfs.NewMem()
					d := openDir(t, mem)
					cfg := Config{IndexIntervalBytes: 1, ProducerExpiration: 1 << 62}
					l := openLog(t, d, cfg)
					for i := range int64(12) {
						mustAppend(t, l, 0, idempotent(5, int32(i), "a"))
						mustAppend(t, l, 0, plain(1000*i, "b"))
						if i == 5 {
							noError(t, l.Roll())
						}
					}
					noError(t, l.Sync())
					noError(t, d.Checkpoint())
					bases := []int64{0, 12}
					if suffix == snapshotSuffix {
						bases = []int64{12}
					}
					if how == "clean" {
						noError(t, d.Close())
					} else {
						mem = killed(mem)
					}
					for _, base := range bases {
						if change == nil {
							noError(t, mem.Remove("/data/orders-3/"+fileName(base, suffix)))
						} else {
							harm(t, mem, fileName(base, suffix), change)
						}
					}
					l = openLog(t, openDir(t, mem), cfg)
					checkDerived(t, l)
					if got := values(t, l, 0); len(got) != 24 {
						t.Errorf("%d records", len(got))
					}
				})
			}
		}
	}
}

// TestLineageIsMadeAnew from the records, where it is not that of records that are in
// the tier only.
func TestLineageIsMadeAnew(t *testing.T) {
	for name, change := range map[string]func(vfs.File) error{
		"empty": truncated(0), "torn": truncated(7), "huge": truncated(1 << 40), "missing": nil,
	} {
		for _, clean := range []bool{false, true} {
			for _, tiered := range []bool{false, true} {
				mem := vfs.NewMem()
				d := openDir(t, mem)
				cfg := Config{RemoteEnabled: tiered}
				l := openLog(t, d, cfg)
				for i := range int32(6) {
					mustAppend(t, l, i/2, plain(1, "a"))
					if i == 2 {
						noError(t, l.Roll())
					}
				}
				noError(t, l.Sync())
				l.SetHighWatermark(6)
				if tiered {
					_, err := l.ExpireLocal(t0, 2, true)
					noError(t, err)
				}
				noError(t, d.Checkpoint())
				want := l.LeaderEpochs()
				if clean {
					noError(t, d.Close())
				} else {
					mem = killed(mem)
				}
				if change == nil {
					noError(t, mem.Remove("/data/orders-3/"+leaderEpochFile))
				} else {
					harm(t, mem, leaderEpochFile, change)
				}
				l, err := openDir(t, mem).OpenLog(LogOptions{TopicPartition: testTP, TopicID: testID, Config: cfg})
				switch {
				case tiered && change == nil:
					// Nobody can tell it from a log that never had one.
				case tiered && !errors.Is(err, ErrCorrupt):
					t.Errorf("%s, clean %v: opened although it lacks epochs of the tier: %v", name, clean, err)
				case !tiered && (err != nil || !slices.Equal(l.LeaderEpochs(), want)):
					t.Errorf("%s, clean %v: %v, want %v", name, clean, err, want)
				}
			}
		}
	}
}

// TestDirectoryOfAnotherTopicIsPutAside: a topic that was deleted and made again
// while the broker was away gets its log, and what was there can be looked at.
func TestDirectoryOfAnotherTopicIsPutAside(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	mustAppend(t, openLog(t, d, Config{}), 0, plain(1, "a"))
	noError(t, d.Close())
	id := testID
	id[0]++
	var said bytes.Buffer
	d, err := OpenDir(DirOptions{FS: mem, Path: "/data", Logger: slog.New(slog.NewTextHandler(&said, nil))})
	noError(t, err)
	l, err := d.OpenLog(LogOptions{TopicPartition: testTP, TopicID: id})
	if err != nil || l.LogEnd() != 0 || !strings.Contains(said.String(), "put aside") {
		t.Fatalf("opened with %v; said %s", err, &said)
	}
	names, err := mem.List("/data")
	noError(t, err)
	found := false
	for _, n := range names {
		if strings.HasPrefix(n, "orders-3.") && strings.HasSuffix(n, strayDirSuffix) {
			_, err := mem.Stat("/data/" + n + "/" + fileName(0, logSuffix))
			found = err == nil
		}
	}
	if !found {
		t.Errorf("nothing of the other topic in %v", names)
	}
	mem = mem.Crash(rand.New(rand.NewSource(1)), 0)
	if got := len(openDir(t, mem).Partitions()); got != 1 {
		t.Errorf("%d partitions after a restart", got)
	}
}

func TestStableOffsetIsNotBelowTheLogStart(t *testing.T) {
	l := openLog(t, openDir(t, vfs.NewMem()), Config{Delete: true})
	mustAppend(t, l, 0, inTxn(1, 0, 0, "x"))
	for range 9 {
		mustAppend(t, l, 0, plain(1, "a"))
	}
	l.SetHighWatermark(10)
	noError(t, l.SetLogStart(8))
	checkInvariants(t, l)
	if l.LastStableOffset() < l.LogStart() {
		t.Errorf("last stable offset %d below log start %d", l.LastStableOffset(), l.LogStart())
	}
}

// TestRetentionWithoutUsableTimestamps goes by the time of the file, says so where
// the timestamps lie in the future, and keeps what it cannot judge.
func TestRetentionWithoutUsableTimestamps(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		timestamp int64
		says      bool
	}{
		"absent":        {record.NoTimestamp, false},
		"before 1970":   {-5000, false},
		"in the future": {now.Add(1000 * time.Hour).UnixMilli(), true},
		"far away":      {1 << 62, true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			var said bytes.Buffer
			d, err := OpenDir(DirOptions{FS: mem, Path: "/data", Logger: slog.New(slog.NewTextHandler(&said, nil))})
			noError(t, err)
			l := openLog(t, d, Config{Delete: true, RetentionAge: 7 * 24 * time.Hour, RetentionBytes: -1})
			for range 3 {
				b := record.NewBuilder(record.BuilderOptions{})
				b.Append(c.timestamp, nil, []byte("a"))
				_, err := l.AppendAsFollower(at(b.Build(), l.LogEnd()), 0)
				noError(t, err)
				noError(t, l.Roll())
			}
			l.SetHighWatermark(3)
			for _, step := range []struct {
				later time.Duration
				want  int64
			}{{6 * 24 * time.Hour, 0}, {8 * 24 * time.Hour, 3}} {
				for range 2 {
					if _, err := l.ExpireLocal(now.Add(step.later), -1, true); err != nil {
						t.Fatal(err)
					}
				}
				if l.LogStart() != step.want {
					t.Errorf("after %v: log start %d, want %d", step.later, l.LogStart(), step.want)
				}
			}
			if got := strings.Count(said.String(), "lies in the future"); got > 3 || (got > 0) != c.says {
				t.Errorf("said %d times: %s", got, &said)
			}
		})
	}
}

// at gives a batch its offset, as a leader does.
func at(b record.Batch, offset int64) record.Batch {
	b.SetBaseOffset(offset)
	b.SetLeaderEpoch(0)
	return b
}
