package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// FetchRequest asks for batches of several partitions.
type FetchRequest struct {
	Replica       metadata.BrokerID // of a follower; negative for a consumer
	ReplicaEpoch  int64             // the follower's broker epoch, -1 none (KIP-903)
	Rack          string            // the consumer's
	User          string            // with ClientID: who shares the rate of cold reads with others
	ClientID      string
	Conn          string // where the answer goes: it holds the answer until its peer takes it
	AnyReplica    bool   // the caller takes PreferredReplica for an answer: version 11 and above (KIP-392)
	ReplicasOnly  bool   // the caller goes only to brokers that Metadata has named as replicas to it
	MaxWait       time.Duration
	MinBytes      int
	MaxBytes      int
	ReadCommitted bool
	Remote        *quota.Remote // what the caller may be given out of the tier; nil: no limit
	Partitions    []FetchPartition
}

func (r *FetchRequest) follower() bool { return r.Replica >= 0 }

// FetchPartition asks for one partition's batches from Offset.
type FetchPartition struct {
	ID           metadata.TopicIDPartition
	Offset       int64
	LogStart     int64 // of a follower's log
	MaxBytes     int
	CurrentEpoch int32 // the caller's leader epoch, -1 if none
	FetchedEpoch int32 // epoch of the last fetched record, -1 if none (KIP-595)
	Tag          int   // the caller's own
}

// FetchResult is one partition's answer. The caller releases Data. Invariant 3
// holds in it: LogStart ≤ LastStable ≤ HighWatermark; all are -1 with an error.
type FetchResult struct {
	Err           error
	HighWatermark int64
	LastStable    int64
	LogStart      int64
	Data          segment.RemoteData // nil when there are no bytes
	Aborted       []segment.AbortedTxn
	// DivergingEpoch and DivergingEnd are set when FetchedEpoch does not fit
	// the log (KIP-595); DivergingEpoch is -1 otherwise.
	DivergingEpoch int32
	DivergingEnd   int64
	// PreferredReplica is where the caller should fetch instead; NoBroker: here.
	// There is no Data then.
	PreferredReplica metadata.BrokerID
}

// NoFetchResult is the answer of a partition that was not read.
func NoFetchResult(err error) FetchResult {
	return FetchResult{Err: err, HighWatermark: -1, LastStable: -1, LogStart: -1, DivergingEpoch: -1, DivergingEnd: -1, PreferredReplica: metadata.NoBroker}
}

// Size is the bytes of Data.
func (r *FetchResult) Size() int {
	if r.Data == nil {
		return 0
	}
	return int(r.Data.Len())
}

// fetch is one request being answered.
type fetch struct {
	m       *Manager
	req     *FetchRequest
	parts   []*Partition // nil: no replica is here
	results []FetchResult
	now     time.Time // of this look at the partitions
	told    []int64   // of a follower: the high watermarks it knows
	epochs  []int32   // and under which leader epoch it was noted, -1: it was not
	bytes   int
	offered int64 // bytes that are there, as far as one answer could hold them: what MinBytes asks for
	urgent  bool  // something that is answered at once: an error, an epoch that diverges, another replica, a high watermark
	hot     []int // partitions with something to read, local and remote, in order
	cold    []int
	reader  string        // of the tier
	granted int           // bytes of the tier that are reserved for this look
	refused time.Duration // there are none, and will be some so much later
}

// Fetch answers the request, waiting up to MaxWait until MinBytes are there.
// Partitions are answered in the order of the request: MaxBytes is spent in
// that order, and the first partition with data gives at least one batch
// however large (KIP-74). An error of one partition ends the wait, and of a
// follower a high watermark that it does not know. Cold partitions are left out
// while the caller is over its quota; if it asks for nothing else, the answer is
// due at once. The results are in the order of the request; every Data in them is
// the caller's.
func (m *Manager) Fetch(ctx context.Context, req *FetchRequest) []FetchResult {
	n := len(req.Partitions)
	f := &fetch{m: m, req: req, parts: make([]*Partition, n), results: make([]FetchResult, n)}
	if req.follower() {
		f.note()
	}
	f.read(ctx)
	if n == 0 || req.MaxWait <= 0 || f.enough() || f.coldDue() {
		f.finish(ctx)
	} else {
		f.wait(ctx)
	}
	f.confirm(ctx)
	if req.follower() {
		f.answered(ctx)
	}
	return f.results
}

