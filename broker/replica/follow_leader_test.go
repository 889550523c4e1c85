package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// leaderBroker answers followers from real logs as Kafka does, over a real wire
// server, and keeps what they asked. Its high watermark is the lower of its end
// and of what the follower asked for last.
type leaderBroker struct {
	l       *lab
	id      metadata.BrokerID
	session *metadata.Session
	dir     *segment.Dir
	changed signal

	mu       sync.Mutex
	logs     map[metadata.TopicIDPartition]*ledger
	sessions map[int32]*leaderSession
	asked    []asked
	listed   int // ListOffsets requests
	// script answers a partition in place of the log.
	script func(lg *ledger, q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool
}

// ledger is one partition as its leader has it.
type ledger struct {
	b     *leaderBroker
	name  string
	log   *segment.Log
	epoch int32
	hw    int64 // what followers are told, -1: as they ask
}

type leaderSession struct {
	epoch int32
	parts map[metadata.TopicIDPartition]*kmsg.FetchRequestTopicPartition
	order []metadata.TopicIDPartition
	told  map[metadata.TopicIDPartition][2]int64
}

// asked is one Fetch request.
type asked struct {
	at             time.Time
	session, epoch int32
	named, forgot  int
	broker         int64
	size           int
}

func newLeaderBroker(l *lab, id metadata.BrokerID) *leaderBroker {
	b := &leaderBroker{l: l, id: id, logs: map[metadata.TopicIDPartition]*ledger{}, sessions: map[int32]*leaderSession{}}
	addr := fmt.Sprintf("broker%d:9092", id)
	listener, err := l.net.Listen(addr)
	l.must(err)
	server, err := wire.NewServer(wire.Options{Handler: b, Listeners: []wire.Listener{{Name: "INTERNAL", Listener: listener}}})
	l.must(err)
	b.dir, err = segment.OpenDir(segment.DirOptions{FS: vfs.NewMem(), Path: "/data"})
	l.must(err)
	l.g.Go(func() error { return server.Run(l.ctx) })
	l.g.Go(func() error { return b.dir.Run(l.ctx) })
	b.session, err = l.md.RegisterBroker(l.ctx, metadata.Registration{
		ID: id, DirectoryID: fmt.Sprint("d", id), Incarnation: "i", Listeners: []metadata.Listener{{Name: "INTERNAL", Host: fmt.Sprint("broker", id), Port: 9092}},
	})
	l.must(err)
	l.t.Cleanup(func() { l.must(b.session.Close(context.WithoutCancel(l.ctx))) })
	return b
}

func (b *leaderBroker) ledger(tip metadata.TopicIDPartition) *ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logs[tip]
}

// lead makes the broker the leader of a partition, with the log it has.
func (b *leaderBroker) lead(tip metadata.TopicIDPartition, epoch int32) {
	t, _ := b.l.md.Image().TopicByID(tip.Topic)
	lg := b.ledger(tip)
	if lg == nil {
		log, err := b.dir.OpenLog(segment.LogOptions{TopicPartition: metadata.TopicPartition{Topic: t.Name}, TopicID: tip.Topic, Config: logConfig()})
		b.l.must(err)
		lg = &ledger{b: b, name: t.Name, log: log, hw: -1}
	}
	b.l.must(lg.log.AssignEpoch(epoch, lg.log.LogEnd()))
	b.mu.Lock()
	lg.epoch = epoch
	b.logs[tip] = lg
	b.mu.Unlock()
	b.changed.broadcast()
}

// append writes values as the leader of the epoch, one batch each.
func (lg *ledger) append(values ...string) {
	lg.b.l.t.Helper()
	for _, v := range values {
		_, err := lg.log.AppendAsLeader(batches(0, lg.epoch, v), segment.AppendOptions{LeaderEpoch: lg.epoch, Now: time.Now()})
		lg.b.l.must(err)
	}
	lg.b.changed.broadcast()
}

// commit sets the high watermark that followers are told: others are in sync.
func (lg *ledger) commit(hw int64) {
	lg.b.mu.Lock()
	lg.hw = hw
	lg.b.mu.Unlock()
	lg.b.changed.broadcast()
}

// fill writes n records of about a hundred bytes.
func (lg *ledger) fill(n int) {
	for i := range n {
		lg.append(fmt.Sprintf("%0100d", i+1))
	}
}

