package group

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// TestScripts runs the scripts of testdata: requests in, answers and states out.
// "-" stands for no answer. Run with -rewrite to accept changes.
//
//	config   [initial-delay=3s] [max-size=N] [metadata=N] [retention=D]   starts over
//	join     NAME [group=g] [fresh] [instance=I] [protocols=(a,b)] [topics=(t)] [session=10s] [rebalance=60s] [version=9]
//	sync     NAME [assign=(a=x,b=y)]          sent by NAME with what it knows
//	beat     NAME
//	leave    NAME | instance=I
//	commit   NAME topic-partition=offset …    (as=nobody: no membership)
//	fetch    [topic-partition …]
//	advance  DURATION
//	state · log · list · describe
//	hold · commit-log · fail-appends [on|off] · restart · unload
//	delete-group · delete-offsets t-0 … · delete-topic t
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t, b: newBench(t, testConfig())}
			s.p = newPeople(s.b)
			datadriven.RunTest(t, path, s.run)
			s.b.stop()
		})
	})
}

type script struct {
	t *testing.T
	b *bench
	p *people
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	group := "g"
	maybe(t, d, "group", &group)
	out := s.command(d, group)
	if later := s.p.settle(); later != "" {
		out = strings.TrimSuffix(out, "\n") + "\n" + later
	}
	if out = strings.Trim(out, "\n"); out == "" {
		out = "-"
	}
	return out + "\n"
}

func (s *script) command(d *datadriven.TestData, group string) string {
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "config":
		return s.configure(d)
	case "join":
		return s.join(d, group)
	case "sync":
		assign := make(map[string]string)
		for _, a := range list(d, "assign") {
			who, value, _ := strings.Cut(a, "=")
			assign[who] = value
		}
		s.p.sync(s.p.get(name), group, assign)
		return ""
	case "beat":
		return name + ": " + s.p.heartbeat(s.p.get(name), group)
	case "leave":
		return s.leave(d, group)
	case "commit":
		return s.commit(d, group)
	case "fetch":
		return s.fetch(d, group)
	case "advance":
		wait, err := time.ParseDuration(name)
		if err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(wait)
		return ""
	case "state":
		return s.p.print(group)
	case "log":
		return s.p.short(s.printLog())
	}
	return s.admin(d, group, name)
}

func (s *script) configure(d *datadriven.TestData) string {
	c := testConfig()
	duration := func(key string, to *time.Duration) {
		text := to.String()
		maybe(s.t, d, key, &text)
		v, err := time.ParseDuration(text)
		if err != nil {
			s.t.Fatal(err)
		}
		*to = v
	}
	duration("initial-delay", &c.InitialRebalanceDelay)
	duration("retention", &c.OffsetsRetention)
	maybe(s.t, d, "max-size", &c.MaxSize)
	maybe(s.t, d, "metadata", &c.MaxMetadata)
	s.b.config = c
	s.b.crash()
	return "ok"
}

