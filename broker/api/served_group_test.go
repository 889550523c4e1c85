package api_test

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

func checkFindCoordinator(t *testing.T, s *served, v int16) {
	req := at(kmsg.NewPtrFindCoordinatorRequest(), v)
	req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
	resp := do[*kmsg.FindCoordinatorResponse](s.conn, req)
	if v < 4 {
		code(t, "find", resp.ErrorCode, nil)
		same(t, "node", resp.NodeID, 1)
		same(t, "host", resp.Host, "broker-1")
		return
	}
	same(t, "answers", len(resp.Coordinators), 2)
	for _, c := range resp.Coordinators {
		code(t, c.Key, c.ErrorCode, nil)
		same(t, "node", c.NodeID, 1)
	}
}

// TestCoordinatorsOfEveryTypeAreAnswered asks for those that there are not, and for
// types that there will be or never will.
func TestCoordinatorsOfEveryTypeAreAnswered(t *testing.T) {
	k := newCluster(t).start(nil).dial()
	ask := func(version int16, kind int8, key string) (int16, *string) {
		req := at(kmsg.NewPtrFindCoordinatorRequest(), version)
		req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind, key, []string{key}
		resp := do[*kmsg.FindCoordinatorResponse](k, req)
		if version < 4 {
			return resp.ErrorCode, resp.ErrorMessage
		}
		return resp.Coordinators[0].ErrorCode, resp.Coordinators[0].ErrorMessage
	}
	const group, transaction, share = 0, 1, 2
	for _, q := range []struct {
		kind  int8
		key   string
		since int16 // the version that knows the type
		want  *kerr.Error
	}{
		{group, "g", 0, nil}, {group, "", 0, nil},
		{transaction, "tx", 1, kerr.CoordinatorNotAvailable}, {transaction, "", 1, kerr.CoordinatorNotAvailable},
		{share, "g:AAAAAAAAAAAAAAAAAAAAAQ:0", 6, kerr.CoordinatorNotAvailable}, {share, "g", 6, kerr.InvalidRequest},
		{3, "g", 7, kerr.InvalidRequest}, {-1, "g", 7, kerr.InvalidRequest}, {127, "g", 7, kerr.InvalidRequest},
	} {
		for version := int16(0); version <= 6; version++ {
			want := q.want
			switch {
			case version == 0:
				want = nil // knows no types: it is a group
			case version < q.since:
				want = kerr.InvalidRequest
			}
			got, message := ask(version, q.kind, q.key)
			code(t, text("v%d, type %d, key %q", version, q.kind, q.key), got, want)
			same(t, "has a message", message != nil && *message != "", version >= 1 && version <= 3)
		}
	}
}

// TestAFindCoordinatorIsNotWorthManyTimesItsSize asks for two groups a hundred
// thousand times, and for more than are answered.
func TestAFindCoordinatorIsNotWorthManyTimesItsSize(t *testing.T) {
	k := newCluster(t).start(nil).dial()
	ask := func(key func(i int) string) int {
		req := at(kmsg.NewPtrFindCoordinatorRequest(), 4)
		for i := range 100_000 {
			req.CoordinatorKeys = append(req.CoordinatorKeys, key(i))
		}
		return len(do[*kmsg.FindCoordinatorResponse](k, req).Coordinators)
	}
	same(t, "answers", ask(func(i int) string { return text("%d", i%2) }), 2)
	same(t, "answers", ask(func(i int) string { return text("%d", i) }), 1<<16)
}