// enough says whether the answer is due. As in Kafka's DelayedFetch it is what
// could be read that counts, not what was: batches are whole, so that an answer is
// nearly always smaller than the limit that cut it off, and no wait makes it larger.
// Nor does one for more than all partitions together may give.
func (f *fetch) enough() bool {
	if f.urgent || f.offered >= int64(f.req.MinBytes) {
		return true
	}
	most := int64(0)
	for i := range f.req.Partitions {
		most += int64(max(f.req.Partitions[i].MaxBytes, 0))
	}
	return f.offered >= max(most, 1)
}

// read looks at every partition and reads the hot ones.
func (f *fetch) read(ctx context.Context) {
	f.now = time.Now()
	f.bytes, f.offered, f.urgent, f.hot, f.cold = 0, 0, false, f.hot[:0], f.cold[:0]
	for i := range f.req.Partitions {
		if err := f.look(i); err != nil {
			f.fail(i, err)
		}
	}
	f.admitCold()
	room := f.req.MaxBytes - f.reserve()
	first := f.granted == 0 || len(f.hot) > 0 && f.hot[0] < f.cold[0]
	for _, i := range f.hot {
		if err := f.readHot(ctx, i, room, first); err != nil {
			f.fail(i, err)
		}
	}
}

// reserve is how many bytes hot partitions leave to cold ones.
func (f *fetch) reserve() int { return min(f.granted, f.req.MaxBytes/2) }

// release gives back what was read.
func (f *fetch) release() {
	for i := range f.results {
		if f.results[i].Data != nil {
			f.results[i].Data.Release()
			f.results[i].Data = nil
		}
	}
}

func (f *fetch) find(i int) (*Partition, error) {
	if f.parts[i] != nil {
		return f.parts[i], nil
	}
	p, err := f.m.PartitionByID(f.req.Partitions[i].ID)
	f.parts[i] = p
	return p, err
}

// fail answers a partition with an error.
func (f *fetch) fail(i int, err error) {
	if f.results[i].Data != nil {
		f.bytes -= f.results[i].Size()
		f.results[i].Data.Release()
	}
	f.results[i] = NoFetchResult(err)
	f.urgent = true
}

// look checks the request of one partition and notes whether it is hot or cold.
func (f *fetch) look(i int) error {
	q, r := &f.req.Partitions[i], &f.results[i]
	*r = NoFetchResult(nil)
	p, err := f.find(i)
	if errors.Is(err, ErrNotLeader) && f.anywhere() {
		return f.lookAbroad(i)
	}
	if err != nil {
		return err
	}
	s, err := f.admit(p, q)
	if err != nil {
		return err
	}
	f.ends(p, r)
	if q.Offset < r.LogStart {
		return p.outOfRange(q, r)
	}
	// Before the end: what lies behind it may be what diverged.
	if q.FetchedEpoch != -1 {
		if diverges, err := p.diverges(q, r); diverges || err != nil {
			f.urgent = true
			return err
		}
	}
	if q.Offset > p.log.LogEnd() {
		return p.outOfRange(q, r)
	}
	if f.req.follower() {
		return f.lookAsFollower(i, p, s)
	}
	if s.leading && f.anywhere() {
		if r.PreferredReplica = f.prefer(p, s, q); r.PreferredReplica != metadata.NoBroker {
			f.urgent = true
			return nil
		}
	}
	switch {
	case q.Offset < p.log.LocalLogStart():
		f.cold = append(f.cold, i)
	case q.Offset < f.upTo(p, r):
		f.hot = append(f.hot, i)
	}
	return nil
}

func (p *Partition) outOfRange(q *FetchPartition, r *FetchResult) error {
	return fmt.Errorf("offset %d of %s, the log is %d to %d: %w", q.Offset, p.tp, r.LogStart, p.log.LogEnd(), segment.ErrOffsetOutOfRange)
}

// ends takes the ends of a log. The lowest first: what moves meanwhile only
// moves up.
func (f *fetch) ends(p *Partition, r *FetchResult) {
	r.LogStart = p.log.LogStart()
	r.LastStable = p.log.LastStableOffset()
	r.HighWatermark = p.log.HighWatermark()
}

// admit says whether this broker may answer the caller: followers, and consumers
// that know of no other way, are answered by the leader alone.
func (f *fetch) admit(p *Partition, q *FetchPartition) (*state, error) {
	if f.anywhere() {
		return p.replicaState(q.CurrentEpoch)
	}
	s, err := p.leaderState(q.CurrentEpoch)
	if err == nil && f.req.follower() && !s.follower(f.req.Replica, p.broker) {
		return nil, fmt.Errorf("%w: broker %d is no replica of %s", ErrNotLeader, f.req.Replica, p.tp)
	}
	return s, err
}

