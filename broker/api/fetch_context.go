package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/replica"
)

// Epochs of a fetch session with a meaning of their own.
const (
	initialEpoch = 0  // make a session
	finalEpoch   = -1 // no session, and close the one named
)

// fetchContext is what one request fetches, and in which session.
type fetchContext struct {
	targets []fetchTarget
	create  bool          // a session is made of what is answered
	session *fetchSession // of an incremental fetch, else nil
	id      int32         // of session
	epoch   int32         // of session, after this request

	plan    *replica.FetchRequest
	answers []fetchAnswer // to targets; those that the plan does not name have theirs already
}

// fetchAnswer is one partition of a fetch response.
type fetchAnswer struct {
	fetchTarget
	named  sessionKey // as the request named it
	code   int16
	leader *leaderHint
	replica.FetchResult
}

// openFetch finds what the request fetches, or an error code for its top level:
// FetchManager.newContext.
func (a *API) openFetch(req *kmsg.FetchRequest, now time.Time) (*fetchContext, int16) {
	full := req.SessionEpoch == initialEpoch || req.SessionEpoch == finalEpoch
	if req.Version < 7 || full {
		if req.Version >= 7 && req.SessionID != 0 {
			a.sessions.remove(req.SessionID)
		}
		fc := &fetchContext{targets: fullTargets(req)}
		img := a.o.Metadata.Image()
		for i := range fc.targets {
			fc.targets[i].resolve(img)
		}
		fc.create = req.Version >= 7 && req.SessionEpoch == initialEpoch && len(fc.targets) > 0 && !badName(req)
		return fc, 0
	}
	s := a.sessions.get(req.SessionID)
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.SessionEpoch != s.epoch {
		return nil, kerr.InvalidFetchSessionEpoch.Code
	}
	if s.usesIDs != (req.Version >= 13) {
		return nil, kerr.FetchSessionTopicIDError.Code
	}
	if badName(req) {
		a.sessions.remove(req.SessionID) // the client begins again, and gets no session
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	s.merge(req)
	if len(s.parts) == 0 {
		a.sessions.remove(req.SessionID)
		return &fetchContext{}, 0
	}
	if !a.sessions.touch(s, now) {
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	if s.epoch++; s.epoch <= 0 {
		s.epoch = 1
	}
	return &fetchContext{targets: s.targets(a.o.Metadata.Image()), session: s, id: req.SessionID, epoch: s.epoch}, 0
}

// fullTargets are the partitions that a request names. What it says last of one
// counts, where it named it first.
func fullTargets(req *kmsg.FetchRequest) []fetchTarget {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	targets := make([]fetchTarget, 0, n)
	var at map[sessionKey]int
	if n > 1 {
		at = make(map[sessionKey]int, n)
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			target := targetOf(t, &t.Partitions[j])
			if first, again := at[target.key()]; again {
				targets[first] = target
				continue
			}
			if at != nil {
				at[target.key()] = len(targets)
			}
			targets = append(targets, target)
		}
	}
	return targets
}

// settle decides which partitions the response names, all of a full fetch, of
// an incremental one those with something new, and under which session.
func (a *API) settle(req *kmsg.FetchRequest, fc *fetchContext, answers []fetchAnswer, now time.Time) (out []fetchAnswer, sessionID int32, code int16) {
	if fc.create {
		s := newFetchSession(req.Version >= 13, isFollower(req))
		for i := range answers {
			t := fc.targets[i]
			s.put(t)
			s.told(&answers[i])
		}
		s.rotateFresh()
		return answers, a.sessions.add(s, now), 0
	}
	if fc.session == nil {
		return answers, 0, 0
	}
	s := fc.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != fc.epoch {
		// Another request of the session came in between: what this one would
		// say, the client could not place.
		release(answers)
		return nil, fc.id, kerr.InvalidFetchSessionEpoch.Code
	}
	out = answers[:0:len(answers)]
	gave := false
	for i := range answers {
		f := answers[i]
		gave = gave || f.Data != nil
		if s.told(&f) {
			out = append(out, f)
		}
	}
	if gave && len(s.parts) > 1 {
		s.rotate()
	}
	return out, fc.id, 0
}

// rotateFresh forgets who gave data in the fetch that made the session: Kafka
// keeps the order of that request.
func (s *fetchSession) rotateFresh() {
	for _, p := range s.parts {
		p.gave = false
	}
}

// release lets go of answers that are not sent.
func release(answers []fetchAnswer) {
	for i := range answers {
		if answers[i].Data != nil {
			answers[i].Data.Release()
		}
	}
}

func isFollower(req *kmsg.FetchRequest) bool { return replicaOf(req) >= 0 }
