package group

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/broker/coordinator"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a coordinator of one partition over a log in memory, inside of a
// synctest bubble.
type bench struct {
	t      *testing.T
	log    *memlog.Log
	c      *Coordinator
	epoch  int32
	loaded time.Time
	config Config
	topics map[string][16]byte
	stop   func()
}

func newBench(t *testing.T, config Config) *bench {
	b := &bench{t: t, log: memlog.New(), config: config, topics: make(map[string][16]byte)}
	b.start()
	return b
}

// start makes a coordinator and waits until it has loaded.
func (b *bench) start() {
	c, err := New(Options{
		Log: b.log, Config: b.config,
		TopicID: func(name string) ([16]byte, bool) { id, ok := b.topics[name]; return id, ok },
		TopicName: func(id [16]byte) (string, bool) {
			for name, other := range b.topics {
				if other == id {
					return name, true
				}
			}
			return "", false
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			b.t.Errorf("Run = %v", err)
		}
	}()
	b.stop = func() { cancel(); <-done }
	b.c = c
	b.lead()
}

// lead loads the partition at a new epoch; what was not committed is lost.
func (b *bench) lead() {
	b.epoch++
	b.log.Lead(0, b.epoch)
	b.c.Load(0, b.epoch)
	b.loaded = time.Now()
	synctest.Wait()
}

// crash throws the coordinator away and starts another over the same log.
func (b *bench) crash() {
	b.stop()
	b.start()
}

// testConfig has one partition and short times.
func testConfig() Config {
	c := DefaultConfig()
	c.Partitions = 1
	return c
}

func bubble(t *testing.T, config Config, fn func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, config)
		fn(t, b)
		b.stop()
	})
}

func codeName(code int16) string {
	if code == 0 {
		return "ok"
	}
	if e, ok := kerr.ErrorForCode(code).(*kerr.Error); ok {
		return e.Message
	}
	return fmt.Sprint(code)
}

// people are named clients, each with what it knows of its membership.
type people struct {
	b       *bench
	byName  map[string]*person
	ids     map[string]string // of a member, as printed
	counts  map[string]int
	results chan func() string
}

type person struct {
	name       string
	member     string
	generation int32
	instance   *string
	protocols  []string
}

// testTime is some time.
var testTime = time.Unix(1700000000, 0)

