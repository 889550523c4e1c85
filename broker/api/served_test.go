package api_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/api"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
)

// served is what the version tests share.
type served struct {
	*conn
	c  *cluster
	id metadata.TopicID // of topic "t", 2 partitions
}

// checks has one entry per served API: a real request of that version, and what
// its answer must say.
var checks = map[kmsg.Key]func(t *testing.T, s *served, v int16){
	kmsg.Produce:                 checkProduce,
	kmsg.Fetch:                   checkFetch,
	kmsg.ListOffsets:             checkListOffsets,
	kmsg.Metadata:                checkMetadata,
	kmsg.OffsetForLeaderEpoch:    checkOffsetForLeaderEpoch,
	kmsg.DeleteRecords:           checkDeleteRecords,
	kmsg.InitProducerID:          checkInitProducerID,
	kmsg.ApiVersions:             checkApiVersions,
	kmsg.CreateTopics:            checkCreateTopics,
	kmsg.DeleteTopics:            checkDeleteTopics,
	kmsg.CreatePartitions:        checkCreatePartitions,
	kmsg.DescribeConfigs:         checkDescribeConfigs,
	kmsg.AlterConfigs:            checkAlterConfigs,
	kmsg.IncrementalAlterConfigs: checkIncrementalAlterConfigs,
	kmsg.DescribeCluster:         checkDescribeCluster,
	kmsg.DescribeTopicPartitions: checkDescribeTopicPartitions,
	kmsg.FindCoordinator:         checkFindCoordinator,
	kmsg.JoinGroup:               checkJoinGroup,
	kmsg.SyncGroup:               checkSyncGroup,
	kmsg.Heartbeat:               checkHeartbeat,
	kmsg.LeaveGroup:              checkLeaveGroup,
	kmsg.OffsetCommit:            checkOffsetCommit,
	kmsg.OffsetFetch:             checkOffsetFetch,
	kmsg.OffsetDelete:            checkOffsetDelete,
	kmsg.DescribeGroups:          checkDescribeGroups,
	kmsg.ListGroups:              checkListGroups,
	kmsg.DeleteGroups:            checkDeleteGroups,

	kmsg.ElectLeaders:               checkElectLeaders,
	kmsg.AlterPartitionAssignments:  checkAlterPartitionReassignments,
	kmsg.ListPartitionReassignments: checkListPartitionReassignments,
	kmsg.UnregisterBroker:           checkUnregisterBroker,
	kmsg.DescribeLogDirs:            checkDescribeLogDirs,

	kmsg.DescribeClientQuotas: checkDescribeClientQuotas,
	kmsg.AlterClientQuotas:    checkAlterClientQuotas,
}

// servedFrom is the lowest version that is served where it is not the lowest advertised.
var servedFrom = map[int16]int16{int16(kmsg.Produce): 3}

// TestEveryVersionOfEveryAPIAnswers sends a real request of each served version.
func TestEveryVersionOfEveryAPIAnswers(t *testing.T) {
	c := newCluster(t).start(nil)
	s := &served{conn: c.dial(), c: c}
	s.id = s.topic("t", 2)
	for i := range 4 {
		s.produce("t", 0, text("value %d", i))
	}
	s.coordinate()
	for _, v := range api.Versions() {
		check := checks[kmsg.Key(v.Key)]
		if check == nil {
			t.Errorf("%s is served and not tested", v.Name)
			continue
		}
		for version := max(v.Min, servedFrom[v.Key]); version <= v.Max; version++ {
			t.Run(text("%s v%d", v.Name, version), func(t *testing.T) {
				k := c.dial()
				k.t = t
				check(t, &served{conn: k, c: c, id: s.id}, version)
			})
		}
	}
}

func checkProduce(t *testing.T, s *served, v int16) {
	end := s.listOffset("t", 0, -1).Offset
	req := at(produceRequest("t", 0, batch("one", "two")), v)
	req.Topics[0].TopicID = s.id
	p := produced(do[*kmsg.ProduceResponse](s.conn, req))
	code(t, "produce", p.ErrorCode, nil)
	same(t, "base offset", p.BaseOffset, end)
	same(t, "log append time", p.LogAppendTime, -1)
	if v >= 5 {
		same(t, "log start", p.LogStartOffset, s.listOffset("t", 0, -2).Offset)
	}
	same(t, "end", s.listOffset("t", 0, -1).Offset, end+2)

	missing := at(produceRequest("nowhere", 0, batch("x")), v)
	missing.Topics[0].TopicID = metadata.NewTopicID()
	want := kerr.UnknownTopicOrPartition
	if v >= 13 {
		want = kerr.UnknownTopicID
	}
	code(t, "unknown topic", produced(do[*kmsg.ProduceResponse](s.conn, missing)).ErrorCode, want)
	missing = at(produceRequest("t", 9, batch("x")), v)
	missing.Topics[0].TopicID = s.id
	code(t, "unknown partition", produced(do[*kmsg.ProduceResponse](s.conn, missing)).ErrorCode, kerr.UnknownTopicOrPartition)
}