// replace gives a log the batches of a lineage, as if they had been fetched.
func replace(log *segment.Log, batches ...[]byte) error {
	if err := log.TruncateFullyAndStartAt(0, 0); err != nil {
		return err
	}
	for _, b := range batches {
		if _, err := log.AppendAsFollower(b, 100); err != nil {
			return err
		}
	}
	return log.Sync()
}

// requests are the Fetch requests so far.
func (b *leaderBroker) requests() []asked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

func (b *leaderBroker) scripted(fn func(lg *ledger, q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition) bool) {
	b.mu.Lock()
	b.script = fn
	b.mu.Unlock()
	b.changed.broadcast()
}

func (b *leaderBroker) Terms(int16, int16) (wire.Terms, bool) {
	return wire.Terms{MaxBytes: 1 << 20, Pipelined: true}, true
}

func (b *leaderBroker) Handle(_ context.Context, r *wire.Request) (wire.Response, wire.Pending) {
	req := kmsg.RequestForKey(r.Key)
	req.SetVersion(r.Version)
	if err := req.ReadFrom(slices.Clone(r.Body)); err != nil {
		return wire.Response{Close: true}, nil
	}
	switch req := req.(type) {
	case *kmsg.ListOffsetsRequest:
		return wire.Encode(b.listOffsets(req)), nil
	case *kmsg.FetchRequest:
		s, code := b.open(req, r.Size)
		return wire.Response{}, func(ctx context.Context) (wire.Response, error) { return wire.Encode(b.fetch(ctx, req, s, code)), nil }
	}
	return wire.Response{Close: true}, nil
}

func (b *leaderBroker) listOffsets(req *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	b.mu.Lock()
	b.listed++
	b.mu.Unlock()
	for _, t := range req.Topics {
		q := t.Partitions[0]
		rt, rp := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
		rt.Topic = t.Topic
		lg := b.ledger(b.l.tip(rt.Topic))
		switch {
		case q.CurrentLeaderEpoch != lg.epoch:
			rp.ErrorCode = kerr.FencedLeaderEpoch.Code
		case q.Timestamp == Latest:
			rp.Offset = lg.log.LogEnd()
		case q.Timestamp == Earliest:
			rp.Offset = lg.log.LogStart()
		default:
			rp.ErrorCode = kerr.InvalidRequest.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// open finds or makes the session of a request.
func (b *leaderBroker) open(req *kmsg.FetchRequest, size int) (*leaderSession, int16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := asked{at: time.Now(), session: req.SessionID, epoch: req.SessionEpoch, broker: req.ReplicaState.Epoch, size: size}
	for i := range req.Topics {
		a.named += len(req.Topics[i].Partitions)
	}
	for i := range req.ForgottenTopics {
		a.forgot += len(req.ForgottenTopics[i].Partitions)
	}
	b.asked = append(b.asked, a)
	s := b.sessions[req.SessionID]
	switch {
	case req.SessionEpoch == 0:
		delete(b.sessions, req.SessionID)
		s = &leaderSession{epoch: 1, parts: map[metadata.TopicIDPartition]*kmsg.FetchRequestTopicPartition{}, told: map[metadata.TopicIDPartition][2]int64{}}
		req.SessionID = int32(len(b.asked))
		b.sessions[req.SessionID] = s
	case s == nil:
		return nil, kerr.FetchSessionIDNotFound.Code
	case req.SessionEpoch != s.epoch:
		return nil, kerr.InvalidFetchSessionEpoch.Code
	default:
		s.epoch++
	}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			q := &req.Topics[i].Partitions[j]
			tip := metadata.TopicIDPartition{Topic: req.Topics[i].TopicID, Partition: q.Partition}
			if s.parts[tip] == nil {
				s.order = append(s.order, tip)
			}
			s.parts[tip] = q
		}
	}
	for i := range req.ForgottenTopics {
		for _, n := range req.ForgottenTopics[i].Partitions {
			tip := metadata.TopicIDPartition{Topic: req.ForgottenTopics[i].TopicID, Partition: n}
			delete(s.parts, tip)
			delete(s.told, tip)
			s.order = slices.DeleteFunc(s.order, func(o metadata.TopicIDPartition) bool { return o == tip })
		}
	}
	return s, 0
}

func (b *leaderBroker) fetch(ctx context.Context, req *kmsg.FetchRequest, s *leaderSession, code int16) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	if resp.ErrorCode = code; code != 0 {
		return resp
	}
	resp.SessionID = req.SessionID
	timer := time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
	defer timer.Stop()
	for last := false; ; {
		changed := b.changed.next()
		if b.read(req, s, resp) || last {
			b.tell(req, s, resp)
			return resp
		}
		select {
		case <-changed:
		case <-timer.C:
			last = true
		case <-ctx.Done():
			return resp
		}
	}
}