var uuidText = regexp.MustCompile(`[a-z0-9]+-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// short replaces member ids by their client and a number.
func (p *people) short(s string) string {
	return uuidText.ReplaceAllStringFunc(s, func(id string) string {
		if p.ids[id] == "" {
			name := id[:len(id)-37]
			p.counts[name]++
			p.ids[id] = fmt.Sprintf("%s-%d", name, p.counts[name])
		}
		return p.ids[id]
	})
}

func newPeople(b *bench) *people {
	return &people{b: b, byName: make(map[string]*person), ids: make(map[string]string),
		counts: make(map[string]int), results: make(chan func() string, 1000)}
}

func (p *people) get(name string) *person {
	if p.byName[name] == nil {
		p.byName[name] = &person{name: name, generation: -1, protocols: []string{"range"}}
	}
	return p.byName[name]
}

// background runs fn; settle runs what it returns.
func (p *people) background(fn func() func() string) {
	go func() { p.results <- fn() }()
}

// settle waits until nothing moves and returns the results since, sorted.
func (p *people) settle() string {
	synctest.Wait()
	var out []string
	for len(p.results) > 0 {
		out = append(out, (<-p.results)())
	}
	slices.Sort(out)
	return p.short(strings.Join(out, "\n"))
}

func (p *people) join(who *person, group string, version int16, session, rebalance time.Duration, topics []string) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = version
	req.Group, req.MemberID, req.InstanceID, req.ProtocolType = group, who.member, who.instance, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(session.Milliseconds()), int32(rebalance.Milliseconds())
	for _, name := range who.protocols {
		proto := kmsg.NewJoinGroupRequestProtocol()
		proto.Name, proto.Metadata = name, subscription(topics...)
		req.Protocols = append(req.Protocols, proto)
	}
	p.background(func() func() string {
		resp := p.b.c.JoinGroup(p.b.t.Context(), Client{ID: who.name, Host: "10.0.0.1"}, req)
		return func() string { return who.joined(resp) }
	})
}

func (who *person) joined(resp *kmsg.JoinGroupResponse) string {
	if resp.ErrorCode == kerr.MemberIDRequired.Code || resp.ErrorCode == 0 {
		who.member = resp.MemberID
	}
	if resp.ErrorCode != 0 {
		return fmt.Sprintf("%s: join %s member=%s", who.name, codeName(resp.ErrorCode), resp.MemberID)
	}
	who.generation = resp.Generation
	out := fmt.Sprintf("%s: joined generation=%d protocol=%s leader=%s member=%s", who.name, resp.Generation, deref(resp.Protocol), resp.LeaderID, resp.MemberID)
	if len(resp.Members) > 0 {
		var ids []string
		for _, m := range resp.Members {
			ids = append(ids, m.MemberID)
		}
		out += " members=" + strings.Join(ids, ",")
	}
	if resp.SkipAssignment {
		out += " skip-assignment"
	}
	return out
}

func (p *people) sync(who *person, group string, assign map[string]string) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = 5
	req.Group, req.MemberID, req.Generation, req.InstanceID = group, who.member, who.generation, who.instance
	for name, value := range assign {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = p.get(name).member, []byte(value)
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	p.background(func() func() string {
		resp := p.b.c.SyncGroup(p.b.t.Context(), Client{ID: who.name}, req)
		return func() string {
			if resp.ErrorCode != 0 {
				return fmt.Sprintf("%s: sync %s", who.name, codeName(resp.ErrorCode))
			}
			return fmt.Sprintf("%s: synced protocol=%s assignment=%q", who.name, deref(resp.Protocol), resp.MemberAssignment)
		}
	})
}

func (p *people) heartbeat(who *person, group string) string {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version = 4
	req.Group, req.MemberID, req.Generation, req.InstanceID = group, who.member, who.generation, who.instance
	resp := p.b.c.Heartbeat(p.b.t.Context(), Client{ID: who.name}, req)
	return codeName(resp.ErrorCode)
}

// subscription is a consumer protocol subscription, version 1.
func subscription(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, topics
	return m.AppendTo(nil)
}

// print is the state of a group.
func (p *people) print(group string) string {
	out, err := coordinator.Peek(p.b.t.Context(), p.b.c.rt, 0, func(s *shard) (string, error) {
		g := s.groups[group]
		if g == nil {
			return "no such group", nil
		}
		return g.print(), nil
	})
	if err != nil {
		return err.Error()
	}
	return p.short(out)
}

func (g *classicGroup) print() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s generation=%d", g.state, g.generation)
	if g.protocolType != "" {
		fmt.Fprintf(&out, " type=%s", g.protocolType)
	}
	if g.protocol != nil {
		fmt.Fprintf(&out, " protocol=%s", *g.protocol)
	}
	if g.leader != "" {
		fmt.Fprintf(&out, " leader=%s", g.leader)
	}
	for _, m := range g.members {
		fmt.Fprintf(&out, "\n  %s", m.id)
		if m.instance != nil {
			fmt.Fprintf(&out, " instance=%s", *m.instance)
		}
		for _, flag := range []struct {
			on   bool
			name string
		}{{m.joining != nil, "joining"}, {m.syncing != nil, "syncing"}, {m.isNew, "new"}} {
			if flag.on {
				out.WriteString(" " + flag.name)
			}
		}
		if _, ok := g.pendingSync[m.id]; ok {
			out.WriteString(" to-sync")
		}
		if len(m.assignment) > 0 {
			fmt.Fprintf(&out, " assignment=%q", m.assignment)
		}
	}
	if n := len(g.pendingJoin); n > 0 {
		fmt.Fprintf(&out, "\n  %d pending", n)
	}
	for _, tp := range g.store.sorted() {
		o, _ := g.store.get(tp.topic, tp.partition)
		fmt.Fprintf(&out, "\n  %s-%d at %d", tp.topic, tp.partition, o.offset)
	}
	return out.String()
}
