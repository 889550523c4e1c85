package api

import (
	"container/list"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// Fetch sessions (KIP-227): a client that fetches the same partitions again and
// again names only what changed, and is told only what changed.

const (
	// sessionIdle is Kafka's constant for how long a session must be idle, or at
	// least old, before it may lose its slot to a new one.
	sessionIdle = 2 * time.Minute
	// sessionExpiry is how long a session is remembered that nobody uses: the
	// connection of its client has been idle for connections.max.idle.ms by then.
	sessionExpiry = 10 * time.Minute
	// maxSessionShare is the part of the cache's bytes that one session may take.
	maxSessionShare = 4
	// sessionPartitionBytes is what a session takes for a partition, beside the
	// name of its topic: the partition, and its places in the list and the map.
	sessionPartitionBytes = int64(unsafe.Sizeof(sessionPartition{})+2*unsafe.Sizeof(sessionKey{})) + 48
)

// fetchTarget is one partition that a request fetches. It is a copy: what
// requests of one session change does not disturb those under way.
type fetchTarget struct {
	topic        string           // "" where the request names topics by id
	id           metadata.TopicID // zero where the request names topics by name
	known        string           // the name of the topic with that id, since there was one
	partition    int32
	offset       int64
	maxBytes     int32
	currentEpoch int32
	fetchedEpoch int32
	replicaStart int64 // of a follower's log
}

func (t *fetchTarget) sameTopic(o *fetchTarget) bool { return t.id == o.id && t.topic == o.topic }

func targetOf(t *kmsg.FetchRequestTopic, q *kmsg.FetchRequestTopicPartition) fetchTarget {
	return fetchTarget{
		topic: t.Topic, id: t.TopicID, partition: q.Partition, offset: q.FetchOffset, maxBytes: q.PartitionMaxBytes,
		currentEpoch: max(q.CurrentLeaderEpoch, -1), fetchedEpoch: max(q.LastFetchedEpoch, -1), replicaStart: q.LogStartOffset,
	}
}

// resolve finds the name behind the id of a target, once: a session remembers it when
// the topic is gone, and tells a topic that was made again from one that never was.
func (t *fetchTarget) resolve(img *metadata.Image) {
	if t.known != "" || t.id.IsZero() {
		return
	}
	if topic, ok := img.TopicByID(t.id); ok {
		t.known = topic.Name
	}
}

// sessionKey names a partition as the requests of the session do.
type sessionKey struct {
	topic     string
	id        metadata.TopicID
	partition int32
}

func (t *fetchTarget) key() sessionKey {
	return sessionKey{topic: t.topic, id: t.id, partition: t.partition}
}

// sessionPartition is what a session remembers of one partition.
type sessionPartition struct {
	fetchTarget
	// what the client was last told; -1 where the next answer must name the partition
	highWatermark int64
	logStart      int64
	gave          bool // scratch of settle
}

// bytes is what the partition takes in a session.
func (p *sessionPartition) bytes() int64 { return sessionPartitionBytes + int64(len(p.topic)) }

// fetchSession is one client's set of partitions.
type fetchSession struct {
	usesIDs  bool
	follower bool

	mu    sync.Mutex
	epoch int32 // of the next request
	bytes int64 // of parts
	parts []*sessionPartition
	byKey map[sessionKey]*sessionPartition

	// Guarded by the cache.
	id      int32
	size    int   // partitions, as counted by the cache
	charged int64 // bytes, as counted by the cache
	created time.Time
	used    time.Time
	element *list.Element
}

func newFetchSession(usesIDs, follower bool) *fetchSession {
	return &fetchSession{usesIDs: usesIDs, follower: follower, epoch: 1, byKey: make(map[sessionKey]*sessionPartition)}
}

// put adds a partition or updates it.
func (s *fetchSession) put(t fetchTarget) *sessionPartition {
	key := t.key()
	p := s.byKey[key]
	if p == nil {
		p = &sessionPartition{highWatermark: -1, logStart: -1}
		s.parts = append(s.parts, p)
		s.byKey[key] = p
		s.bytes += sessionPartitionBytes + int64(len(t.topic))
	}
	if t.known == "" {
		t.known = p.known
	}
	p.fetchTarget = t
	return p
}

// merge adds, updates and forgets what the request says; mu is held.
func (s *fetchSession) merge(req *kmsg.FetchRequest) {
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			s.put(targetOf(t, &t.Partitions[j]))
		}
	}
	forgot := false
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, n := range t.Partitions {
			key := sessionKey{topic: t.Topic, id: t.TopicID, partition: n}
			if s.byKey[key] != nil {
				delete(s.byKey, key)
				forgot = true
			}
		}
	}
	if !forgot {
		return
	}
	kept := s.parts[:0]
	for _, p := range s.parts {
		if s.byKey[p.key()] == p {
			kept = append(kept, p)
		} else {
			s.bytes -= p.bytes()
		}
	}
	clear(s.parts[len(kept):])
	s.parts = kept
}

// badName tells whether a request names a topic that there cannot be. A session
// remembers names of topics that there are not, as Kafka's do, since they may come to
// be; these it would remember for nothing.
func badName(req *kmsg.FetchRequest) bool {
	return req.Version < 13 && slices.ContainsFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool {
		return metadata.ValidTopicName(t.Topic) != nil
	})
}

// targets are the session's partitions in their present order; mu is held.
func (s *fetchSession) targets(img *metadata.Image) []fetchTarget {
	out := make([]fetchTarget, len(s.parts))
	for i, p := range s.parts {
		p.resolve(img)
		out[i] = p.fetchTarget
	}
	return out
}

