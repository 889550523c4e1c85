package api_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/api"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
)

// TestNoFrameHurts damages a request of every served version in many ways. Each
// is answered or ends its connection; none makes a handler panic (the end of the
// test looks for that), and the broker serves others on.
func TestNoFrameHurts(t *testing.T) {
	const seed = 7
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, seed))
		c := newCluster(t).start(nil)
		s := c.dial()
		s.topic("t", 1)
		s.produce("t", 0, "kept")
		s.coordinate()
		for _, v := range api.Versions() {
			for version := max(v.Min, servedFrom[v.Key]); version <= v.Max; version++ {
				whole := kmsg.NewRequestFormatter().AppendRequest(nil, sample(v.Key, version), 1)
				for range 12 {
					k := c.dial()
					k.write(damaged(rng, whole))
					if err := k.nc.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
					_ = k.closed() // or answered, or it waits for what never comes
					_ = k.nc.Close()
				}
			}
		}
		got := do[*kmsg.FetchResponse](s, fetchRequest("t", 0, 0)).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || len(values(t, got.RecordBatches, 0)) < 1 {
			t.Errorf("after seed %d: %+v", seed, got)
		}
	})
}

// sample is a request with something in its arrays, so that damage reaches them.
func sample(key, version int16) kmsg.Request {
	switch kmsg.Key(key) {
	case kmsg.Produce:
		return at(produceRequest("t", 0, batch("x")), version)
	case kmsg.Fetch:
		return at(fetchRequest("t", 0, 0), version)
	case kmsg.ListOffsets:
		return listRequest(version, "t", 0, -1)
	case kmsg.OffsetCommit:
		return commitRequest(version, "g", "t", metadata.TopicID{}, map[int32]int64{0: 1})
	case kmsg.Metadata:
		req := at(kmsg.NewPtrMetadataRequest(), version)
		q := kmsg.NewMetadataRequestTopic()
		q.Topic = kmsg.StringPtr("t")
		req.Topics = append(req.Topics, q)
		return req
	case kmsg.CreateTopics:
		req := at(kmsg.NewPtrCreateTopicsRequest(), version)
		req.Topics = append(req.Topics, createTopic("t", 1))
		return req
	case kmsg.JoinGroup:
		req := at(kmsg.NewPtrJoinGroupRequest(), version)
		req.Group, req.ProtocolType = "g", "consumer"
		req.Protocols = append(req.Protocols, kmsg.NewJoinGroupRequestProtocol())
		return req
	case kmsg.ElectLeaders:
		return electRequest(version, 0, "t", 0, 1)
	case kmsg.AlterPartitionAssignments:
		return reassignRequest(version, "t", 0, []int32{1})
	case kmsg.ListPartitionReassignments:
		req := at(kmsg.NewPtrListPartitionReassignmentsRequest(), version)
		rt := kmsg.NewListPartitionReassignmentsRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0}
		req.Topics = append(req.Topics, rt)
		return req
	case kmsg.DescribeClientQuotas:
		return describeQuotas(version, false, component("user", "u"), component("client-id", "<any>"))
	case kmsg.AlterClientQuotas:
		return alterQuotas(version, quotaEntity("user=hostile"), quotaOps("request_percentage", 1.0))
	case kmsg.DescribeLogDirs:
		req := at(kmsg.NewPtrDescribeLogDirsRequest(), version)
		rt := kmsg.NewDescribeLogDirsRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0}
		req.Topics = append(req.Topics, rt)
		return req
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	return req
}

