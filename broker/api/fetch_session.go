package api

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// Fetch sessions (KIP-227): a client that fetches the same partitions again and
// again names only what changed, and is told only what changed.

// Epochs with a meaning of their own.
const (
	initialEpoch = 0  // make a session
	finalEpoch   = -1 // no session, and close the one named
)

// sessionIdle is min.incremental.fetch.session.eviction.ms: a session idle for
// that long gives its slot to a new one.
const sessionIdle = 2 * time.Minute

// sessionPartition is what a session remembers of one partition.
type sessionPartition struct {
	id           metadata.TopicIDPartition
	name         metadata.TopicPartition // Topic is empty while the id is not known
	offset       int64
	maxBytes     int32
	currentEpoch int32
	fetchedEpoch int32
	// what the client was last told
	highWatermark int64
	logStart      int64
	failed        bool
}

// fetchSession is one client's set of partitions. Its fields but id are guarded
// by mu, which is not held while a fetch waits.
type fetchSession struct {
	id       int32
	usesIDs  bool
	mu       sync.Mutex
	epoch    int32 // of the next request
	parts    []*sessionPartition
	byName   map[metadata.TopicPartition]*sessionPartition
	byID     map[metadata.TopicIDPartition]*sessionPartition
	used     time.Time
	position *list.Element
}

// sessionCache holds at most slots sessions; the longest idle one is evicted.
type sessionCache struct {
	slots int
	mu    sync.Mutex
	byID  map[int32]*fetchSession
	lru   *list.List // of *fetchSession, longest idle first
}

func newSessionCache(slots int) *sessionCache {
	return &sessionCache{slots: slots, byID: make(map[int32]*fetchSession), lru: list.New()}
}

// add makes room for s and gives it an id; 0 when the cache is full of busy sessions.
func (sc *sessionCache) add(s *fetchSession, now time.Time) int32 {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if len(sc.byID) >= sc.slots {
		oldest := sc.lru.Front()
		if oldest == nil || now.Sub(oldest.Value.(*fetchSession).used) < sessionIdle {
			return 0
		}
		sc.removeLocked(oldest.Value.(*fetchSession))
	}
	for s.id == 0 || sc.byID[s.id] != nil {
		s.id = rand.Int32()
	}
	s.used = now
	s.position = sc.lru.PushBack(s)
	sc.byID[s.id] = s
	return s.id
}

func (sc *sessionCache) removeLocked(s *fetchSession) {
	delete(sc.byID, s.id)
	sc.lru.Remove(s.position)
}

func (sc *sessionCache) remove(id int32) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if s := sc.byID[id]; s != nil {
		sc.removeLocked(s)
	}
}

// get finds a session and marks it used.
func (sc *sessionCache) get(id int32, now time.Time) *fetchSession {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	s := sc.byID[id]
	if s != nil {
		s.used = now
		sc.lru.MoveToBack(s.position)
	}
	return s
}

// fetchContext is the set of partitions one request fetches.
type fetchContext struct {
	session     *fetchSession // nil without a session
	sessionID   int32
	incremental bool // only what changed is answered
	parts       []*sessionPartition
}

// open finds what the request fetches, or an error code for its top level.
func (a *API) openFetch(req *kmsg.FetchRequest, now time.Time) (*fetchContext, int16) {
	if req.Version < 7 || req.SessionEpoch == finalEpoch || req.SessionEpoch == initialEpoch {
		if req.Version >= 7 && req.SessionID != 0 {
			a.sessions.remove(req.SessionID)
		}
		s := newFetchSession(req.Version >= 13)
		a.mergeSession(s, req)
		fc := &fetchContext{parts: s.parts}
		if req.Version >= 7 && req.SessionEpoch == initialEpoch && len(s.parts) > 0 {
			if fc.sessionID = a.sessions.add(s, now); fc.sessionID != 0 {
				s.epoch = 1
				fc.session = s
			}
		}
		return fc, 0
	}
	s := a.sessions.get(req.SessionID, now)
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usesIDs != (req.Version >= 13) {
		return nil, kerr.FetchSessionTopicIDError.Code
	}
	if req.SessionEpoch != s.epoch {
		return nil, kerr.InvalidFetchSessionEpoch.Code
	}
	if s.epoch++; s.epoch <= 0 {
		s.epoch = 1
	}
	a.mergeSession(s, req)
	if len(s.parts) == 0 {
		a.sessions.remove(s.id)
		return &fetchContext{}, 0
	}
	// The fetch works on its own slice; the partitions belong to the session,
	// which one request at a time uses.
	return &fetchContext{session: s, sessionID: s.id, incremental: true, parts: append([]*sessionPartition(nil), s.parts...)}, 0
}

func newFetchSession(usesIDs bool) *fetchSession {
	return &fetchSession{usesIDs: usesIDs, byName: make(map[metadata.TopicPartition]*sessionPartition), byID: make(map[metadata.TopicIDPartition]*sessionPartition)}
}

// mergeSession adds, updates and forgets what the request says.
func (a *API) mergeSession(s *fetchSession, req *kmsg.FetchRequest) {
	img := a.o.Metadata.Image()
	for i := range req.Topics {
		t := &req.Topics[i]
		name := t.Topic
		if s.usesIDs {
			if topic, ok := img.TopicByID(t.TopicID); ok {
				name = topic.Name
			}
		}
		for j := range t.Partitions {
			s.put(name, t.TopicID, &t.Partitions[j])
		}
	}
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, n := range t.Partitions {
			s.forget(metadata.TopicPartition{Topic: t.Topic, Partition: n}, metadata.TopicIDPartition{Topic: t.TopicID, Partition: n})
		}
	}
}

func (s *fetchSession) put(name string, id metadata.TopicID, q *kmsg.FetchRequestTopicPartition) {
	tip := metadata.TopicIDPartition{Topic: id, Partition: q.Partition}
	tp := metadata.TopicPartition{Topic: name, Partition: q.Partition}
	p := s.byName[tp]
	if s.usesIDs {
		p = s.byID[tip]
	}
	if p == nil {
		p = &sessionPartition{id: tip, highWatermark: -1, logStart: -1}
		s.parts = append(s.parts, p)
		if s.usesIDs {
			s.byID[tip] = p
		} else {
			s.byName[tp] = p
		}
	}
	p.name = tp
	p.offset, p.maxBytes = q.FetchOffset, q.PartitionMaxBytes
	p.currentEpoch, p.fetchedEpoch = q.CurrentLeaderEpoch, q.LastFetchedEpoch
}

func (s *fetchSession) forget(tp metadata.TopicPartition, tip metadata.TopicIDPartition) {
	var p *sessionPartition
	if s.usesIDs {
		p = s.byID[tip]
		delete(s.byID, tip)
	} else {
		p = s.byName[tp]
		delete(s.byName, tp)
	}
	for i := range s.parts {
		if s.parts[i] == p && p != nil {
			s.parts = append(s.parts[:i:i], s.parts[i+1:]...)
			return
		}
	}
}

// rotate moves the partitions that gave data behind the others, so that each
// gets its turn when the response is full.
func (s *fetchSession) rotate(gave map[*sessionPartition]bool) {
	if len(gave) == 0 || len(gave) == len(s.parts) && len(gave) == 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make([]*sessionPartition, 0, len(s.parts))
	for _, p := range s.parts {
		if !gave[p] {
			next = append(next, p)
		}
	}
	for _, p := range s.parts {
		if gave[p] {
			next = append(next, p)
		}
	}
	s.parts = next
}
