package group

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// shard is the state machine of one partition of __consumer_offsets.
type shard struct {
	o       *Options
	c       *Config
	log     *slog.Logger
	metrics *metrics
	memory  *memory
	part    *coordinator.Partition
	groups  map[string]*classicGroup
	pending pendingOffsets
	expiry  *coordinator.Timer
}

func newShard(o *Options, log *slog.Logger, m *metrics, held *memory, p *coordinator.Partition) *shard {
	s := &shard{o: o, c: &o.Config, log: log, metrics: m, memory: held, part: p,
		groups: make(map[string]*classicGroup), pending: make(pendingOffsets)}
	s.expiry = p.NewTimer(s.expire)
	return s
}

// Replay applies a record of the log.
func (s *shard) Replay(r coordinator.Replayed) error {
	key, err := decodeKey(r.Key)
	if err != nil {
		return err
	}
	switch {
	case key.offset && r.Value == nil:
		s.removeOffset(key.group, key.topic, key.partition)
	case key.offset:
		o, err := decodeOffset(r.Value)
		if err != nil {
			return err
		}
		o.at = r.Offset
		s.putOffset(r.ProducerID, key.group, key.topic, key.partition, o)
	case r.Value == nil:
		s.removeGroup(key.group)
	default:
		v, err := decodeGroup(r.Value)
		if err != nil {
			return err
		}
		s.replaceGroup(key.group, v)
	}
	return nil
}

// replaceGroup makes the group what its record says.
func (s *shard) replaceGroup(id string, v *kmsg.GroupMetadataValue) {
	g := newGroup(id, time.Time{})
	g.memory = s.memory
	if old := s.groups[id]; old != nil {
		g.store = old.store
		old.claim(-old.claimed)
		s.metrics.moved(old.state, -1)
	}
	g.stored = true
	g.generation, g.protocolType, g.protocol = v.Generation, v.ProtocolType, v.Protocol
	g.stateSince = v.CurrentStateTimestamp
	for i := range v.Members {
		g.add(replayedMember(&v.Members[i], g.protocol), v.ProtocolType)
	}
	g.leader = deref(v.Leader)
	if len(g.members) > 0 {
		g.state = Stable
	}
	g.subscribed = g.readSubscriptions()
	s.metrics.moved(g.state, 1)
	s.groups[id] = g
}

func replayedMember(v *kmsg.GroupMetadataValueMember, protocol *string) *member {
	m := &member{
		id: v.MemberID, instance: v.InstanceID, client: v.ClientID, host: v.ClientHost,
		sessionTimeout:   millis(v.SessionTimeoutMillis),
		rebalanceTimeout: millis(v.RebalanceTimeoutMillis),
		assignment:       v.Assignment,
	}
	if v.RebalanceTimeoutMillis == -1 { // before GroupMetadataValue v1
		m.rebalanceTimeout = m.sessionTimeout
	}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = deref(protocol), v.Subscription
	m.protocols = []kmsg.JoinGroupRequestProtocol{p}
	return m
}

func millis(n int32) time.Duration { return time.Duration(n) * time.Millisecond }

// ReplayEndTransaction makes the pending offsets of a transaction final, or
// forgets them. A later commit of the same partition outside of the transaction
// wins: by compaction the order of their records is all that is left.
func (s *shard) ReplayEndTransaction(producerID int64, _ int16, commit bool) {
	offsets := s.pending[producerID]
	delete(s.pending, producerID)
	for key, o := range offsets {
		g := s.groups[key.group]
		if g == nil {
			continue
		}
		g.store.closed(key.topicPartition)
		if now, ok := g.store.get(key.topic, key.partition); commit && (!ok || o.at > now.at) {
			s.setOffset(g, key.topic, key.partition, o)
		}
	}
}

// putOffset applies an offset commit record.
func (s *shard) putOffset(producerID int64, group, topic string, partition int32, o offset) {
	g := s.groups[group]
	if g == nil {
		g = s.createGroup(group)
	}
	if producerID == coordinator.NoProducer {
		s.setOffset(g, topic, partition, o)
		return
	}
	open := s.pending[producerID]
	if open == nil {
		open = make(map[pendingKey]offset)
		s.pending[producerID] = open
	}
	key := pendingKey{group, topicPartition{topic, partition}}
	if _, had := open[key]; !had {
		g.store.opened(key.topicPartition)
	}
	open[key] = o
}

func (s *shard) setOffset(g *classicGroup, topic string, partition int32, o offset) {
	if g.store.put(topic, partition, o) {
		s.metrics.offsets.Add(1)
	}
}

// removeOffset applies the tombstone of an offset: what transactions have
// pending for the partition goes as well.
func (s *shard) removeOffset(group, topic string, partition int32) {
	g := s.groups[group]
	if g == nil {
		return
	}
	if g.store.remove(topic, partition) {
		s.metrics.offsets.Add(-1)
	}
	key := pendingKey{group, topicPartition{topic, partition}}
	if g.store.isOpen(topic, partition) {
		for _, open := range s.pending {
			delete(open, key)
		}
		delete(g.store.open, key.topicPartition)
	}
}

// createGroup makes an empty group, which is not in the log yet.
func (s *shard) createGroup(id string) *classicGroup {
	g := newGroup(id, time.Now())
	g.memory = s.memory
	s.groups[id] = g
	s.metrics.moved(Empty, 1)
	return g
}