// upTo is the end of what the caller may see, as the answer says it.
func (f *fetch) upTo(p *Partition, r *FetchResult) int64 {
	switch {
	case f.req.follower():
		return p.log.LogEnd()
	case f.req.ReadCommitted:
		return r.LastStable
	default:
		return r.HighWatermark
	}
}

// diverges compares the caller's last fetched epoch with the log: Partition.readRecords, KIP-595.
func (p *Partition) diverges(q *FetchPartition, r *FetchResult) (bool, error) {
	epoch, end := p.log.EndOffsetForEpoch(q.FetchedEpoch)
	if epoch < 0 || end < 0 {
		return false, fmt.Errorf("end of epoch %d of %s is not known: %w", q.FetchedEpoch, p.tp, segment.ErrOffsetOutOfRange)
	}
	if epoch < q.FetchedEpoch || end < q.Offset {
		r.DivergingEpoch, r.DivergingEnd = epoch, end
		return true, nil
	}
	return false, nil
}

// readHot reads one partition from the local disk, until room bytes of the
// request are spent; minOne reads one batch in any case if nothing was read yet.
func (f *fetch) readHot(ctx context.Context, i, room int, minOne bool) error {
	q, r, p := &f.req.Partitions[i], &f.results[i], f.parts[i]
	room = min(q.MaxBytes, room-f.bytes)
	minOne = minOne && f.bytes == 0
	if room <= 0 && !minOne {
		f.offered += int64(max(q.MaxBytes, 0))
		return nil
	}
	upTo := f.upTo(p, r)
	chunk, err := p.log.Read(q.Offset, segment.ReadOptions{UpTo: upTo, MaxBytes: max(room, 0), MinOne: minOne})
	if errors.Is(err, segment.ErrOffsetOutOfRange) && q.Offset >= p.log.LogStart() && q.Offset < p.log.LocalLogStart() {
		if f.req.follower() {
			return ErrMovedToTier
		}
		f.cold = append(f.cold, i) // evicted since we looked
		return nil
	}
	if err != nil {
		return err
	}
	if offered := chunk.Len(); chunk.NextOffset() < upTo {
		f.offered += max(offered, int64(q.MaxBytes)) // there is more
	} else {
		f.offered += offered
	}
	if chunk.Len() == 0 {
		chunk.Release()
		return nil
	}
	r.Data = chunk
	f.bytes += int(chunk.Len())
	if f.req.ReadCommitted {
		r.Aborted, err = f.m.aborted(ctx, p, q.Offset, chunk.NextOffset())
	}
	return err
}

// finish reads the cold partitions, and if they took the turn of a hot one and
// did not come, the hot one after all.
func (f *fetch) finish(ctx context.Context) {
	if len(f.cold) > 0 && f.granted == 0 && f.refused == 0 {
		f.admitCold() // they were hot when we looked
	}
	switch {
	case len(f.cold) == 0:
		return
	case f.refused > 0:
		f.leaveOut()
		return
	}
	hot := slices.Clone(f.hot)
	f.readCold(ctx)
	for _, i := range hot {
		if f.bytes > 0 {
			return
		}
		if err := f.readHot(ctx, i, f.req.MaxBytes, true); err != nil {
			f.fail(i, err)
		}
	}
}

// wait reads again at each wake-up until there is enough or time is up.
// While it waits it holds nothing.
func (f *fetch) wait(ctx context.Context) {
	timer := time.NewTimer(f.req.MaxWait)
	defer timer.Stop()
	wake := make(chan struct{}, 1)
	f.register(wake)
	defer f.unregister(wake)
	for timeUp := false; ; {
		// Read after registering: what arrived before is seen here, what
		// arrives after wakes.
		f.release()
		f.read(ctx)
		if timeUp || f.enough() || f.coldDue() {
			f.finish(ctx)
			return
		}
		f.release()
		var turn <-chan time.Time
		if f.refused > 0 {
			turn = time.After(f.refused)
		}
		select {
		case <-wake:
		case <-turn:
		case <-timer.C:
			timeUp = true
		case <-ctx.Done():
			return
		}
	}
}

func (f *fetch) register(wake chan struct{}) {
	for _, p := range f.parts {
		if p != nil {
			p.waiting(f.req).add(wake)
		}
	}
}

func (f *fetch) unregister(wake chan struct{}) {
	for _, p := range f.parts {
		if p != nil {
			p.waiting(f.req).remove(wake)
		}
	}
}

// waiting is whom the arrival of what the request wants wakes.
func (p *Partition) waiting(req *FetchRequest) *wakeups {
	if req.follower() {
		return &p.followers
	}
	return &p.fetches
}
