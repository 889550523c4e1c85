package group

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// step is one thing that happens to a model M. Steps are drawn first and run in
// a bubble of their own, because rapid stops a test by a panic, which must not
// leave a bubble, and measures time, which is virtual inside.
type step[M any] struct {
	text string
	do   func(m M) error
}

func (s step[M]) String() string { return s.text }

// runSteps checks random histories; kinds draw one step each, start makes the
// model in the bubble and finish ends it.
func runSteps[M any](t *testing.T, kinds []func(t *rapid.T) step[M], start func(t *testing.T) M, check, finish func(m M) error) {
	drawn := rapid.Custom(func(t *rapid.T) step[M] {
		return rapid.SampledFrom(kinds).Draw(t, "kind")(t)
	})
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom([]int{5, 20, 50, 100}).Draw(rt, "n")
		steps := rapid.SliceOfN(drawn, n, n).Draw(rt, "steps")
		var failure error
		synctest.Test(t, func(t *testing.T) {
			m := start(t)
			for i, s := range steps {
				if failure = s.do(m); failure == nil {
					failure = check(m)
				}
				if failure != nil {
					failure = fmt.Errorf("step %d, %s: %w", i, s, failure)
					break
				}
			}
			if err := finish(m); failure == nil {
				failure = err
			}
		})
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// modelOffset is what the model knows of a committed offset.
type modelOffset struct {
	offset int64
	at     time.Time
}

// offsetModel drives simple groups and a map side by side.
type offsetModel struct {
	b    *bench
	want map[string]map[topicPartition]modelOffset
}

var (
	modelGroups     = rapid.SampledFrom([]string{"", "g", "h"})
	modelTopics     = rapid.SampledFrom([]string{"t", "u"})
	modelPartitions = rapid.Int32Range(0, 2)
)

func drawPartitions(t *rapid.T) []topicPartition {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) topicPartition {
		return topicPartition{modelTopics.Draw(t, "topic"), modelPartitions.Draw(t, "partition")}
	}), 1, 4, rapid.ID[topicPartition]).Draw(t, "partitions")
}