// told notes what an answer says of its partition and reports whether it has to
// be said: CachedPartition.maybeUpdateResponseData. mu is held, or the session
// is nobody else's yet.
func (s *fetchSession) told(f *fetchAnswer) bool {
	p := s.byKey[f.named]
	if p == nil {
		return true
	}
	say := f.code != 0 || f.Data != nil || f.DivergingEpoch >= 0 || f.PreferredReplica >= 0 || f.HighWatermark != p.highWatermark || f.LogStart != p.logStart
	p.highWatermark, p.logStart, p.gave = f.HighWatermark, f.LogStart, f.Data != nil
	if f.code != 0 {
		p.highWatermark = -1 // when the error goes away, the partition is named again
	}
	return say
}

// rotate moves the partitions that gave data behind the others, so that each
// gets its turn when the response is full; mu is held.
func (s *fetchSession) rotate() {
	gave := make([]*sessionPartition, 0, 8)
	kept := s.parts[:0]
	for _, p := range s.parts {
		if p.gave {
			p.gave = false
			gave = append(gave, p)
		} else {
			kept = append(kept, p)
		}
	}
	s.parts = append(kept, gave...)
}

// sessionCache holds at most slots sessions of at most limit bytes, so that slots full
// of huge sessions do not take the broker's memory: without a session a client names
// its partitions each time, and works. Lock order: a session's mu before the cache's.
type sessionCache struct {
	slots int
	limit int64

	mu        sync.Mutex
	byID      map[int32]*fetchSession
	lru       *list.List // of *fetchSession, longest idle first
	size      int        // partitions of all sessions
	bytes     int64      // of all sessions
	evictions int64
}

func newSessionCache(slots int, limit int64) *sessionCache {
	return &sessionCache{slots: slots, limit: limit, byID: make(map[int32]*fetchSession), lru: list.New()}
}

// add makes room for s and gives it an id; 0 when it is too large, or the cache full of
// sessions that may not be evicted.
func (sc *sessionCache) add(s *fetchSession, now time.Time) int32 {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.expireLocked(now)
	if s.bytes > sc.limit/maxSessionShare {
		return 0
	}
	for len(sc.byID) >= sc.slots || sc.bytes+s.bytes > sc.limit {
		victim := sc.victimLocked(s, now)
		if victim == nil {
			return 0
		}
		sc.evictions++
		sc.removeLocked(victim)
	}
	for s.id == 0 || sc.byID[s.id] != nil {
		s.id = rand.Int32()
	}
	s.created = now
	sc.countLocked(s, now)
	s.element = sc.lru.PushBack(s)
	sc.byID[s.id] = s
	return s.id
}

// victimLocked chooses who makes room, as FetchSessionCacheShard.tryEvict does:
// the longest idle session if it is stale; else the smallest of those that have
// had their time, if the new one is larger or a follower's.
func (sc *sessionCache) victimLocked(s *fetchSession, now time.Time) *fetchSession {
	oldest := sc.lru.Front()
	if oldest == nil {
		return nil
	}
	if idle := oldest.Value.(*fetchSession); now.Sub(idle.used) > sessionIdle {
		return idle
	}
	var victim *fetchSession
	for e := oldest; e != nil; e = e.Next() {
		if o := e.Value.(*fetchSession); now.Sub(o.created) > sessionIdle && o.yieldsTo(s.follower, len(s.parts)) &&
			(victim == nil || o.yieldsTo(victim.follower, victim.size)) {
			victim = o
		}
	}
	return victim
}

// yieldsTo orders sessions: followers' above clients', larger above smaller.
func (s *fetchSession) yieldsTo(follower bool, size int) bool {
	if s.follower != follower {
		return follower
	}
	return s.size < size
}

func (sc *sessionCache) removeLocked(s *fetchSession) {
	delete(sc.byID, s.id)
	sc.lru.Remove(s.element)
	sc.size -= s.size
	sc.bytes -= s.charged
}

// countLocked notes that a session is used, and how large it is.
func (sc *sessionCache) countLocked(s *fetchSession, now time.Time) {
	sc.size += len(s.parts) - s.size
	sc.bytes += s.bytes - s.charged
	s.size, s.charged, s.used = len(s.parts), s.bytes, now
}

// expireLocked forgets the sessions that nobody uses.
func (sc *sessionCache) expireLocked(now time.Time) {
	for e := sc.lru.Front(); e != nil; e = sc.lru.Front() {
		s := e.Value.(*fetchSession)
		if now.Sub(s.used) <= sessionExpiry {
			return
		}
		sc.removeLocked(s)
	}
}

func (sc *sessionCache) remove(id int32) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if s := sc.byID[id]; s != nil {
		sc.removeLocked(s)
	}
}

// get finds a session.
func (sc *sessionCache) get(id int32) *fetchSession {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.byID[id]
}

// touch marks a session used and counts what it has; false when it has been evicted,
// or has become too large and is. The session's mu is held.
func (sc *sessionCache) touch(s *fetchSession, now time.Time) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.byID[s.id] != s {
		return false
	}
	if s.bytes > s.charged && (s.bytes > sc.limit/maxSessionShare || sc.bytes-s.charged+s.bytes > sc.limit) {
		sc.evictions++
		sc.removeLocked(s)
		return false
	}
	sc.countLocked(s, now)
	sc.lru.MoveToBack(s.element)
	sc.expireLocked(now)
	return true
}

// sessionStats are the cache's figures.
type sessionStats struct{ sessions, partitions, evictions int64 }

func (sc *sessionCache) stats(now time.Time) sessionStats {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.expireLocked(now)
	return sessionStats{int64(len(sc.byID)), int64(sc.size), sc.evictions}
}