// read reads all partitions; true means that the answer is worth sending.
func (b *leaderBroker) read(req *kmsg.FetchRequest, s *leaderSession, resp *kmsg.FetchResponse) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp.Topics = resp.Topics[:0]
	enough, room := false, int(req.MaxBytes)
	for _, tip := range s.order {
		q := s.parts[tip]
		rt, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		rt.TopicID, rp.Partition = tip.Topic, tip.Partition
		rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = -1, -1, -1
		lg := b.logs[tip]
		switch {
		case lg == nil:
			rp.ErrorCode = kerr.UnknownTopicID.Code
		case b.script == nil || !b.script(lg, q, &rp):
			lg.readLocked(q, &rp, &room)
		}
		enough = enough || rp.ErrorCode != 0 || len(rp.RecordBatches) > 0 || rp.DivergingEpoch.EndOffset >= 0
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
	}
	return enough
}

// tell leaves out of an incremental answer what the follower knows.
func (b *leaderBroker) tell(req *kmsg.FetchRequest, s *leaderSession, resp *kmsg.FetchResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := resp.Topics[:0]
	for _, rt := range resp.Topics {
		rp := &rt.Partitions[0]
		tip := metadata.TopicIDPartition{Topic: rt.TopicID, Partition: rp.Partition}
		now := [2]int64{rp.HighWatermark, rp.LogStartOffset}
		known, ok := s.told[tip]
		s.told[tip] = now
		if req.SessionEpoch == 0 || !ok || known != now || rp.ErrorCode != 0 || len(rp.RecordBatches) > 0 || rp.DivergingEpoch.EndOffset >= 0 {
			kept = append(kept, rt)
		}
	}
	resp.Topics = kept
}

// readLocked answers one partition: Partition.fetchRecords.
func (lg *ledger) readLocked(q *kmsg.FetchRequestTopicPartition, rp *kmsg.FetchResponseTopicPartition, room *int) {
	log := lg.log
	switch {
	case q.CurrentLeaderEpoch < lg.epoch:
		rp.ErrorCode = kerr.FencedLeaderEpoch.Code
		return
	case q.CurrentLeaderEpoch > lg.epoch:
		rp.ErrorCode = kerr.UnknownLeaderEpoch.Code
		return
	case q.FetchOffset < log.LogStart():
		rp.ErrorCode = kerr.OffsetOutOfRange.Code
		return
	}
	if q.LastFetchedEpoch >= 0 {
		epoch, end := log.EndOffsetForEpoch(q.LastFetchedEpoch)
		if epoch < 0 || end < 0 {
			rp.ErrorCode = kerr.OffsetOutOfRange.Code
			return
		}
		if epoch < q.LastFetchedEpoch || end < q.FetchOffset {
			rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = epoch, end
		}
	}
	if hw := min(q.FetchOffset, log.LogEnd()); lg.hw < 0 && rp.DivergingEpoch.EndOffset < 0 {
		log.SetHighWatermark(hw)
	}
	rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = log.HighWatermark(), log.HighWatermark(), log.LogStart()
	if lg.hw >= 0 {
		rp.HighWatermark = lg.hw
	}
	if rp.DivergingEpoch.EndOffset >= 0 {
		return
	}
	if q.FetchOffset > log.LogEnd() {
		rp.ErrorCode = kerr.OffsetOutOfRange.Code
		return
	}
	if q.FetchOffset < log.LocalLogStart() {
		rp.ErrorCode = kerr.OffsetMovedToTieredStorage.Code
		return
	}
	c, err := log.Read(q.FetchOffset, segment.ReadOptions{UpTo: log.LogEnd(), MaxBytes: min(*room, int(q.PartitionMaxBytes)), MinOne: true})
	if errors.Is(err, segment.ErrOffsetOutOfRange) {
		rp.ErrorCode = kerr.OffsetMovedToTieredStorage.Code
		return
	}
	if err != nil {
		rp.ErrorCode = kerr.KafkaStorageError.Code
		return
	}
	defer c.Release()
	*room -= int(c.Len())
	rp.RecordBatches, _ = c.AppendTo(nil) // a short read shows as a torn batch
}