// removeGroup applies the tombstone of a group. Offsets that are left make it
// a simple group: records of a log cleaned half may come in that order.
func (s *shard) removeGroup(id string) {
	g := s.groups[id]
	if g == nil {
		return
	}
	s.forget(g)
	if !g.store.empty() {
		s.createGroup(id).store = g.store
	}
}

// forget drops a group from memory.
func (s *shard) forget(g *classicGroup) {
	g.stop()
	for len(g.members) > 0 {
		g.remove(g.members[0].id)
	}
	for id := range g.pendingJoin {
		g.dropPending(id)
	}
	delete(s.groups, g.id)
	s.metrics.moved(g.state, -1)
}

// forgetUnused drops a group that nothing is known of: a JoinGroup that failed
// leaves no trace.
func (s *shard) forgetUnused(g *classicGroup) {
	if g.state == Empty && !g.stored && len(g.pendingJoin) == 0 && g.store.empty() && s.groups[g.id] == g {
		s.forget(g)
	}
}

// stop stops the group's timers.
func (g *classicGroup) stop() {
	g.join.timer.Stop()
	g.sync.Stop()
	for _, t := range g.pendingJoin {
		t.Stop()
	}
	for _, m := range g.members {
		m.session.Stop()
	}
}

// Loaded gives every member of the last generation one session to show up.
func (s *shard) Loaded(u *coordinator.Update) {
	s.expiry.Schedule(s.c.ExpiryInterval)
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		for _, m := range g.members {
			s.startSession(g, m, m.sessionTimeout)
		}
		if len(g.members) > s.c.MaxSize {
			s.prepareRebalance(g, "freshly loaded group is over group.max.size", u)
		}
	}
}

// Unloaded answers everyone who waits: the group's next coordinator knows
// nothing of them.
func (s *shard) Unloaded() {
	for _, g := range s.groups {
		g.stop()
		for _, m := range g.members {
			m.answerJoin(joinError(codeNotCoordinator, m.id))
			m.answerSync(syncError(codeNotCoordinator))
		}
		s.metrics.moved(g.state, -1)
		s.metrics.offsets.Add(-int64(g.store.len()))
		g.claim(-g.claimed)
	}
	clear(s.groups)
}

// storeGroup adds the group's record, with these assignments by member.
func (s *shard) storeGroup(g *classicGroup, assignments map[string][]byte, u *coordinator.Update) {
	u.Append(coordinator.Record{
		Key:   groupKey(g.id),
		Value: g.encode(assignments),
		Apply: func(int64) { g.stored = true }, // memory is what the record says
	})
}

// deleteGroup adds the tombstones of the group and all its offsets.
func (s *shard) deleteGroup(g *classicGroup, u *coordinator.Update) {
	s.deleteOffsets(g, g.store.sorted(), u)
	for tp := range g.store.open {
		if _, ok := g.store.get(tp.topic, tp.partition); !ok {
			s.deleteOffset(g, tp, u)
		}
	}
	u.Append(coordinator.Record{
		Key:   groupKey(g.id),
		Apply: func(int64) { s.removeGroup(g.id) },
	})
}

func (s *shard) deleteOffsets(g *classicGroup, tps []topicPartition, u *coordinator.Update) {
	for _, tp := range tps {
		s.deleteOffset(g, tp, u)
	}
}

func (s *shard) deleteOffset(g *classicGroup, tp topicPartition, u *coordinator.Update) {
	u.Append(coordinator.Record{
		Key:   offsetKey(g.id, tp.topic, tp.partition),
		Apply: func(int64) { s.removeOffset(g.id, tp.topic, tp.partition) },
	})
}

// expire is the timer that removes what KIP-211 lets go: offsets past their
// retention, and groups that have neither offsets nor members.
func (s *shard) expire(u *coordinator.Update) {
	s.expiry.Schedule(s.c.ExpiryInterval)
	u.Split = true
	now := time.Now()
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		gone := g.expiredOffsets(now, s.c.OffsetsRetention)
		s.deleteOffsets(g, gone, u)
		s.metrics.expirations.Add(int64(len(gone)))
		if g.state != Empty || len(g.pendingJoin) > 0 || len(g.store.open) > 0 || len(gone) < g.store.len() {
			continue
		}
		if !g.stored && len(gone) == 0 {
			s.forget(g)
			continue
		}
		u.Append(coordinator.Record{Key: groupKey(id), Apply: func(int64) { s.removeGroup(id) }})
	}
}

// expiredOffsets are the offsets whose retention has passed at now: counted
// from when the group became empty; from the commit for groups without
// membership, and for topics no member of a stable group consumes any more.
func (g *classicGroup) expiredOffsets(now time.Time, retention time.Duration) []topicPartition {
	since := int64(-1)
	switch {
	case g.protocolType == "":
	case g.state == Empty:
		since = g.stateSince
	case g.protocolType == consumerProtocol && g.subscribed != nil && g.state == Stable:
	default:
		return nil
	}
	var out []topicPartition
	for _, tp := range g.store.sorted() {
		if g.isSubscribed(tp.topic) || g.store.isOpen(tp.topic, tp.partition) {
			continue
		}
		o, _ := g.store.get(tp.topic, tp.partition)
		base := o.committed
		if since >= 0 {
			base = since
		}
		if o.expired(now, base, retention) {
			out = append(out, tp)
		}
	}
	return out
}