// TestAMemberSaysWhatItSyncs is KIP-559: type and protocol are mandatory since v5.
func TestAMemberSaysWhatItSyncs(t *testing.T) {
	k := newCluster(t).start(nil).dial()
	k.coordinate()
	name := kmsg.StringPtr("range")
	for _, q := range []struct {
		version        int16
		kind, protocol *string
		want           *kerr.Error
	}{
		{4, nil, nil, kerr.UnknownMemberID}, {5, nil, nil, kerr.InconsistentGroupProtocol}, {5, nil, name, kerr.InconsistentGroupProtocol},
		{5, name, nil, kerr.InconsistentGroupProtocol}, {5, name, name, kerr.UnknownMemberID},
	} {
		req := at(kmsg.NewPtrSyncGroupRequest(), q.version)
		req.Group, req.MemberID, req.ProtocolType, req.Protocol = "g", "m", q.kind, q.protocol
		code(t, text("sync v%d", q.version), do[*kmsg.SyncGroupResponse](k, req).ErrorCode, q.want)
	}
}

// coordinate makes the groups' topic and waits until its partitions are loaded.
func (k *conn) coordinate() {
	k.t.Helper()
	req := at(kmsg.NewPtrFindCoordinatorRequest(), 3)
	req.CoordinatorKey = "g"
	code(k.t, "find coordinator", do[*kmsg.FindCoordinatorResponse](k, req).ErrorCode, nil)
	for do[*kmsg.ListGroupsResponse](k, at(kmsg.NewPtrListGroupsRequest(), 4)).ErrorCode == kerr.CoordinatorLoadInProgress.Code {
	}
}

// member joins a group alone, as its leader, and returns its id and generation.
func (s *served) member(v int16, group string) (string, int32) {
	s.t.Helper()
	req := at(kmsg.NewPtrJoinGroupRequest(), v)
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = group, 30_000, 60_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	req.Protocols = append(req.Protocols, p)
	resp := do[*kmsg.JoinGroupResponse](s.conn, req)
	if v >= 4 {
		code(s.t, "join without an id", resp.ErrorCode, kerr.MemberIDRequired)
		req.MemberID = resp.MemberID
		resp = do[*kmsg.JoinGroupResponse](s.conn, req)
	}
	code(s.t, "join", resp.ErrorCode, nil)
	same(s.t, "leader", resp.LeaderID, resp.MemberID)
	same(s.t, "members", len(resp.Members), 1)
	return resp.MemberID, resp.Generation
}

func (s *served) sync(v int16, group, member string, generation int32) *kmsg.SyncGroupResponse {
	req := at(kmsg.NewPtrSyncGroupRequest(), v)
	req.Group, req.MemberID, req.Generation = group, member, generation
	if v >= 5 {
		req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	}
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = member, []byte("assigned")
	req.GroupAssignment = append(req.GroupAssignment, a)
	return do[*kmsg.SyncGroupResponse](s.conn, req)
}

// stable makes a group with one member that has its assignment.
func (s *served) stable(group string) (string, int32) {
	s.t.Helper()
	member, generation := s.member(9, group)
	code(s.t, "sync", s.sync(5, group, member, generation).ErrorCode, nil)
	return member, generation
}

func checkJoinGroup(t *testing.T, s *served, v int16) {
	s.member(v, text("join-%d", v))
}

func checkSyncGroup(t *testing.T, s *served, v int16) {
	group := text("sync-%d", v)
	member, generation := s.member(9, group)
	resp := s.sync(v, group, member, generation)
	code(t, "sync", resp.ErrorCode, nil)
	same(t, "assignment", string(resp.MemberAssignment), "assigned")
	code(t, "stranger", s.sync(v, group, "nobody", generation).ErrorCode, kerr.UnknownMemberID)
}

func checkHeartbeat(t *testing.T, s *served, v int16) {
	group := text("beat-%d", v)
	member, generation := s.stable(group)
	req := at(kmsg.NewPtrHeartbeatRequest(), v)
	req.Group, req.MemberID, req.Generation = group, member, generation
	code(t, "beat", do[*kmsg.HeartbeatResponse](s.conn, req).ErrorCode, nil)
	req.Generation = 99
	code(t, "other generation", do[*kmsg.HeartbeatResponse](s.conn, req).ErrorCode, kerr.IllegalGeneration)
}

