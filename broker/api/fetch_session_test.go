package api_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// TestFetchSessions runs the scripts of testdata/sessions: requests in, the
// partitions that answers name out. Run with -rewrite to accept changes.
//
//	topic    NAME [partitions=N]        creates a topic; its id is called NAME, of a second one NAME'
//	delete   NAME
//	produce  TOPIC-PARTITION VALUE …
//	trim     TOPIC-PARTITION OFFSET     deletes records
//	fetch    [client=a] [version=12] [session=N|last] [epoch=N|next] [max=BYTES]
//	         lines: TOPIC-PARTITION@OFFSET, -TOPIC-PARTITION to forget
//	advance  DURATION
func TestFetchSessions(t *testing.T) {
	datadriven.Walk(t, "testdata/sessions", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).start(map[string]string{"max.incremental.fetch.session.cache.slots": "2"})
			s := &sessionScript{c: c, ids: map[string]metadata.TopicID{}, names: map[metadata.TopicID]string{}, clients: map[string]*sessionClient{}}
			s.admin = c.dial()
			datadriven.RunTest(t, path, s.run)
		})
	})
}

type sessionScript struct {
	c       *cluster
	admin   *conn
	ids     map[string]metadata.TopicID
	names   map[metadata.TopicID]string
	clients map[string]*sessionClient
	known   []int32 // sessions in the order they were made
}

// sessionClient is what a client knows of its session.
type sessionClient struct {
	*conn
	id, epoch int32
}

func (s *sessionScript) run(t *testing.T, d *datadriven.TestData) string {
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "topic":
		partitions := 1
		if d.HasArg("partitions") {
			d.ScanArgs(t, "partitions", &partitions)
		}
		id := s.admin.topic(arg(0), int32(partitions))
		name := arg(0)
		if _, again := s.ids[name]; again {
			name += "'"
		}
		s.ids[name], s.names[id] = id, name
		return "ok\n"
	case "delete":
		req := at(kmsg.NewPtrDeleteTopicsRequest(), 5)
		req.TopicNames = []string{arg(0)}
		code(t, "delete", do[*kmsg.DeleteTopicsResponse](s.admin, req).Topics[0].ErrorCode, nil)
		return "ok\n"
	case "produce":
		topic, partition := splitTP(t, arg(0))
		first := s.admin.produce(topic, partition, keys(d.CmdArgs[1:])...)
		return fmt.Sprintf("offset %d\n", first)
	case "trim":
		topic, partition := splitTP(t, arg(0))
		req := at(kmsg.NewPtrDeleteRecordsRequest(), 2)
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition = partition
		if _, err := fmt.Sscan(arg(1), &p.Offset); err != nil {
			t.Fatal(err)
		}
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return fmt.Sprintf("log start %d\n", do[*kmsg.DeleteRecordsResponse](s.admin, req).Topics[0].Partitions[0].LowWatermark)
	case "advance":
		wait, err := time.ParseDuration(arg(0))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		return "ok\n"
	case "fetch":
		return s.fetch(t, d)
	}
	return "unknown command\n"
}

func keys(args []datadriven.CmdArg) []string {
	var out []string
	for _, a := range args {
		out = append(out, a.Key)
	}
	return out
}

// splitTP reads TOPIC-PARTITION.
func splitTP(t *testing.T, s string) (topic string, partition int32) {
	i := strings.LastIndexByte(s, '-')
	if _, err := fmt.Sscan(s[i+1:], &partition); i < 0 || err != nil {
		t.Fatalf("not a partition: %s", s)
	}
	return s[:i], partition
}

func (s *sessionScript) fetch(t *testing.T, d *datadriven.TestData) string {
	name, version, session, epoch, maxBytes := "a", 12, "last", "next", 1<<20
	for key, to := range map[string]any{"client": &name, "version": &version, "session": &session, "epoch": &epoch, "max": &maxBytes} {
		if d.HasArg(key) {
			d.ScanArgs(t, key, to)
		}
	}
	k := s.clients[name]
	if k == nil {
		k = &sessionClient{conn: s.c.dial()}
		s.clients[name] = k
	}
	req := at(kmsg.NewPtrFetchRequest(), int16(version))
	req.MinBytes, req.MaxBytes, req.SessionID, req.SessionEpoch = 0, int32(maxBytes), k.id, k.epoch
	if session != "last" {
		var n int
		if _, err := fmt.Sscan(session, &n); err != nil {
			t.Fatal(err)
		}
		if req.SessionID = 99; n > 0 && n <= len(s.known) {
			req.SessionID = s.known[n-1]
		}
	}
	if epoch != "next" {
		if _, err := fmt.Sscan(epoch, &req.SessionEpoch); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(d.Input) {
		s.addLine(t, req, strings.TrimSpace(line))
	}
	resp := do[*kmsg.FetchResponse](k.conn, req)
	k.follow(req, resp)
	return s.print(t, resp)
}

func (s *sessionScript) addLine(t *testing.T, req *kmsg.FetchRequest, line string) {
	forget := strings.HasPrefix(line, "-")
	where, at, _ := strings.Cut(strings.TrimPrefix(line, "-"), "@")
	name, partition := splitTP(t, where)
	var id metadata.TopicID
	if req.Version >= 13 {
		name, id = "", s.ids[name]
	}
	if forget {
		f := kmsg.NewFetchRequestForgottenTopic()
		f.Topic, f.TopicID, f.Partitions = name, id, []int32{partition}
		req.ForgottenTopics = append(req.ForgottenTopics, f)
		return
	}
	var offset int64
	if _, err := fmt.Sscan(at, &offset); err != nil {
		t.Fatal(err)
	}
	addFetch(req, name, id, partition, offset)
}

// follow does what a client does with the answer: FetchSessionHandler.
func (k *sessionClient) follow(req *kmsg.FetchRequest, resp *kmsg.FetchResponse) {
	switch {
	case resp.ErrorCode == kerr.FetchSessionIDNotFound.Code || resp.SessionID == 0 && resp.ErrorCode == 0:
		k.id, k.epoch = 0, 0
	case resp.ErrorCode == 0:
		k.id, k.epoch = resp.SessionID, req.SessionEpoch+1
	}
}

func (s *sessionScript) print(t *testing.T, resp *kmsg.FetchResponse) string {
	var b strings.Builder
	if resp.ErrorCode != 0 {
		fmt.Fprintf(&b, "%s\n", codeName(resp.ErrorCode))
	}
	fmt.Fprintf(&b, "session %s\n", s.number(resp.SessionID))
	for _, rt := range resp.Topics {
		name := rt.Topic
		if id := metadata.TopicID(rt.TopicID); !id.IsZero() {
			name = "id of " + s.names[id]
		}
		for _, p := range rt.Partitions {
			fmt.Fprintf(&b, "%s-%d: ", name, p.Partition)
			if p.ErrorCode != 0 {
				fmt.Fprintf(&b, "%s\n", codeName(p.ErrorCode))
				continue
			}
			fmt.Fprintf(&b, "start %d, high watermark %d, %v\n", p.LogStartOffset, p.HighWatermark, values(t, p.RecordBatches, 0))
		}
	}
	return b.String()
}

// number calls sessions 1, 2, … in the order they were made.
func (s *sessionScript) number(id int32) string {
	if id == 0 {
		return "none"
	}
	for i, known := range s.known {
		if known == id {
			return fmt.Sprint(i + 1)
		}
	}
	s.known = append(s.known, id)
	return fmt.Sprint(len(s.known))
}

func codeName(c int16) string {
	if err, ok := kerr.ErrorForCode(c).(*kerr.Error); ok {
		return err.Message
	}
	return "none"
}
