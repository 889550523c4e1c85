// Package quota turns Kafka's client quotas into throttle times. It hides which of the quotas that match a client
// applies (Kafka's order of precedence) and how its rate is kept.
//
// Nothing configured costs one atomic load. Rules are copied when they change; what a client has used lives in a
// bucket. Lock order: Manager.mu before bucket.mu.
package quota

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what a quota limits.
type Kind uint8

// The kinds, with Kafka's names for them.
const (
	Produce            Kind = iota // producer_byte_rate: bytes a second
	Fetch                          // consumer_byte_rate: bytes a second
	Request                        // request_percentage: percent of one core's time; Record takes seconds
	ControllerMutation             // controller_mutation_rate: partitions created or deleted a second
	RemoteFetch                    // remote_fetch_byte_rate, our own: bytes a second out of the tier; see Remote
	kinds
)

var kindNames = [kinds]string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate", "remote_fetch_byte_rate"}

// Kinds returns all kinds.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for k := range kinds {
		all[k] = k
	}
	return all
}

// String is Kafka's name of the kind.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "unknown"
}

// ParseKind returns the kind that Kafka calls name.
func ParseKind(name string) (Kind, bool) {
	i := slices.Index(kindNames[:], name)
	return Kind(max(i, 0)), i >= 0
}

// Options of a Manager. Zero values mean the default given.
type Options struct {
	// Window is quota.window.size.seconds: one sample. 1 s.
	Window time.Duration
	// Samples is quota.window.num: a client may use at once what its rate gives it in Samples - 1 windows. 11.
	Samples int
}

// Manager knows the quotas and what clients have used. Its methods are safe for concurrent use.
type Manager struct {
	window time.Duration // what may be used at once, as time at the quota's rate
	sample time.Duration
	rules  atomic.Pointer[rules] // nil: no quota at all
	counts [kinds]counter

	mu      sync.RWMutex
	buckets map[bucketKey]*bucket
	sweepAt int
}

// rules are the configured quotas; never changed once published.
type rules struct {
	byEntity [kinds]map[Entity]float64
	shapes   [kinds][shapes]int // how many entities have a shape: only those are looked for
}

// bucketKey is who shares a quota: one client, one user or one client of one user.
type bucketKey struct {
	kind             Kind
	byUser, byClient bool
	user, clientID   string
}

// New returns a manager without quotas.
func New(o Options) *Manager {
	if o.Window == 0 {
		o.Window = time.Second
	}
	if o.Samples == 0 {
		o.Samples = 11
	}
	return &Manager{
		window:  time.Duration(max(o.Samples-1, 1)) * o.Window,
		sample:  o.Window,
		buckets: make(map[bucketKey]*bucket),
		sweepAt: firstSweep,
	}
}

// Record notes that a client used n of a kind and returns how long it has to be throttled to come back to its quota:
// 0 when no quota applies or the quota is kept.
func (m *Manager) Record(kind Kind, user, clientID string, n float64, now time.Time) time.Duration {
	d := m.take(kind, user, clientID, n, now)
	if kind == Request {
		// ClientRequestQuotaManager.throttleTime never mutes for longer than a window.
		d = min(d, m.sample)
	}
	if n > 0 {
		m.counts[kind].add(d)
	}
	return d
}

// Spend is a Record that says no, and counts nothing, while the client still owes for what it used before: for work
// whose result can be withheld.
func (m *Manager) Spend(kind Kind, user, clientID string, n float64, now time.Time) (throttle time.Duration, ok bool) {
	b, l := m.bucketOf(kind, user, clientID, now)
	if b == nil {
		return 0, true
	}
	throttle, ok = b.spend(n, l, now)
	m.counts[kind].add(throttle)
	return throttle, ok
}

// Count is how often clients were throttled, and for how long together.
type Count struct {
	Times int64
	For   time.Duration
}

type counter struct{ times, nanos atomic.Int64 }

func (c *counter) add(d time.Duration) {
	if d > 0 {
		c.times.Add(1)
		c.nanos.Add(int64(d))
	}
}