func checkLeaveGroup(t *testing.T, s *served, v int16) {
	group := text("leave-%d", v)
	member, _ := s.stable(group)
	req := at(kmsg.NewPtrLeaveGroupRequest(), v)
	req.Group, req.MemberID = group, member
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = member
	req.Members = append(req.Members, m)
	code(t, "leave", do[*kmsg.LeaveGroupResponse](s.conn, req).ErrorCode, nil)
	again := do[*kmsg.LeaveGroupResponse](s.conn, req)
	got := again.ErrorCode
	if v >= 3 {
		got = again.Members[0].ErrorCode
	}
	code(t, "leave again", got, kerr.UnknownMemberID)
}

func commitRequest(v int16, group, topic string, id metadata.TopicID, offsets map[int32]int64) *kmsg.OffsetCommitRequest {
	req := at(kmsg.NewPtrOffsetCommitRequest(), v)
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for n := range int32(10) {
		if offset, ok := offsets[n]; ok {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = n, offset
			rt.Partitions = append(rt.Partitions, p)
		}
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func checkOffsetCommit(t *testing.T, s *served, v int16) {
	group := text("commit-%d", v)
	resp := do[*kmsg.OffsetCommitResponse](s.conn, commitRequest(v, group, "t", s.id, map[int32]int64{0: 3, 1: 4, 7: 5}))
	ps := resp.Topics[0].Partitions
	code(t, "partition 0", ps[0].ErrorCode, nil)
	code(t, "partition 1", ps[1].ErrorCode, nil)
	code(t, "unknown partition", ps[2].ErrorCode, kerr.UnknownTopicOrPartition)
	want := kerr.UnknownTopicOrPartition
	if v >= 10 {
		want = kerr.UnknownTopicID
		same(t, "id", resp.Topics[0].TopicID, [16]byte(s.id))
	}
	resp = do[*kmsg.OffsetCommitResponse](s.conn, commitRequest(v, group, "nowhere", metadata.NewTopicID(), map[int32]int64{0: 1}))
	code(t, "unknown topic", resp.Topics[0].Partitions[0].ErrorCode, want)
	same(t, "committed", s.committed(group, 0), 3)
}

// committed is a group's offset of a partition of topic t.
func (s *served) committed(group string, partition int32) int64 {
	req := at(kmsg.NewPtrOffsetFetchRequest(), 8)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = "t", []int32{partition}
	g.Topics = append(g.Topics, rt)
	req.Groups = append(req.Groups, g)
	return do[*kmsg.OffsetFetchResponse](s.conn, req).Groups[0].Topics[0].Partitions[0].Offset
}

func checkOffsetFetch(t *testing.T, s *served, v int16) {
	group := text("fetch-%d", v)
	do[*kmsg.OffsetCommitResponse](s.conn, commitRequest(9, group, "t", metadata.TopicID{}, map[int32]int64{0: 11, 1: 12}))
	req := at(kmsg.NewPtrOffsetFetchRequest(), v)
	if v < 8 {
		req.Group = group
		rt := kmsg.NewOffsetFetchRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0, 5}
		req.Topics = append(req.Topics, rt)
		resp := do[*kmsg.OffsetFetchResponse](s.conn, req)
		code(t, "fetch", resp.ErrorCode, nil)
		same(t, "committed", resp.Topics[0].Partitions[0].Offset, 11)
		same(t, "never committed", resp.Topics[0].Partitions[1].Offset, -1)
		if v >= 2 {
			req.Topics = nil
			same(t, "all", len(do[*kmsg.OffsetFetchResponse](s.conn, req).Topics[0].Partitions), 2)
		}
		return
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.TopicID, rt.Partitions = "t", s.id, []int32{0}
	g.Topics = append(g.Topics, rt)
	all := kmsg.NewOffsetFetchRequestGroup()
	all.Group = text("fetch-%d-other", v)
	req.Groups = append(req.Groups, g, all, g)
	resp := do[*kmsg.OffsetFetchResponse](s.conn, req)
	same(t, "groups, each once", len(resp.Groups), 2)
	same(t, "committed", resp.Groups[0].Topics[0].Partitions[0].Offset, 11)
	same(t, "other group", len(resp.Groups[1].Topics), 0)
}

func checkOffsetDelete(t *testing.T, s *served, v int16) {
	do[*kmsg.OffsetCommitResponse](s.conn, commitRequest(9, "forget", "t", metadata.TopicID{}, map[int32]int64{0: 11}))
	req := at(kmsg.NewPtrOffsetDeleteRequest(), v)
	req.Group = "forget"
	for _, name := range []string{"t", "nowhere"} {
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = name
		for _, n := range []int32{0, 9, -1} {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: n})
		}
		req.Topics = append(req.Topics, rt)
	}
	resp := do[*kmsg.OffsetDeleteResponse](s.conn, req)
	code(t, "delete", resp.ErrorCode, nil)
	same(t, "topics", len(resp.Topics), 2)
	for _, rt := range resp.Topics {
		same(t, "partitions", len(rt.Partitions), 3)
		for _, p := range rt.Partitions {
			want := kerr.UnknownTopicOrPartition
			if rt.Topic == "t" && p.Partition == 0 {
				want = nil
			}
			code(t, text("%s-%d", rt.Topic, p.Partition), p.ErrorCode, want)
		}
	}
	req.Group, req.Topics = "no-such", req.Topics[1:]
	resp = do[*kmsg.OffsetDeleteResponse](s.conn, req)
	code(t, "no such group", resp.ErrorCode, kerr.GroupIDNotFound)
	same(t, "its topics", len(resp.Topics), 0)
	same(t, "deleted", s.committed("forget", 0), -1)
}