func (s *script) join(d *datadriven.TestData, group string) string {
	who := s.p.get(d.CmdArgs[0].Key)
	session, rebalance, version := "10s", "60s", 9
	maybe(s.t, d, "session", &session)
	maybe(s.t, d, "rebalance", &rebalance)
	maybe(s.t, d, "version", &version)
	if d.HasArg("instance") {
		var instance string
		d.ScanArgs(s.t, "instance", &instance)
		who.instance = &instance
	}
	if d.HasArg("fresh") {
		who.member = ""
	}
	if protocols := list(d, "protocols"); protocols != nil {
		who.protocols = protocols
	}
	topics := list(d, "topics")
	if topics == nil {
		topics = []string{"t"}
	}
	parse := func(text string) time.Duration {
		v, err := time.ParseDuration(text)
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	s.p.join(who, group, int16(version), parse(session), parse(rebalance), topics)
	return ""
}

// maybe reads an argument that may be missing.
func maybe(t *testing.T, d *datadriven.TestData, key string, to any) {
	if d.HasArg(key) {
		d.ScanArgs(t, key, to)
	}
}

func list(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func (s *script) leave(d *datadriven.TestData, group string) string {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, group
	m := kmsg.NewLeaveGroupRequestMember()
	if d.HasArg("instance") {
		var instance string
		d.ScanArgs(s.t, "instance", &instance)
		m.InstanceID = &instance
	} else {
		m.MemberID = s.p.get(d.CmdArgs[0].Key).member
	}
	req.Members = append(req.Members, m)
	resp := s.b.c.LeaveGroup(s.t.Context(), Client{}, req)
	if resp.ErrorCode != 0 {
		return codeName(resp.ErrorCode)
	}
	return codeName(resp.Members[0].ErrorCode)
}

// splitTP reads topic-partition.
func splitTP(s string) (topic string, partition int32) {
	i := strings.LastIndexByte(s, '-')
	_, err := fmt.Sscan(s[i+1:], &partition)
	if i < 0 || err != nil {
		panic("not a partition: " + s)
	}
	return s[:i], partition
}

func (s *script) commit(d *datadriven.TestData, group string) string {
	req := kmsg.NewPtrOffsetCommitRequest()
	version := 9
	maybe(s.t, d, "version", &version)
	req.Version, req.Group = int16(version), group
	if name := d.CmdArgs[0].Key; name != "nobody" {
		who := s.p.get(name)
		req.MemberID, req.Generation, req.InstanceID = who.member, who.generation, who.instance
	}
	metadata := ""
	maybe(s.t, d, "metadata", &metadata)
	for _, a := range d.CmdArgs[1:] {
		if !strings.Contains(a.Key, "-") {
			continue
		}
		t := kmsg.NewOffsetCommitRequestTopic()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition = splitTP(a.Key)
		p.Metadata = &metadata
		fmt.Sscan(a.Vals[0], &p.Offset)
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	who := d.CmdArgs[0].Key
	s.p.background(func() func() string {
		resp := s.b.c.OffsetCommit(s.t.Context(), Client{}, req)
		return func() string { return who + ": commit " + printCommit(resp) }
	})
	return ""
}

func printCommit(resp *kmsg.OffsetCommitResponse) string {
	var out []string
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("%s-%d %s", t.Topic, p.Partition, codeName(p.ErrorCode)))
		}
	}
	return strings.Join(out, ", ")
}

func printFetch(g kmsg.OffsetFetchResponseGroup) string {
	out := []string{"fetched " + codeName(g.ErrorCode)}
	for _, t := range g.Topics {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("  %s-%d %s offset=%d metadata=%q", t.Topic, p.Partition, codeName(p.ErrorCode), p.Offset, *p.Metadata))
		}
	}
	return strings.Join(out, "\n")
}

func (s *script) fetch(d *datadriven.TestData, group string) string {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	for _, a := range d.CmdArgs {
		if strings.Contains(a.Key, "-") {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			var partition int32
			t.Topic, partition = splitTP(a.Key)
			t.Partitions = []int32{partition}
			g.Topics = append(g.Topics, t)
		}
	}
	req.Groups = append(req.Groups, g)
	s.p.background(func() func() string {
		resp := s.b.c.OffsetFetch(s.t.Context(), Client{}, req)
		return func() string { return printFetch(resp.Groups[0]) }
	})
	return ""
}

