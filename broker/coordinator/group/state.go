package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// State of a classic group.
type State uint8

// The states; a group that does not exist is described as "Dead".
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	numStates
)

const dead = "Dead"

// String is Kafka's name of the state.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[s]
}

const consumerProtocol = "consumer"

// classicGroup is one group of the classic protocol, or a "simple" group: one
// that only commits offsets and has no protocol type.
type classicGroup struct {
	id           string
	state        State
	previous     State
	stateSince   int64 // ms; -1 unknown: records before GroupMetadataValue v2
	generation   int32
	protocolType string  // "" none
	protocol     *string // of the current generation
	leader       string  // member id, "" none
	stored       bool    // has a GroupMetadata record in the log

	members     []*member // in the order they joined
	byID        map[string]*member
	static      map[string]*member            // by instance id
	pendingJoin map[string]*coordinator.Timer // ids handed out but not joined (KIP-394), and when they end
	pendingSync map[string]struct{}           // members that have not sent SyncGroup since the join phase
	support     map[string]int                // how many members know a protocol
	subscribed  map[string]struct{}           // topics; nil when not known

	join  joinPhase
	sync  *coordinator.Timer
	store offsets

	memory  *memory // of all groups, nil where nobody counts
	claimed int64   // of it, by this one
}

// joinPhase is the timer that ends PreparingRebalance.
type joinPhase struct {
	timer     *coordinator.Timer
	initial   bool          // the first rebalance of an empty group: extended while members come
	delay     time.Duration // of the extension that runs
	remaining time.Duration // that may still be added
	newMember bool          // one came since the last extension
}

type member struct {
	id               string
	instance         *string
	client, host     string
	rebalanceTimeout time.Duration
	sessionTimeout   time.Duration
	protocols        []kmsg.JoinGroupRequestProtocol // in order of preference
	assignment       []byte
	isNew            bool // never got through a join phase
	session          *coordinator.Timer

	joining chan<- *kmsg.JoinGroupResponse // waits for the join phase, nil if not
	syncing chan<- *kmsg.SyncGroupResponse // waits for the assignment, nil if not
}

func newGroup(id string, now time.Time) *classicGroup {
	return &classicGroup{
		id: id, state: Empty, previous: Empty, stateSince: now.UnixMilli(),
		byID:        make(map[string]*member),
		static:      make(map[string]*member),
		pendingJoin: make(map[string]*coordinator.Timer),
		pendingSync: make(map[string]struct{}),
		support:     make(map[string]int),
	}
}

// satisfied says whether a member needs no heartbeat just now: it waits for us.
// A new member is not excused, or it could wait for ever after its client has gone.
func (m *member) satisfied() bool {
	return !m.isNew && (m.joining != nil || m.syncing != nil)
}

// metadata is the member's subscription under a protocol.
func (m *member) metadata(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return nil
}

// offers says whether protocols are what the member joined with.
func (m *member) offers(protocols []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b kmsg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// answerJoin ends the member's wait in JoinGroup, if there is one.
func (m *member) answerJoin(resp *kmsg.JoinGroupResponse) bool {
	if m.joining == nil {
		return false
	}
	m.joining <- resp // has room
	m.joining = nil
	return true
}

// answerSync ends the member's wait in SyncGroup, if there is one.
func (m *member) answerSync(resp *kmsg.SyncGroupResponse) bool {
	if m.syncing == nil {
		return false
	}
	m.syncing <- resp // has room
	m.syncing = nil
	return true
}

func (g *classicGroup) isLeader(id string) bool { return g.leader != "" && g.leader == id }

// add takes a member in; it waits in JoinGroup unless it was replayed.
func (g *classicGroup) add(m *member, protocolType string) {
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m
	}
	g.count(m, 1)
	g.dropPending(m.id)
}