func checkFetch(t *testing.T, s *served, v int16) {
	name, id := "t", metadata.TopicID{}
	if v >= 13 {
		name, id = "", s.id
	}
	start, end := s.listOffset("t", 0, -2).Offset, s.listOffset("t", 0, -1).Offset
	req := at(kmsg.NewPtrFetchRequest(), v)
	req.MaxBytes, req.MinBytes, req.SessionEpoch = 1<<20, 1, -1
	addFetch(req, name, id, 0, end+100)
	addFetch(req, name, id, 0, start) // what is said last counts
	addFetch(req, name, id, 1, 100)
	addFetch(req, name, id, 7, 0)
	resp := do[*kmsg.FetchResponse](s.conn, req)
	code(t, "fetch", resp.ErrorCode, nil)
	ps := resp.Topics[0].Partitions
	if len(resp.Topics) != 1 || len(ps) != 3 {
		t.Fatalf("%d topics, %d partitions", len(resp.Topics), len(ps))
	}
	same(t, "name", resp.Topics[0].Topic, name)
	same(t, "id", resp.Topics[0].TopicID, [16]byte(id))
	code(t, "partition", ps[0].ErrorCode, nil)
	same(t, "high watermark", ps[0].HighWatermark, end)
	same(t, "records", int64(len(values(t, ps[0].RecordBatches, start))), end-start)
	same(t, "no aborted transactions asked for", ps[0].AbortedTransactions == nil, true)
	code(t, "offset beyond the end", ps[1].ErrorCode, kerr.OffsetOutOfRange)
	same(t, "high watermark of an error", ps[1].HighWatermark, -1)
	code(t, "unknown partition", ps[2].ErrorCode, kerr.UnknownTopicOrPartition)

	unknown := at(kmsg.NewPtrFetchRequest(), v)
	unknown.SessionEpoch = -1
	want := kerr.UnknownTopicOrPartition
	if name, id = "nowhere", (metadata.TopicID{}); v >= 13 {
		name, id, want = "", metadata.NewTopicID(), kerr.UnknownTopicID
	}
	addFetch(unknown, name, id, 0, 0)
	code(t, "unknown topic", do[*kmsg.FetchResponse](s.conn, unknown).Topics[0].Partitions[0].ErrorCode, want)
}

// never is the version that knows what means nothing.
const never = math.MaxInt16

func checkListOffsets(t *testing.T, s *served, v int16) {
	ask := func(ts int64) kmsg.ListOffsetsResponseTopicPartition {
		return do[*kmsg.ListOffsetsResponse](s.conn, listRequest(v, "t", 0, ts)).Topics[0].Partitions[0]
	}
	start, end := s.listOffset("t", 0, -2).Offset, s.listOffset("t", 0, -1).Offset
	for _, q := range []struct {
		ts    int64
		since int16
		want  int64
	}{
		{-1, 1, end}, {-2, 1, start}, {-3, 7, -2}, {-4, 8, start}, {-5, 9, -1}, {-6, 11, start}, {0, 1, start}, {time.Now().Add(time.Hour).UnixMilli(), 1, -1},
		{-7, never, 0}, {-100, never, 0}, {math.MinInt64, never, 0},
	} {
		p := ask(q.ts)
		if v < q.since {
			code(t, text("timestamp %d", q.ts), p.ErrorCode, kerr.UnsupportedVersion)
			continue
		}
		code(t, text("timestamp %d", q.ts), p.ErrorCode, nil)
		if q.want != -2 {
			same(t, text("offset of %d", q.ts), p.Offset, q.want)
		} else if p.Offset < start || p.Offset >= end {
			t.Errorf("max timestamp at %d, want within %d and %d", p.Offset, start, end)
		}
		if v >= 4 && q.ts == -1 {
			same(t, "leader epoch", p.LeaderEpoch, 0)
		}
	}
	twice := listRequest(v, "t", 0, -1)
	twice.Topics = append(twice.Topics, twice.Topics[0])
	for _, rt := range do[*kmsg.ListOffsetsResponse](s.conn, twice).Topics {
		code(t, "asked twice", rt.Partitions[0].ErrorCode, kerr.InvalidRequest)
	}
	nonsense := do[*kmsg.ListOffsetsResponse](s.conn, listRequest(v, "nowhere", 0, -7)).Topics[0].Partitions[0]
	code(t, "a timestamp without a meaning, of no topic", nonsense.ErrorCode, kerr.UnsupportedVersion)
	missing := do[*kmsg.ListOffsetsResponse](s.conn, listRequest(v, "nowhere", 0, -1)).Topics[0].Partitions[0]
	code(t, "unknown topic", missing.ErrorCode, kerr.UnknownTopicOrPartition)
	same(t, "its offset", missing.Offset, -1)
	if v >= 4 {
		fenced := listRequest(v, "t", 0, -1)
		fenced.Topics[0].Partitions[0].CurrentLeaderEpoch = 9
		code(t, "newer leader epoch", do[*kmsg.ListOffsetsResponse](s.conn, fenced).Topics[0].Partitions[0].ErrorCode, kerr.UnknownLeaderEpoch)
	}
}