func (s *script) admin(d *datadriven.TestData, group, arg string) string {
	ctx := s.t.Context()
	switch d.Cmd {
	case "hold":
		s.b.log.Hold(true)
	case "commit-log":
		s.b.log.Commit(0)
	case "fail-appends":
		s.b.log.FailAppends(nil)
		if arg == "on" {
			s.b.log.FailAppends(func(int32, record.Batch) error { return errors.New("not enough replicas") })
		}
	case "restart":
		s.b.log.Hold(false)
		s.b.lead()
	case "unload":
		s.b.c.Unload(0, s.b.epoch)
	case "list":
		return s.list(d)
	case "describe":
		return s.describe(group)
	case "delete-group":
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = 2, []string{group}
		return codeName(s.b.c.DeleteGroups(ctx, Client{}, req).Groups[0].ErrorCode)
	case "delete-topic":
		if err := s.b.c.OnTopicsDeleted(ctx, []DeletedTopic{{Name: arg}}); err != nil {
			return err.Error()
		}
	case "delete-offsets":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		for _, a := range d.CmdArgs {
			if !strings.Contains(a.Key, "-") {
				continue
			}
			t, p := kmsg.NewOffsetDeleteRequestTopic(), kmsg.NewOffsetDeleteRequestTopicPartition()
			t.Topic, p.Partition = splitTP(a.Key)
			t.Partitions = append(t.Partitions, p)
			req.Topics = append(req.Topics, t)
		}
		resp := s.b.c.OffsetDelete(ctx, Client{}, req)
		out := codeName(resp.ErrorCode)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out += fmt.Sprintf(" %s-%d=%s", t.Topic, p.Partition, codeName(p.ErrorCode))
			}
		}
		return out
	default:
		s.t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return "ok"
}

func (s *script) list(d *datadriven.TestData) string {
	req := kmsg.NewPtrListGroupsRequest()
	req.Version, req.StatesFilter, req.TypesFilter = 5, list(d, "states"), list(d, "types")
	resp := s.b.c.ListGroups(s.t.Context(), Client{}, req)
	out := []string{codeName(resp.ErrorCode)}
	for _, g := range resp.Groups {
		out = append(out, fmt.Sprintf("%s %s %s %q", g.Group, g.GroupType, g.GroupState, g.ProtocolType))
	}
	return strings.Join(out, "\n")
}

func (s *script) describe(group string) string {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 6, []string{group}
	g := s.b.c.DescribeGroups(s.t.Context(), Client{}, req).Groups[0]
	out := fmt.Sprintf("%s %s %q %q", codeName(g.ErrorCode), g.State, g.ProtocolType, g.Protocol)
	for _, m := range g.Members {
		out += fmt.Sprintf("\n  %s instance=%q client=%s host=%s metadata=%d assignment=%q", m.MemberID, deref(m.InstanceID), m.ClientID, m.ClientHost, len(m.ProtocolMetadata), m.MemberAssignment)
	}
	return s.p.short(out)
}

// printLog prints the records of the log as Kafka's formatter names them.
func (s *script) printLog() string {
	var out []string
	batches, _, _, _ := s.b.log.Read(s.t.Context(), coordinator.Term{Epoch: s.b.epoch}, 0, 1<<30)
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			s.t.Fatal(err)
		}
		batches = rest
		b.Each(record.NewDecompressor(1<<20), func(r record.Record) error {
			out = append(out, fmt.Sprintf("%d %s", r.Offset, printRecord(r.Key, r.Value)))
			return nil
		})
	}
	return strings.Join(out, "\n")
}

func printRecord(k, v []byte) string {
	key, err := decodeKey(k)
	if err != nil {
		return err.Error()
	}
	name := key.group
	if key.offset {
		name = fmt.Sprintf("%s %s-%d", key.group, key.topic, key.partition)
	}
	if v == nil {
		return name + ": tombstone"
	}
	if key.offset {
		o, err := decodeOffset(v)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s: offset=%d metadata=%q", name, o.offset, o.metadata)
	}
	g, err := decodeGroup(v)
	if err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("%s: generation=%d type=%q protocol=%s leader=%s", name, g.Generation, g.ProtocolType, deref(g.Protocol), deref(g.Leader))
	for _, m := range g.Members {
		out += fmt.Sprintf(" %s=%q", m.MemberID, m.Assignment)
	}
	return out
}