// damaged changes what follows the header of a frame: bytes flipped, set to the
// extremes, cut off or added.
func damaged(rng *rand.Rand, frame []byte) []byte {
	const head = 14 // size, key, version, correlation id, no client id
	b := append([]byte(nil), frame...)
	if len(b) > head {
		for range 1 + rng.IntN(4) {
			i := head + rng.IntN(len(b)-head)
			switch rng.IntN(4) {
			case 0:
				b[i] ^= 1 << rng.IntN(8)
			case 1:
				b[i] = 0xff
			case 2:
				b[i] = 0
			case 3:
				b[i] = 0x7f
			}
		}
	}
	switch rng.IntN(4) {
	case 0:
		b = b[:min(len(b), head+rng.IntN(len(b)-head+1))]
	case 1:
		b = append(b, make([]byte, rng.IntN(20))...)
	}
	n := len(b) - 4
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

// TestDeniedClientsLearnOnlyThat switches authorization on, with nothing
// allowed: every API answers with its authorization error and does nothing.
func TestDeniedClientsLearnOnlyThat(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	id := s.topic("t", 1)
	s.produce("t", 0, "secret")
	s.coordinate()
	c.stop()
	c.start(map[string]string{"authorizer.class.name": config.StandardAuthorizer})
	s = c.dial()
	topic, cluster, group := kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed

	code(t, "produce", produced(do[*kmsg.ProduceResponse](s, produceRequest("t", 0, batch("x")))).ErrorCode, topic)
	p := do[*kmsg.FetchResponse](s, fetchRequest("t", 0, 0)).Topics[0].Partitions[0]
	code(t, "fetch", p.ErrorCode, topic)
	same(t, "fetched", len(p.RecordBatches), 0)
	byID := at(kmsg.NewPtrFetchRequest(), 13)
	byID.SessionEpoch, byID.MaxBytes = -1, 1000
	addFetch(byID, "", id, 0, 0)
	code(t, "fetch by id", do[*kmsg.FetchResponse](s, byID).Topics[0].Partitions[0].ErrorCode, topic)
	follower := fetchRequest("t", 0, 0)
	follower.ReplicaID = 2
	code(t, "fetch as a follower", do[*kmsg.FetchResponse](s, follower).Topics[0].Partitions[0].ErrorCode, topic)
	code(t, "list offsets", s.listOffset("t", 0, -1).ErrorCode, topic)

	named := at(kmsg.NewPtrMetadataRequest(), 12)
	for _, name := range []string{"t", "nowhere"} {
		q := kmsg.NewMetadataRequestTopic()
		q.Topic = kmsg.StringPtr(name)
		named.Topics = append(named.Topics, q)
	}
	q := kmsg.NewMetadataRequestTopic()
	q.TopicID = id
	named.Topics = append(named.Topics, q)
	named.AllowAutoTopicCreation = true
	for i, rt := range do[*kmsg.MetadataResponse](s, named).Topics {
		code(t, text("metadata %d", i), rt.ErrorCode, topic)
		same(t, "partitions", len(rt.Partitions), 0)
		same(t, "the name behind an id is told", i == 2 && rt.Topic != nil, false)
	}
	same(t, "all topics", len(do[*kmsg.MetadataResponse](s, at(kmsg.NewPtrMetadataRequest(), 12)).Topics), 0)

	create := at(kmsg.NewPtrCreateTopicsRequest(), 7)
	create.Topics = append(create.Topics, createTopic("mine", 1))
	code(t, "create", do[*kmsg.CreateTopicsResponse](s, create).Topics[0].ErrorCode, topic)
	drop := at(kmsg.NewPtrDeleteTopicsRequest(), 5)
	drop.TopicNames = []string{"t", "nowhere"}
	for _, rt := range do[*kmsg.DeleteTopicsResponse](s, drop).Topics {
		code(t, "delete "+*rt.Topic, rt.ErrorCode, topic)
	}
	k := &served{conn: s, c: c}
	code(t, "describe topic configs", describe(k, 4, kmsg.ConfigResourceTypeTopic, "t").ErrorCode, topic)
	code(t, "describe broker configs", describe(k, 4, kmsg.ConfigResourceTypeBroker, "1").ErrorCode, cluster)
	code(t, "init producer id", do[*kmsg.InitProducerIDResponse](s, at(kmsg.NewPtrInitProducerIDRequest(), 4)).ErrorCode, cluster)

	elect := do[*kmsg.ElectLeadersResponse](s, electRequest(2, 0, "t", 0))
	code(t, "elect", elect.ErrorCode, cluster)
	code(t, "elect v0", do[*kmsg.ElectLeadersResponse](s, electRequest(0, 0, "t", 0)).Topics[0].Partitions[0].ErrorCode, cluster)
	same(t, "elect all", len(do[*kmsg.ElectLeadersResponse](s, electRequest(2, 0, "")).Topics), 0)
	move := do[*kmsg.AlterPartitionAssignmentsResponse](s, reassignRequest(1, "t", 0, nil))
	code(t, "reassign", move.ErrorCode, cluster)
	same(t, "partitions told", len(move.Topics), 0)
	code(t, "list reassignments", do[*kmsg.ListPartitionReassignmentsResponse](s, at(kmsg.NewPtrListPartitionReassignmentsRequest(), 0)).ErrorCode, cluster)
	code(t, "unregister", do[*kmsg.UnregisterBrokerResponse](s, at(kmsg.NewPtrUnregisterBrokerRequest(), 0)).ErrorCode, cluster)
	code(t, "describe quotas", do[*kmsg.DescribeClientQuotasResponse](s, describeQuotas(1, false)).ErrorCode, cluster)
	code(t, "alter quotas", do[*kmsg.AlterClientQuotasResponse](s, alterQuotas(1, quotaEntity("user=u"), quotaOps("consumer_byte_rate", 1.0))).Entries[0].ErrorCode, cluster)
	dirs := do[*kmsg.DescribeLogDirsResponse](s, at(kmsg.NewPtrDescribeLogDirsRequest(), 4))
	code(t, "log dirs", dirs.ErrorCode, cluster)
	same(t, "directories told", len(dirs.Dirs), 0)

	find := at(kmsg.NewPtrFindCoordinatorRequest(), 3)
	find.CoordinatorKey = "g"
	code(t, "find coordinator", do[*kmsg.FindCoordinatorResponse](s, find).ErrorCode, group)
	join := at(kmsg.NewPtrJoinGroupRequest(), 5)
	join.Group = "g"
	code(t, "join", do[*kmsg.JoinGroupResponse](s, join).ErrorCode, group)
	commit := do[*kmsg.OffsetCommitResponse](s, commitRequest(9, "g", "t", metadata.TopicID{}, map[int32]int64{0: 1}))
	code(t, "commit", commit.Topics[0].Partitions[0].ErrorCode, group)
	for _, v := range []int16{1, 7, 8} {
		fetch := at(kmsg.NewPtrOffsetFetchRequest(), v)
		fetch.Group = "g"
		rt := kmsg.NewOffsetFetchRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0}
		fetch.Topics = append(fetch.Topics, rt)
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "g"
		fetch.Groups = append(fetch.Groups, g)
		resp := do[*kmsg.OffsetFetchResponse](s, fetch)
		got := resp.ErrorCode
		switch v {
		case 1:
			got = resp.Topics[0].Partitions[0].ErrorCode
		case 8:
			got = resp.Groups[0].ErrorCode
		}
		code(t, text("offset fetch v%d", v), got, group)
	}
	list := do[*kmsg.ListGroupsResponse](s, at(kmsg.NewPtrListGroupsRequest(), 4))
	same(t, "groups", len(list.Groups), 0)
}