func checkMetadata(t *testing.T, s *served, v int16) {
	ask := func(topics ...*string) *kmsg.MetadataResponse {
		req := at(kmsg.NewPtrMetadataRequest(), v)
		req.Topics = []kmsg.MetadataRequestTopic{}
		for _, name := range topics {
			q := kmsg.NewMetadataRequestTopic()
			q.Topic = name
			req.Topics = append(req.Topics, q)
		}
		return do[*kmsg.MetadataResponse](s.conn, req)
	}
	name, bad := "t", "not/a name"
	resp := ask(&name, &bad, &name)
	same(t, "brokers", len(resp.Brokers), 1)
	same(t, "host", resp.Brokers[0].Host, "broker-1")
	same(t, "port", resp.Brokers[0].Port, 9092)
	if v >= 1 {
		same(t, "controller", resp.ControllerID, 1)
	}
	if len(resp.Topics) != 2 {
		t.Fatalf("%d topics, want each once", len(resp.Topics))
	}
	topic := resp.Topics[0]
	code(t, "topic", topic.ErrorCode, nil)
	same(t, "partitions", len(topic.Partitions), 2)
	same(t, "leader", topic.Partitions[0].Leader, 1)
	if v >= 10 {
		same(t, "id", topic.TopicID, [16]byte(s.id))
	}
	code(t, "bad name", resp.Topics[1].ErrorCode, kerr.InvalidTopicException)
	if v >= 1 {
		same(t, "no topics asked for", len(ask().Topics), 0)
	}
	all := at(kmsg.NewPtrMetadataRequest(), v)
	if all.Topics = nil; v == 0 {
		all.Topics = []kmsg.MetadataRequestTopic{}
	}
	every := do[*kmsg.MetadataResponse](s.conn, all)
	if !slices.ContainsFunc(every.Topics, func(t kmsg.MetadataResponseTopic) bool { return *t.Topic == "t" }) {
		t.Error("all topics: t is missing")
	}
	switch {
	case v >= 12:
		checkMetadataByID(t, s, v)
	case v >= 10: // has a field for ids, and no use for them
		req := at(kmsg.NewPtrMetadataRequest(), v)
		for _, id := range []metadata.TopicID{s.id, {}} {
			q := kmsg.NewMetadataRequestTopic()
			q.Topic, q.TopicID = &name, id
			req.Topics = append(req.Topics, q)
		}
		for _, rt := range do[*kmsg.MetadataResponse](s.conn, req).Topics {
			code(t, "by id, before v12", rt.ErrorCode, kerr.InvalidRequest)
		}
	}
}

func checkMetadataByID(t *testing.T, s *served, v int16) {
	req := at(kmsg.NewPtrMetadataRequest(), v)
	for _, id := range []metadata.TopicID{s.id, metadata.NewTopicID()} {
		q := kmsg.NewMetadataRequestTopic()
		q.TopicID = id
		req.Topics = append(req.Topics, q)
	}
	resp := do[*kmsg.MetadataResponse](s.conn, req)
	if got := resp.Topics[0]; got.Topic == nil || *got.Topic != "t" || got.ErrorCode != 0 {
		t.Errorf("by id: %+v", got)
	}
	code(t, "unknown id", resp.Topics[1].ErrorCode, kerr.UnknownTopicID)
	same(t, "its name", resp.Topics[1].Topic == nil, true)
}

func checkOffsetForLeaderEpoch(t *testing.T, s *served, v int16) {
	ask := func(topic string, current, epoch int32) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		req := at(kmsg.NewPtrOffsetForLeaderEpochRequest(), v)
		req.ReplicaID = -1
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = current, epoch
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return do[*kmsg.OffsetForLeaderEpochResponse](s.conn, req).Topics[0].Partitions[0]
	}
	p := ask("t", -1, 0)
	code(t, "epoch 0", p.ErrorCode, nil)
	same(t, "epoch", p.LeaderEpoch, 0)
	same(t, "end", p.EndOffset, s.listOffset("t", 0, -1).Offset)
	p = ask("t", 0, 5)
	same(t, "end of an epoch to come", p.EndOffset, -1)
	code(t, "newer leader epoch", ask("t", 3, 0).ErrorCode, kerr.UnknownLeaderEpoch)
	code(t, "unknown topic", ask("nowhere", -1, 0).ErrorCode, kerr.UnknownTopicOrPartition)
}