func checkDescribeGroups(t *testing.T, s *served, v int16) {
	group := text("described-%d", v)
	member, _ := s.stable(group)
	req := at(kmsg.NewPtrDescribeGroupsRequest(), v)
	req.Groups = []string{group, "no-such", group}
	resp := do[*kmsg.DescribeGroupsResponse](s.conn, req)
	same(t, "groups, each once", len(resp.Groups), 2)
	g := resp.Groups[0]
	code(t, "group", g.ErrorCode, nil)
	same(t, "state", g.State, "Stable")
	same(t, "member", g.Members[0].MemberID, member)
	same(t, "client", g.Members[0].ClientID, "test")
	same(t, "assignment", string(g.Members[0].MemberAssignment), "assigned")
	same(t, "missing group", resp.Groups[1].State, "Dead")
}

func checkListGroups(t *testing.T, s *served, v int16) {
	group := text("listed-%d", v)
	s.stable(group)
	resp := do[*kmsg.ListGroupsResponse](s.conn, at(kmsg.NewPtrListGroupsRequest(), v))
	code(t, "list", resp.ErrorCode, nil)
	i := slices.IndexFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return g.Group == group })
	if i < 0 {
		t.Fatal("the group is missing")
	}
	same(t, "protocol", resp.Groups[i].ProtocolType, "consumer")
	if v >= 4 {
		same(t, "state", resp.Groups[i].GroupState, "Stable")
	}
}

func checkDeleteGroups(t *testing.T, s *served, v int16) {
	group := text("deleted-%d", v)
	do[*kmsg.OffsetCommitResponse](s.conn, commitRequest(9, group, "t", metadata.TopicID{}, map[int32]int64{0: 11}))
	busy := group + "-busy"
	s.stable(busy)
	req := at(kmsg.NewPtrDeleteGroupsRequest(), v)
	req.Groups = []string{group, busy, "no-such", group}
	got := map[string]int16{}
	for _, g := range do[*kmsg.DeleteGroupsResponse](s.conn, req).Groups {
		got[g.Group] = g.ErrorCode
	}
	code(t, "delete", got[group], nil)
	code(t, "group with members", got[busy], kerr.NonEmptyGroup)
	code(t, "missing group", got["no-such"], kerr.GroupIDNotFound)
	same(t, "offsets", s.committed(group, 0), -1)
}