// remove takes a member, or a pending id, out; a wait it is in ends with
// UNKNOWN_MEMBER_ID, so that a client that is still there joins again.
func (g *classicGroup) remove(id string) {
	g.dropPending(id)
	delete(g.pendingSync, id)
	m := g.byID[id]
	if m == nil {
		return
	}
	m.answerJoin(joinError(codeUnknownMember, ""))
	m.answerSync(syncError(codeUnknownMember))
	m.session.Stop()
	g.count(m, -1)
	delete(g.byID, id)
	g.members = slices.DeleteFunc(g.members, func(other *member) bool { return other == m })
	if m.instance != nil && g.static[*m.instance] == m {
		delete(g.static, *m.instance)
	}
	if g.leader == id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

func (g *classicGroup) addPending(id string, until *coordinator.Timer) {
	g.pendingJoin[id] = until
	g.claim(g.pendingSize(id))
}

func (g *classicGroup) dropPending(id string) {
	until, pending := g.pendingJoin[id]
	if !pending {
		return
	}
	until.Stop()
	delete(g.pendingJoin, id)
	g.claim(-g.pendingSize(id))
}

// rename gives a static member another id and keeps the rest.
func (g *classicGroup) rename(m *member, id string) {
	delete(g.byID, m.id)
	if _, ok := g.pendingSync[m.id]; ok {
		delete(g.pendingSync, m.id)
		g.pendingSync[id] = struct{}{}
	}
	if g.leader == m.id {
		g.leader = id
	}
	m.id, m.isNew = id, false
	g.byID[id] = m
}

// update takes over what a member says in a new JoinGroup.
func (g *classicGroup) update(m *member, j joinTerms) {
	g.count(m, -1)
	m.protocols, m.rebalanceTimeout, m.sessionTimeout = j.protocols, j.rebalanceTimeout, j.sessionTimeout
	g.count(m, 1)
}

// joinTerms is what a member may change by joining again.
type joinTerms struct {
	protocols        []kmsg.JoinGroupRequestProtocol
	rebalanceTimeout time.Duration
	sessionTimeout   time.Duration
}

func (m *member) terms() joinTerms {
	return joinTerms{m.protocols, m.rebalanceTimeout, m.sessionTimeout}
}

// count takes each protocol that a member names once, however often it does, and
// what the member takes of the memory.
func (g *classicGroup) count(m *member, by int) {
	g.claim(int64(by) * (g.memberSize(m) + int64(len(m.assignment))))
	for i := range m.protocols {
		name := m.protocols[i].Name
		if slices.ContainsFunc(m.protocols[:i], func(p kmsg.JoinGroupRequestProtocol) bool { return p.Name == name }) {
			continue
		}
		if g.support[name] += by; g.support[name] == 0 {
			delete(g.support, name)
		}
	}
}

// supports says whether a member with these protocols may join.
func (g *classicGroup) supports(protocolType string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(protocols) > 0
	}
	if g.protocolType != protocolType {
		return false
	}
	return slices.ContainsFunc(protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		return g.support[p.Name] == len(g.members)
	})
}

// selectProtocol picks the protocol that most members prefer among those that
// all of them know. Kafka leaves a tie open; here the oldest member's
// preference decides, so that the result does not depend on chance.
func (g *classicGroup) selectProtocol() string {
	votes := make(map[string]int)
	best := ""
	for _, m := range g.members {
		for i := range m.protocols {
			if name := m.protocols[i].Name; g.support[name] == len(g.members) {
				votes[name]++
				break
			}
		}
	}
	for i := range g.members[0].protocols {
		name := g.members[0].protocols[i].Name
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// joiningMembers is how many members wait in JoinGroup.
func (g *classicGroup) joiningMembers() int {
	n := 0
	for _, m := range g.members {
		if m.joining != nil {
			n++
		}
	}
	return n
}

func (g *classicGroup) allJoined() bool {
	return len(g.pendingJoin) == 0 && g.joiningMembers() == len(g.members)
}

func (g *classicGroup) rebalanceTimeout() time.Duration {
	var longest time.Duration
	for _, m := range g.members {
		longest = max(longest, m.rebalanceTimeout)
	}
	return longest
}

// electJoinedLeader makes sure that the leader is a member that waits in
// JoinGroup; false if there is none, or no leader at all.
func (g *classicGroup) electJoinedLeader() bool {
	leader := g.byID[g.leader]
	if leader == nil {
		return false
	}
	if leader.joining != nil {
		return true
	}
	for _, m := range g.members {
		if m.joining != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// check is Kafka's validateMember: 0, UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID.
func (g *classicGroup) check(id string, instance *string) int16 {
	if instance != nil {
		m := g.static[*instance]
		switch {
		case m == nil:
			return codeUnknownMember
		case m.id != id:
			return codeFenced
		}
	}
	if g.byID[id] == nil {
		return codeUnknownMember
	}
	return 0
}

// isSubscribed says whether members consume the topic, as far as can be known:
// consumers whose subscriptions cannot be read are taken to consume everything.
func (g *classicGroup) isSubscribed(topic string) bool {
	if g.subscribed == nil {
		return g.protocolType == consumerProtocol
	}
	_, ok := g.subscribed[topic]
	return ok
}

// joinMembers lists the members as the leader gets them.
func (g *classicGroup) joinMembers() []kmsg.JoinGroupResponseMember {
	out := make([]kmsg.JoinGroupResponseMember, len(g.members))
	for i, m := range g.members {
		out[i] = kmsg.NewJoinGroupResponseMember()
		out[i].MemberID, out[i].InstanceID = m.id, m.instance
		out[i].ProtocolMetadata = m.metadata(deref(g.protocol))
	}
	return out
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