// Throttled counts what a kind of quota has throttled so far.
func (m *Manager) Throttled(kind Kind) Count {
	c := &m.counts[kind]
	return Count{Times: c.times.Load(), For: time.Duration(c.nanos.Load())}
}

// Burst is what a client may use at once; ok is false without a quota.
func (m *Manager) Burst(kind Kind, user, clientID string) (n float64, ok bool) {
	value, ok := m.Limit(kind, user, clientID)
	return m.limit(kind, value).burst, ok
}

// Peek returns the throttle time that Record of 0 would return, for deciding before the work is done.
func (m *Manager) Peek(kind Kind, user, clientID string, now time.Time) time.Duration {
	return m.Record(kind, user, clientID, 0, now)
}

// Refund takes back a Record: the work was not done. Kafka does so for a fetch that it throttles.
func (m *Manager) Refund(kind Kind, user, clientID string, n float64, now time.Time) {
	m.take(kind, user, clientID, -n, now)
}

// Limit returns the quota that applies to a client.
func (m *Manager) Limit(kind Kind, user, clientID string) (value float64, ok bool) {
	rs := m.rules.Load()
	if rs == nil {
		return 0, false
	}
	value, _, ok = rs.find(kind, user, clientID)
	return value, ok
}

// Set sets one quota.
func (m *Manager) Set(e Entity, kind Kind, value float64) error {
	r := Rule{Entity: e, Kind: kind, Value: value}
	if err := r.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.cloneLocked()
	next.set(r)
	m.publishLocked(next)
	return nil
}

// Remove removes one quota; that there is none is no error.
func (m *Manager) Remove(e Entity, kind Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.cloneLocked()
	if kind < kinds {
		if _, ok := next.byEntity[kind][e]; ok {
			delete(next.byEntity[kind], e)
			next.shapes[kind][e.shape()]--
		}
	}
	m.publishLocked(next)
}

// Replace makes these rules the only ones. What clients have used is kept where their quota stays.
func (m *Manager) Replace(all []Rule) error {
	next := &rules{}
	for _, r := range all {
		if err := r.Validate(); err != nil {
			return err
		}
		next.set(r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publishLocked(next)
	return nil
}

// Rules returns all quotas, ordered by entity and kind.
func (m *Manager) Rules() []Rule {
	rs := m.rules.Load()
	if rs == nil {
		return nil
	}
	var all []Rule
	for kind, of := range rs.byEntity {
		for e, v := range of {
			all = append(all, Rule{Entity: e, Kind: Kind(kind), Value: v})
		}
	}
	slices.SortFunc(all, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Entity.String(), b.Entity.String()), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}

func (rs *rules) set(r Rule) {
	if rs.byEntity[r.Kind] == nil {
		rs.byEntity[r.Kind] = make(map[Entity]float64)
	}
	if _, ok := rs.byEntity[r.Kind][r.Entity]; !ok {
		rs.shapes[r.Kind][r.Entity.shape()]++
	}
	rs.byEntity[r.Kind][r.Entity] = r.Value
}

// find returns the most specific quota of a client and the entity it is configured for.
func (rs *rules) find(kind Kind, user, clientID string) (float64, Entity, bool) {
	if kind >= kinds || len(rs.byEntity[kind]) == 0 {
		return 0, Entity{}, false
	}
	for s, n := range rs.shapes[kind] {
		if n == 0 {
			continue
		}
		e := entityOf(shape(s), user, clientID)
		if v, ok := rs.byEntity[kind][e]; ok {
			return v, e, true
		}
	}
	return 0, Entity{}, false
}

func (m *Manager) cloneLocked() *rules {
	next := &rules{}
	if old := m.rules.Load(); old != nil {
		next.shapes = old.shapes
		for kind := range old.byEntity {
			next.byEntity[kind] = maps.Clone(old.byEntity[kind])
		}
	}
	return next
}

func (m *Manager) publishLocked(next *rules) {
	for _, of := range next.byEntity {
		if len(of) > 0 {
			m.rules.Store(next)
			return
		}
	}
	m.rules.Store(nil)
	clear(m.buckets)
}
