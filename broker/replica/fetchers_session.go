package replica

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// errSession means that the leader and we do not agree about the fetch session;
// another one begins.
var errSession = errors.New("fetch session is not known")

// fetchVersion is that of the Fetch requests of followers: with topic ids,
// diverging epochs and broker epochs.
const fetchVersion = 17

// fetchSession is the asking side of an incremental fetch session (KIP-227):
// what the leader has been told is not told again, so that idle partitions cost
// nothing. It keeps one request and its memory.
type fetchSession struct {
	id, epoch int32 // epoch 0: the next request makes a session of all that is wanted
	parts     map[metadata.TopicIDPartition]*fetchPart
	asked     int64 // counts requests
	named     int   // partitions that the request at hand wants
	req       kmsg.FetchRequest
}

// fetchPart is a partition of the session as the leader knows it.
type fetchPart struct {
	follow           *follow
	offset, logStart int64
	epoch, fetched   int32
	asked            int64 // the last request that wants it
}

func newFetchSession() *fetchSession {
	s := &fetchSession{parts: make(map[metadata.TopicIDPartition]*fetchPart), req: kmsg.NewFetchRequest()}
	s.req.Version = fetchVersion
	return s
}

// begin starts a request.
func (s *fetchSession) begin() {
	s.asked++
	s.named = 0
	s.req.SessionID, s.req.SessionEpoch = s.id, s.epoch
	s.req.Topics, s.req.ForgottenTopics = s.req.Topics[:0], s.req.ForgottenTopics[:0]
	if s.epoch == 0 {
		clear(s.parts)
	}
}

// want puts a partition into the request, which names it only where the leader
// does not know all of it. Calls come in the order of topics.
func (s *fetchSession) want(fo *follow, maxBytes int32) {
	log := fo.p.log
	now := fetchPart{follow: fo, offset: log.LogEnd(), logStart: log.LogStart(), epoch: fo.epoch, fetched: -1, asked: s.asked}
	if epoch, ok := log.EpochForOffset(now.offset - 1); ok {
		now.fetched = epoch
	}
	s.named++
	was := s.parts[fo.p.tip]
	if was == nil {
		was = &fetchPart{offset: -1}
		s.parts[fo.p.tip] = was
	}
	same := was.follow == fo && was.offset == now.offset && was.logStart == now.logStart && was.epoch == now.epoch && was.fetched == now.fetched
	*was = now
	if same {
		return
	}
	t := s.topic(fo.p.tip.Topic)
	t.Partitions = append(t.Partitions, kmsg.FetchRequestTopicPartition{})
	q := &t.Partitions[len(t.Partitions)-1]
	q.Default()
	q.Partition, q.PartitionMaxBytes = fo.p.tip.Partition, maxBytes
	q.CurrentLeaderEpoch, q.LastFetchedEpoch, q.FetchOffset, q.LogStartOffset = now.epoch, now.fetched, now.offset, now.logStart
}

// topic returns the request's last topic if it is the one, else another one.
func (s *fetchSession) topic(id metadata.TopicID) *kmsg.FetchRequestTopic {
	n := len(s.req.Topics)
	if n > 0 && s.req.Topics[n-1].TopicID == id {
		return &s.req.Topics[n-1]
	}
	if n == cap(s.req.Topics) {
		s.req.Topics = append(s.req.Topics, kmsg.FetchRequestTopic{})
	}
	s.req.Topics = s.req.Topics[:n+1]
	t := &s.req.Topics[n]
	t.TopicID, t.Partitions = id, t.Partitions[:0]
	return t
}

// finish tells the leader to forget what is not wanted.
func (s *fetchSession) finish() *kmsg.FetchRequest {
	if s.named == len(s.parts) {
		return &s.req
	}
	forget := make(map[metadata.TopicID]*kmsg.FetchRequestForgottenTopic)
	for tip, part := range s.parts {
		if part.asked == s.asked {
			continue
		}
		delete(s.parts, tip)
		t := forget[tip.Topic]
		if t == nil {
			t = &kmsg.FetchRequestForgottenTopic{TopicID: tip.Topic}
			forget[tip.Topic] = t
		}
		t.Partitions = append(t.Partitions, tip.Partition)
	}
	for _, t := range forget {
		s.req.ForgottenTopics = append(s.req.ForgottenTopics, *t)
	}
	return &s.req
}

// answered takes the top of an answer: FetchSessionHandler.handleResponse.
func (s *fetchSession) answered(r *kmsg.FetchResponse) error {
	if err := errorOf(r.ErrorCode); err != nil {
		if r.ErrorCode == codeSessionIDNotFound {
			s.id = 0
		}
		s.epoch = 0
		return fmt.Errorf("fetch: %w", err)
	}
	switch {
	case r.SessionID == 0: // the leader has no room for a session, or has none left of it
		s.id, s.epoch = 0, 0
	case s.epoch == 0:
		s.id, s.epoch = r.SessionID, 1
	case r.SessionID != s.id:
		s.epoch = 0
		return fmt.Errorf("%w: asked session %d, session %d answers", errSession, s.id, r.SessionID)
	default:
		if s.epoch++; s.epoch <= 0 {
			s.epoch = 1
		}
	}
	return nil
}

// lost notes that a request may or may not have arrived: the session ends and
// the next request makes another.
func (s *fetchSession) lost() { s.epoch = 0 }