func checkDeleteRecords(t *testing.T, s *served, v int16) {
	ask := func(topic string, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
		req := at(kmsg.NewPtrDeleteRecordsRequest(), v)
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Offset = offset
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return do[*kmsg.DeleteRecordsResponse](s.conn, req).Topics[0].Partitions[0]
	}
	name := text("deleted-%d", v)
	s.topic(name, 1)
	for range 3 {
		s.produce(name, 0, "x", "y")
	}
	p := ask(name, 3)
	code(t, "delete below 3", p.ErrorCode, nil)
	same(t, "low watermark", p.LowWatermark, 3)
	same(t, "earliest", s.listOffset(name, 0, -2).Offset, 3)
	same(t, "first record at or after time 0", s.listOffset(name, 0, 0).Offset, 3)
	code(t, "beyond the end", ask(name, 7).ErrorCode, kerr.OffsetOutOfRange)
	code(t, "negative", ask(name, -2).ErrorCode, kerr.OffsetOutOfRange)
	same(t, "back", ask(name, 1).LowWatermark, 3)
	same(t, "all", ask(name, -1).LowWatermark, 6)
	code(t, "unknown topic", ask("nowhere", 0).ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, "internal topic", ask("__consumer_offsets", 0).ErrorCode, kerr.InvalidTopicException)
	compacted := text("compacted-%d", v)
	s.topic(compacted, 1, "cleanup.policy=compact")
	code(t, "compacted topic", ask(compacted, 0).ErrorCode, kerr.PolicyViolation)
	same(t, "fetch below the start", do[*kmsg.FetchResponse](s.conn, fetchRequest(name, 0, 2)).Topics[0].Partitions[0].ErrorCode, kerr.OffsetOutOfRange.Code)
}

func checkInitProducerID(t *testing.T, s *served, v int16) {
	seen := make(map[int64]bool)
	for range 3 {
		resp := do[*kmsg.InitProducerIDResponse](s.conn, at(kmsg.NewPtrInitProducerIDRequest(), v))
		code(t, "init", resp.ErrorCode, nil)
		same(t, "epoch", resp.ProducerEpoch, 0)
		same(t, "given before", seen[resp.ProducerID], false)
		seen[resp.ProducerID] = true
	}
	if v >= 3 {
		again := at(kmsg.NewPtrInitProducerIDRequest(), v)
		again.ProducerID, again.ProducerEpoch = 5, 1
		resp := do[*kmsg.InitProducerIDResponse](s.conn, again)
		code(t, "with an id", resp.ErrorCode, nil)
		same(t, "epoch", resp.ProducerEpoch, 0)
		again.ProducerEpoch = -1
		code(t, "id without epoch", do[*kmsg.InitProducerIDResponse](s.conn, again).ErrorCode, kerr.InvalidRequest)
	}
}

func checkApiVersions(t *testing.T, s *served, v int16) {
	req := at(kmsg.NewPtrApiVersionsRequest(), v)
	req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1.0"
	resp := do[*kmsg.ApiVersionsResponse](s.conn, req)
	code(t, "versions", resp.ErrorCode, nil)
	same(t, "keys", len(resp.ApiKeys), len(api.Versions()))
	for i, k := range resp.ApiKeys {
		want := api.Versions()[i]
		same(t, "key", [3]int16{k.ApiKey, k.MinVersion, k.MaxVersion}, [3]int16{want.Key, want.Min, want.Max})
	}
	if v >= 3 {
		req.ClientSoftwareName = "-bad name"
		bad := do[*kmsg.ApiVersionsResponse](s.conn, req)
		code(t, "bad software name", bad.ErrorCode, kerr.InvalidRequest)
		same(t, "keys", len(bad.ApiKeys), 0)
	}
	// A version to come is answered in version 0 (KIP-511).
	s.write(frameOf(int16(kmsg.ApiVersions), 77, []byte{0, 9, 9, 9}))
	b, err := s.frame()
	if err != nil {
		t.Fatal(err)
	}
	old := kmsg.NewPtrApiVersionsResponse()
	if err := old.ReadFrom(b[4:]); err != nil {
		t.Fatal(err)
	}
	code(t, "version to come", old.ErrorCode, kerr.UnsupportedVersion)
	known := old.ApiKeys[0]
	same(t, "what is known", [3]int16{known.ApiKey, known.MinVersion, known.MaxVersion}, [3]int16{18, 0, 4})
}

// producerBatch is a batch of an idempotent producer.
func producerBatch(id int64, epoch int16, sequence int32, v ...string) record.Batch {
	return batchOf(record.BuilderOptions{Producer: &record.Producer{ID: id, Epoch: epoch, BaseSequence: sequence}}, v...)
}
