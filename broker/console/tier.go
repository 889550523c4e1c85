package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// TierCheck asks for a check of what is in the object store.
type TierCheck struct {
	Topic  string // all without it
	Repair bool
	Quick  bool  // fsck: no HEAD for each object
	Rate   int64 // verify: bytes a second, 0 = unlimited
}

// TierLine is one line of the answer to a check, which is JSON lines: problems as they are found, now and then how
// far it is, at the end a summary or an error, or both.
type TierLine struct {
	Problem  any    `json:"problem,omitempty"`
	Progress any    `json:"progress,omitempty"`
	Summary  any    `json:"summary,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Undeleted is a topic that came back.
type Undeleted struct {
	Topic      string               `json:"topic"`
	TopicID    string               `json:"topic_id"`
	Deleted    time.Time            `json:"deleted"`
	Partitions []UndeletedPartition `json:"partitions"`
}

// UndeletedPartition says what came back of a partition.
type UndeletedPartition struct {
	Partition   int32 `json:"partition"`
	Leader      int32 `json:"leader"`       // -1: no replica lives
	StartOffset int64 `json:"start_offset"` // of the tier; -1: it had nothing
	// LostFrom is the tier's end: records from it on come back only if the leader still has its files.
	LostFrom int64 `json:"lost_from"`
}

// KeptLogs are the partitions that an operator has decided for the logs of.
type KeptLogs struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// progressPause is the least time between two lines of progress.
const progressPause = 500 * time.Millisecond

// tierRoutes are the long checks and what changes something.
func (s *Server) tierRoutes() {
	s.checkRoutes("fsck", s.o.Fsck)
	s.checkRoutes("verify", s.o.Verify)
	if s.o.Undelete != nil {
		s.mux.Handle("POST /api/v1/topics/undelete", s.bounded(s.changing(func(w http.ResponseWriter, r *http.Request) {
			out, err := s.o.Undelete(r.Context(), r.URL.Query().Get("topic"))
			if err != nil {
				answer(w, statusOf(err), problem{Error: err.Error()})
				return
			}
			answer(w, http.StatusOK, out)
		})))
	}
	if s.o.KeepLog != nil {
		s.mux.Handle("POST /api/v1/tier/adopt", s.bounded(s.changing(s.keepLog)))
	}
}

func (s *Server) keepLog(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	var partitions []int32
	for _, text := range v["partition"] {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			answer(w, http.StatusBadRequest, problem{Error: "partition: want the number of a partition"})
			return
		}
		partitions = append(partitions, int32(n))
	}
	out, err := s.o.KeepLog(r.Context(), v.Get("topic"), partitions)
	if err != nil {
		answer(w, statusOf(err), problem{Error: err.Error()})
		return
	}
	answer(w, http.StatusOK, out)
}

// checkRoutes registers a check: GET looks, POST repairs too.
func (s *Server) checkRoutes(name string, run func(context.Context, TierCheck, func(TierLine)) error) {
	if run == nil {
		return
	}
	handle := func(repair bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			q, err := tierCheck(r, repair)
			if err != nil {
				answer(w, statusOf(err), problem{Error: err.Error()})
				return
			}
			end, busy, took := s.check.begin(name)
			if end == nil {
				answer(w, http.StatusConflict, problem{Error: "a " + busy + " runs here for " + took.Round(time.Second).String() + ": one check at a time"})
				return
			}
			defer end()
			streamed(w, r, func(line func(TierLine)) error { return run(r.Context(), q, line) })
		}
	}
	s.mux.HandleFunc("GET /api/v1/tier/"+name, s.deliberate(handle(false))) // unbounded: it lasts as long as the client waits
	s.mux.HandleFunc("POST /api/v1/tier/"+name, s.changing(handle(true)))
}

func tierCheck(r *http.Request, repair bool) (TierCheck, error) {
	v := r.URL.Query()
	q := TierCheck{Topic: v.Get("topic"), Repair: repair, Quick: v.Get("quick") == "true"}
	if text := v.Get("rate"); text != "" {
		var err error
		if q.Rate, err = strconv.ParseInt(text, 10, 64); err != nil || q.Rate < 0 {
			return q, badRequest{"rate: want bytes a second"}
		}
	}
	return q, nil
}

// streamed answers JSON lines. Before the first line an error can still have its status.
func streamed(w http.ResponseWriter, r *http.Request, run func(func(TierLine)) error) {
	out := http.NewResponseController(w)
	e := json.NewEncoder(w)
	var mu sync.Mutex
	begun := false
	var last time.Time
	line := func(l TierLine) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if l.Progress != nil && now.Sub(last) < progressPause {
			return
		}
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson; charset=utf-8")
			begun = true
		}
		if l.Progress != nil {
			last = now
		}
		_ = out.SetWriteDeadline(now.Add(30 * time.Second)) // a test's recorder has none
		_ = e.Encode(l)                                     // the client is gone: r's context ends the run
		_ = out.Flush()
	}
	err := run(line)
	switch {
	case err == nil || r.Context().Err() != nil:
	case !begun:
		answer(w, statusOf(err), problem{Error: err.Error()})
	default:
		line(TierLine{Error: err.Error()})
	}
}