// TestRestartStartsALeaderEpoch checks that a broker leads again only under a
// new epoch, that everything acked is there, and that clients of the old epoch
// are told (KIP-320).
func TestRestartStartsALeaderEpoch(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	s.topic("t", 1)
	s.produce("t", 0, "a", "b")
	c.stop()
	c.start(nil)
	s = c.dial()
	latest := s.listOffset("t", 0, -1)
	same(t, "end", latest.Offset, 2)
	same(t, "leader epoch", latest.LeaderEpoch, 1)
	same(t, "next offset", s.produce("t", 0, "c"), 2)
	got := do[*kmsg.FetchResponse](s, fetchRequest("t", 0, 0)).Topics[0].Partitions[0]
	same(t, "records", text("%v", values(t, got.RecordBatches, 0)), "[a b c]")
	old := fetchRequest("t", 0, 0)
	old.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
	code(t, "client of the old epoch", do[*kmsg.FetchResponse](s, old).Topics[0].Partitions[0].ErrorCode, kerr.FencedLeaderEpoch)
	req := at(kmsg.NewPtrOffsetForLeaderEpochRequest(), 4)
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic = "t"
	rt.Partitions = append(rt.Partitions, kmsg.NewOffsetForLeaderEpochRequestTopicPartition())
	rt.Partitions[0].CurrentLeaderEpoch = -1
	req.Topics = append(req.Topics, rt)
	end := do[*kmsg.OffsetForLeaderEpochResponse](s, req).Topics[0].Partitions[0]
	same(t, "end of the old epoch", end.EndOffset, 2)
}