func (m *offsetModel) request(group string, tps []topicPartition, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = 9, group
	for i, tp := range tps {
		t, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition, p.Offset = tp.topic, tp.partition, offset+int64(i)
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

func (m *offsetModel) set(group string, tps []topicPartition, offset int64) {
	if m.want[group] == nil {
		m.want[group] = make(map[topicPartition]modelOffset)
	}
	for i, tp := range tps {
		m.want[group][tp] = modelOffset{offset + int64(i), time.Now()}
	}
}

func (m *offsetModel) drop(group string, tp topicPartition) {
	delete(m.want[group], tp)
	if len(m.want[group]) == 0 {
		delete(m.want, group)
	}
}

type offsetStep = step[*offsetModel]

func drawCommit(t *rapid.T) offsetStep {
	group, tps := modelGroups.Draw(t, "group"), drawPartitions(t)
	offset := rapid.Int64Range(0, 1000).Draw(t, "offset")
	return offsetStep{fmt.Sprintf("commit %q %v %d", group, tps, offset), func(m *offsetModel) error {
		resp := m.b.c.OffsetCommit(m.b.t.Context(), Client{}, m.request(group, tps, offset))
		m.set(group, tps, offset)
		return wantCodes(resp, 0)
	}}
}

func wantCodes(resp *kmsg.OffsetCommitResponse, want int16) error {
	for _, t := range resp.Topics {
		if code := t.Partitions[0].ErrorCode; code != want {
			return fmt.Errorf("commit: %s, want %s", codeName(code), codeName(want))
		}
	}
	return nil
}

// drawFailedCommit: the log refuses the append.
func drawFailedCommit(t *rapid.T) offsetStep {
	group, tps := modelGroups.Draw(t, "group"), drawPartitions(t)
	return offsetStep{fmt.Sprintf("commit that fails %q %v", group, tps), func(m *offsetModel) error {
		m.b.log.FailAppends(func(int32, record.Batch) error { return fmt.Errorf("full") })
		defer m.b.log.FailAppends(nil)
		return wantCodes(m.b.c.OffsetCommit(m.b.t.Context(), Client{}, m.request(group, tps, 5000)), codeCoordinatorNotAvail)
	}}
}

// drawLostCommit: the leadership moves before the commit, and comes back.
func drawLostCommit(t *rapid.T) offsetStep {
	group, tps := modelGroups.Draw(t, "group"), drawPartitions(t)
	return offsetStep{fmt.Sprintf("commit that is lost %q %v", group, tps), func(m *offsetModel) error {
		m.b.log.Hold(true)
		answer := make(chan *kmsg.OffsetCommitResponse, 1)
		go func() { answer <- m.b.c.OffsetCommit(m.b.t.Context(), Client{}, m.request(group, tps, 6000)) }()
		synctest.Wait()
		m.b.log.Hold(false)
		m.b.lead()
		return wantCodes(<-answer, codeNotCoordinator)
	}}
}

func drawCrash(*rapid.T) offsetStep {
	return offsetStep{"crash", func(m *offsetModel) error { m.b.crash(); return nil }}
}

func drawDeleteOffsets(t *rapid.T) offsetStep {
	group, tps := rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"), drawPartitions(t)
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	for _, tp := range tps {
		d, p := kmsg.NewOffsetDeleteRequestTopic(), kmsg.NewOffsetDeleteRequestTopicPartition()
		d.Topic, p.Partition = tp.topic, tp.partition
		d.Partitions = append(d.Partitions, p)
		req.Topics = append(req.Topics, d)
	}
	return offsetStep{fmt.Sprintf("delete offsets %q %v", group, tps), func(m *offsetModel) error {
		m.b.c.OffsetDelete(m.b.t.Context(), Client{}, req)
		for _, tp := range tps {
			m.drop(group, tp)
		}
		return nil
	}}
}

func drawDeleteGroup(t *rapid.T) offsetStep {
	group := modelGroups.Draw(t, "group")
	return offsetStep{fmt.Sprintf("delete group %q", group), func(m *offsetModel) error {
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{group}
		code := m.b.c.DeleteGroups(m.b.t.Context(), Client{}, req).Groups[0].ErrorCode
		if code != 0 && (code != codeGroupNotFound || m.want[group] != nil) {
			return fmt.Errorf("delete group: %s", codeName(code))
		}
		delete(m.want, group)
		return nil
	}}
}

func drawDeleteTopic(t *rapid.T) offsetStep {
	topic := modelTopics.Draw(t, "topic")
	return offsetStep{"delete topic " + topic, func(m *offsetModel) error {
		for group, offsets := range m.want {
			for tp := range offsets {
				if tp.topic == topic {
					m.drop(group, tp)
				}
			}
		}
		return m.b.c.OnTopicsDeleted(m.b.t.Context(), []DeletedTopic{{Name: topic}})
	}}
}

func drawAdvance(t *rapid.T) offsetStep {
	d := time.Duration(rapid.IntRange(1, 40).Draw(t, "minutes")) * time.Minute
	return offsetStep{"advance " + d.String(), func(*offsetModel) error {
		time.Sleep(d)
		synctest.Wait()
		return nil
	}}
}

// check compares everything. Expiry may be late by its interval, so an offset
// past its retention may be there or not; it never comes back. A load starts the
// interval over.
func (m *offsetModel) check() error {
	for _, group := range []string{"", "g", "h"} {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 9
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		req.Groups = append(req.Groups, g)
		got := make(map[topicPartition]int64)
		for _, topic := range m.b.c.OffsetFetch(m.b.t.Context(), Client{}, req).Groups[0].Topics {
			for _, p := range topic.Partitions {
				got[topicPartition{topic.Topic, p.Partition}] = p.Offset
			}
		}
		want := make(map[topicPartition]int64)
		for tp, o := range m.want[group] {
			if _, there := got[tp]; !there && time.Since(o.at) >= m.b.config.OffsetsRetention {
				m.drop(group, tp)
				continue
			}
			want[tp] = o.offset
			if late := m.b.config.ExpiryInterval; time.Since(o.at) > m.b.config.OffsetsRetention+late && time.Since(m.b.loaded) > late {
				return fmt.Errorf("%v of group %q has not expired after %v", tp, group, time.Since(o.at))
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(topicPartition{})); diff != "" {
			return fmt.Errorf("offsets of group %q (-want +got):\n%s", group, diff)
		}
	}
	return nil
}

func TestOffsetsEqualTheModel(t *testing.T) {
	config := testConfig()
	config.OffsetsRetention = time.Hour
	runSteps(t,
		[]func(*rapid.T) offsetStep{drawCommit, drawCommit, drawFailedCommit, drawLostCommit, drawCrash,
			drawDeleteOffsets, drawDeleteGroup, drawDeleteTopic, drawAdvance},
		func(t *testing.T) *offsetModel {
			return &offsetModel{b: newBench(t, config), want: make(map[string]map[topicPartition]modelOffset)}
		},
		(*offsetModel).check,
		func(m *offsetModel) error { m.b.stop(); return nil })
}

// consistent checks a group's invariants.
func (g *classicGroup) consistent() error {
	support := make(map[string]int)
	for _, m := range g.members {
		for _, p := range m.protocols {
			support[p.Name]++
		}
		switch {
		case g.byID[m.id] != m:
			return fmt.Errorf("member %s is not found by its id", m.id)
		case m.instance != nil && g.static[*m.instance] != m:
			return fmt.Errorf("static member %s is not found by its instance id", m.id)
		case !m.session.Scheduled() && !m.satisfied():
			return fmt.Errorf("nothing ends the session of member %s", m.id)
		case m.syncing != nil && g.state != CompletingRebalance:
			return fmt.Errorf("member %s waits for an assignment in state %s", m.id, g.state)
		}
	}
	for id := range g.pendingSync {
		if g.byID[id] == nil {
			return fmt.Errorf("%s is to sync, but no member", id)
		}
	}
	switch {
	case len(g.byID) != len(g.members):
		return fmt.Errorf("%d members, %d ids", len(g.members), len(g.byID))
	case (g.state == Empty) != (len(g.members) == 0) && g.state != PreparingRebalance:
		return fmt.Errorf("%d members in state %s", len(g.members), g.state)
	case len(g.members) > 0 && g.byID[g.leader] == nil:
		return fmt.Errorf("leader %q is no member", g.leader)
	case g.state == PreparingRebalance && !g.join.timer.Scheduled():
		return fmt.Errorf("nothing ends the join phase")
	case g.state == CompletingRebalance && len(g.pendingSync) > 0 && !g.sync.Scheduled():
		return fmt.Errorf("nothing ends the sync phase")
	}
	if diff := cmp.Diff(support, g.support); diff != "" {
		return fmt.Errorf("protocols (-want +got): %s", diff)
	}
	return nil
}

// groupModel drives members at random and checks invariants.
type groupModel struct {
	b          *bench
	p          *people
	generation int32
}

type groupStep = step[*groupModel]

// drawMember draws who does something, and makes the step.
func drawMember(t *rapid.T, what string, do func(m *groupModel, who *person)) groupStep {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who")
	return groupStep{name + " " + what, func(m *groupModel) error { do(m, m.p.get(name)); return nil }}
}

func drawJoin(t *rapid.T) groupStep {
	forgot, static := rapid.Bool().Draw(t, "forgot its id"), rapid.Bool().Draw(t, "static")
	protocols := rapid.SampledFrom([][]string{{"range"}, {"range", "sticky"}, {"sticky", "range"}}).Draw(t, "protocols")
	version := rapid.SampledFrom([]int16{0, 3, 5, 9}).Draw(t, "version")
	return drawMember(t, fmt.Sprint("joins ", forgot, static, protocols, version), func(m *groupModel, who *person) {
		if forgot {
			who.member = ""
			if static {
				instance := "i" + who.name
				who.instance = &instance
			}
		}
		who.protocols = protocols
		m.p.join(who, "g", version, 10*time.Second, 20*time.Second, nil)
	})
}

func drawSync(t *rapid.T) groupStep {
	return drawMember(t, "syncs", func(m *groupModel, who *person) {
		m.p.sync(who, "g", map[string]string{"a": "1", "b": "2", "c": "3"})
	})
}

func drawBeat(t *rapid.T) groupStep {
	return drawMember(t, "beats", func(m *groupModel, who *person) { m.p.heartbeat(who, "g") })
}

func drawLeave(t *rapid.T) groupStep {
	return drawMember(t, "leaves", func(m *groupModel, who *person) {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = 2, "g", who.member
		m.b.c.LeaveGroup(m.b.t.Context(), Client{}, req)
	})
}

func drawMemberCommit(t *rapid.T) groupStep {
	return drawMember(t, "commits", func(m *groupModel, who *person) {
		req := (&offsetModel{}).request("g", []topicPartition{{"t", 0}}, 1)
		req.MemberID, req.Generation, req.InstanceID = who.member, who.generation, who.instance
		m.b.c.OffsetCommit(m.b.t.Context(), Client{}, req)
	})
}

func drawPause(t *rapid.T) groupStep {
	d := time.Duration(rapid.IntRange(1, 12000).Draw(t, "ms")) * time.Millisecond
	return groupStep{"pause " + d.String(), func(*groupModel) error { time.Sleep(d); return nil }}
}

func drawFlaky(t *rapid.T) groupStep {
	var fail func(int32, record.Batch) error
	if rapid.Bool().Draw(t, "appends fail") {
		fail = func(int32, record.Batch) error { return fmt.Errorf("full") }
	}
	return groupStep{fmt.Sprint("appends fail: ", fail != nil), func(m *groupModel) error { m.b.log.FailAppends(fail); return nil }}
}

func drawGroupCrash(*rapid.T) groupStep {
	return groupStep{"crash", func(m *groupModel) error {
		m.b.log.FailAppends(nil)
		m.b.crash()
		m.generation = -1 // one that was not stored is given again
		return nil
	}}
}

func (m *groupModel) check() error {
	m.p.settle()
	_, err := coordinator.Peek(m.b.t.Context(), m.b.c.rt, 0, func(s *shard) (bool, error) {
		for _, g := range s.groups {
			if err := g.consistent(); err != nil {
				return false, fmt.Errorf("%w\n%s", err, g.print())
			}
			if g.generation < m.generation && g.generation != 0 {
				return false, fmt.Errorf("generation went back from %d to %d", m.generation, g.generation)
			}
			m.generation = g.generation
		}
		return true, nil
	})
	return err
}

// silence: ten minutes after everybody fell silent the group is empty, and all
// who waited were answered, or the bubble would not end.
func (m *groupModel) silence() error {
	defer m.b.stop()
	m.b.log.FailAppends(nil)
	time.Sleep(10*time.Minute + time.Second)
	m.p.settle()
	for _, g := range m.b.c.ListGroups(m.b.t.Context(), Client{}, kmsg.NewPtrListGroupsRequest()).Groups {
		if g.Group == "g" && g.GroupState != Empty.String() {
			return fmt.Errorf("the group is %s ten minutes after everybody fell silent", g.GroupState)
		}
	}
	return nil
}

func TestGroupsStayConsistentWhateverMembersDo(t *testing.T) {
	runSteps(t,
		[]func(*rapid.T) groupStep{drawJoin, drawJoin, drawJoin, drawSync, drawSync, drawBeat, drawLeave,
			drawMemberCommit, drawPause, drawFlaky, drawGroupCrash},
		func(t *testing.T) *groupModel {
			m := &groupModel{b: newBench(t, testConfig())}
			m.p = newPeople(m.b)
			return m
		},
		(*groupModel).check, (*groupModel).silence)
}
