package producer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs the scripts of testdata. A script drives one partition:
//
//	append pid=P epoch=E seq=F[-L] [n=records] [ts=ms] [txn] [broker] [guard=G|must-verify]
//	    checks and, if allowed, appends a batch at the end of the log
//	replicate …         the same without checks, as a follower does
//	marker pid=P epoch=E (commit|abort) [coordinator=C] [ts=ms] [tv=V]
//	verify pid=P epoch=E seq=F [bump]
//	hw OFFSET · start OFFSET · expire now=ms · late now=ms
//	reload [now=ms]     snapshot, then restore from it
//	state
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{m: NewManager(time.Minute, time.Hour)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			var out strings.Builder
			if d.Cmd == "run" {
				for _, line := range strings.Split(d.Input, "\n") {
					cmd, args, err := datadriven.ParseLine(line)
					if err != nil {
						t.Fatal(err)
					}
					s.d = &datadriven.TestData{Pos: d.Pos, Cmd: cmd, CmdArgs: args}
					fmt.Fprintf(&out, "%s\n", s.step())
				}
				return out.String()
			}
			return s.step() + "\n"
		})
	})
}

type script struct {
	t   *testing.T
	d   *datadriven.TestData
	m   *Manager
	end int64
}

func (s *script) int(key string, dflt int64) int64 {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &dflt)
	}
	return dflt
}

func (s *script) step() string {
	switch s.d.Cmd {
	case "append", "replicate":
		return s.append(s.d.Cmd == "append")
	case "marker":
		return s.marker()
	case "verify":
		g := s.m.StartVerification(s.int("pid", 0), int16(s.int("epoch", 0)), int32(s.int("seq", 0)), s.d.HasArg("bump"), time.UnixMilli(0))
		return fmt.Sprintf("guard %d", g)
	case "hw":
		s.m.OnHighWatermark(s.int("at", 0))
		return s.unstable()
	case "start":
		s.m.OnLogStart(s.int("at", 0))
		return fmt.Sprintf("end %d, %s", s.m.End(), s.unstable())
	case "expire":
		return fmt.Sprintf("%d forgotten", s.m.Expire(time.UnixMilli(s.int("now", 0))))
	case "late":
		return fmt.Sprint(s.m.HasLateTransaction(time.UnixMilli(s.int("now", 0))))
	case "reload":
		return s.reload()
	case "state":
		return s.state()
	}
	s.t.Fatalf("%s: unknown command %q", s.d.Pos, s.d.Cmd)
	return ""
}

func (s *script) batch() BatchInfo {
	var seq string
	s.d.ScanArgs(s.t, "seq", &seq)
	b := BatchInfo{
		ProducerID: s.int("pid", 0), Epoch: int16(s.int("epoch", 0)), Timestamp: s.int("ts", 1000),
		Transactional: s.d.HasArg("txn"), FirstOffset: s.end,
		MustVerify: s.d.HasArg("guard") || s.d.HasArg("must-verify"), Guard: Guard(s.int("guard", 0)),
	}
	n := s.int("n", 1)
	if _, err := fmt.Sscanf(seq, "%d..%d", &b.FirstSequence, &b.LastSequence); err == nil {
		n = distance(b.FirstSequence, b.LastSequence) + 1
	} else if _, err := fmt.Sscanf(seq, "%d", &b.FirstSequence); err == nil {
		b.LastSequence = b.FirstSequence
	} else {
		s.t.Fatalf("%s: seq %q", s.d.Pos, seq)
	}
	b.LastOffset = b.FirstOffset + n - 1
	return b
}

func (s *script) append(check bool) string {
	b := s.batch()
	if check {
		v, err := s.m.Check(b, !s.d.HasArg("broker"))
		all, allErr := s.m.CheckAll([]BatchInfo{{ProducerID: -1}, b}, !s.d.HasArg("broker"))
		if all != v || fmt.Sprint(err) != fmt.Sprint(allErr) {
			s.t.Errorf("Check = %v, %v; CheckAll = %v, %v", v, err, all, allErr)
		}
		if err != nil {
			return kind(err)
		}
		if v.Duplicate {
			return fmt.Sprintf("duplicate of %d-%d", v.Of.FirstOffset, v.Of.LastOffset)
		}
	}
	s.m.Update(b)
	s.end = b.LastOffset + 1
	return fmt.Sprintf("at %d-%d, %s", b.FirstOffset, b.LastOffset, s.unstable())
}

func (s *script) marker() string {
	k := Marker{
		ProducerID: s.int("pid", 0), Epoch: int16(s.int("epoch", 0)),
		CoordinatorEpoch: int32(s.int("coordinator", 0)), TransactionVersion: int16(s.int("tv", 0)),
	}
	if err := s.m.CheckEndTxn(k); err != nil {
		return kind(err)
	}
	done, err := s.m.EndTxn(k.ProducerID, k.Epoch, s.d.HasArg("commit"), k.CoordinatorEpoch, s.end, s.int("ts", 1000))
	if err != nil {
		return err.Error()
	}
	s.end++
	out := fmt.Sprintf("at %d", s.end-1)
	if done != nil {
		out += fmt.Sprintf(", ended %d-%d aborted=%v stable=%d", done.FirstOffset, done.LastOffset, done.Aborted, done.LastStableOffset)
	}
	return out + ", " + s.unstable()
}

func (s *script) unstable() string {
	if at, ok := s.m.FirstUnstableOffset(); ok {
		return fmt.Sprintf("unstable from %d", at)
	}
	return "stable"
}

func (s *script) reload() string {
	end := s.m.End()
	snapshot := s.m.Snapshot()
	states, err := LoadSnapshot(snapshot)
	if err != nil {
		s.t.Fatal(err)
	}
	var now time.Time
	if s.d.HasArg("now") {
		now = time.UnixMilli(s.int("now", 0))
	}
	s.m.Restore(states, end, now)
	return fmt.Sprintf("%d producers, end %d, %s", s.m.Len(), s.m.End(), s.unstable())
}

func (s *script) state() string {
	var out strings.Builder
	for _, p := range s.m.Producers() {
		fmt.Fprintf(&out, "pid=%d epoch=%d seq=%d offset=%d ts=%d coordinator=%d txn=%d\n", p.ProducerID, p.Epoch,
			p.LastSequence, p.LastOffset, p.LastTimestamp, p.CoordinatorEpoch, p.TxnFirstOffset)
	}
	return out.String() + fmt.Sprintf("end %d, %s", s.m.End(), s.unstable())
}

func kind(err error) string {
	for _, k := range []error{
		ErrOutOfOrderSequence, ErrDuplicateSequence, ErrInvalidProducerEpoch, ErrInvalidTxnState, ErrTransactionCoordinatorFenced,
	} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return "unexpected: " + err.Error()
}
