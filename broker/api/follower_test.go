package api_test

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// follower is another broker that follows this one in a fetch session.
type follower struct {
	*conn
	g         ghost
	id, epoch int32
	told      map[int32]kmsg.FetchResponseTopicPartition // last answer that named the partition
}

// fetch sends what changed and returns the partitions of the answer.
func (f *follower) fetch(topic metadata.TopicID, offsets map[int32]int64) map[int32]kmsg.FetchResponseTopicPartition {
	f.t.Helper()
	req := at(kmsg.NewPtrFetchRequest(), 17)
	req.MaxBytes, req.MinBytes, req.SessionID, req.SessionEpoch = 10<<20, 1, f.id, f.epoch
	req.ReplicaState.ID, req.ReplicaState.Epoch = int32(f.g.Broker().ID), f.g.Epoch
	for n := range int32(1000) {
		if offset, changed := offsets[n]; changed {
			addFetch(req, "", topic, n, offset)
		}
	}
	resp := do[*kmsg.FetchResponse](f.conn, req)
	code(f.t, "fetch", resp.ErrorCode, nil)
	f.id, f.epoch = resp.SessionID, f.epoch+1
	out := make(map[int32]kmsg.FetchResponseTopicPartition)
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			code(f.t, text("partition %d", p.Partition), p.ErrorCode, nil)
			out[p.Partition], f.told[p.Partition] = p, p
		}
	}
	return out
}

// TestFollowersAreToldOnlyWhatChanged follows a thousand partitions in one
// session: once all are known, an answer names those with records, and those whose
// high watermark moved, though nothing was written to them.
func TestFollowersAreToldOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 1000
		c := newCluster(t).start(nil)
		k := c.dial()
		f := &follower{conn: c.dial(), g: c.ghost(metadata.Registration{ID: 2}), told: make(map[int32]kmsg.FetchResponseTopicPartition)}
		replicas := make([][]int32, partitions)
		all := make(map[int32]int64)
		for n := range replicas {
			replicas[n], all[int32(n)] = []int32{1, 2}, 0
		}
		topic := k.assigned("t", replicas...)
		code(t, "create", topic.ErrorCode, nil)
		first := f.fetch(topic.TopicID, all)
		same(t, "named by the first answer", len(first), partitions)
		same(t, "has a session", f.id != 0, true)
		same(t, "named when nothing changed", len(f.fetch(topic.TopicID, nil)), 0)

		for _, n := range []int32{7, 999} {
			req := produceRequest("t", n, batch("x"))
			req.Acks = 1
			code(t, "produce", produced(do[*kmsg.ProduceResponse](k, req)).ErrorCode, nil)
		}
		got := f.fetch(topic.TopicID, nil)
		same(t, "named with records", len(got), 2)
		for _, n := range []int32{7, 999} {
			same(t, text("records of %d", n), text("%v", values(t, got[n].RecordBatches, 0)), "[x]")
		}
		// The follower has them now, and says so: they are committed, and it is told.
		for range 3 {
			got := f.fetch(topic.TopicID, map[int32]int64{7: 1, 999: 1})
			same(t, "others named", len(got) <= 2, true)
		}
		for _, n := range []int32{7, 999} {
			same(t, text("high watermark of %d", n), f.told[n].HighWatermark, 1)
		}
		same(t, "named when all is told", len(f.fetch(topic.TopicID, nil)), 0)

		stranger := at(kmsg.NewPtrFetchRequest(), 17)
		stranger.MaxBytes, stranger.SessionEpoch, stranger.ReplicaState.ID = 1000, -1, 5
		addFetch(stranger, "", topic.TopicID, 7, 0)
		code(t, "a broker that has no replica", do[*kmsg.FetchResponse](k, stranger).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
	})
}

// TestFollowersMayAskForOffsets asks as a follower: it sees the log's end.
func TestFollowersMayAskForOffsets(t *testing.T) {
	c := newCluster(t).start(nil)
	k := c.dial()
	k.topic("t", 1)
	k.produce("t", 0, "a", "b")
	list := listRequest(11, "t", 0, -1)
	list.ReplicaID = 2
	p := do[*kmsg.ListOffsetsResponse](k, list).Topics[0].Partitions[0]
	code(t, "list offsets", p.ErrorCode, nil)
	same(t, "end", p.Offset, 2)
	same(t, "epoch", p.LeaderEpoch, 0)
	list.Topics[0].Partitions[0].CurrentLeaderEpoch = 9
	code(t, "of a later epoch", do[*kmsg.ListOffsetsResponse](k, list).Topics[0].Partitions[0].ErrorCode, kerr.UnknownLeaderEpoch)
}

// TestGroupsMoveWithTheirCoordinator asks this broker about groups that another
// one coordinates.
func TestGroupsMoveWithTheirCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"offsets.topic.replication.factor": "3"})
		k := c.dial()
		c.ghost(metadata.Registration{ID: 2, Rack: "r2"})
		c.ghost(metadata.Registration{ID: 3, Role: metadata.RoleReplay})
		find := func(groups ...string) []kmsg.FindCoordinatorResponseCoordinator {
			req := at(kmsg.NewPtrFindCoordinatorRequest(), 4)
			req.CoordinatorKeys = groups
			return do[*kmsg.FindCoordinatorResponse](k, req).Coordinators
		}
		var there string // a group of broker 2
		for _, r := range find("a", "b", "c", "d") {
			code(t, "find "+r.Key, r.ErrorCode, nil)
			if r.NodeID == 2 {
				there = r.Key
				same(t, "address", text("%s:%d", r.Host, r.Port), "broker-2:9092")
			}
		}
		_, rt := k.metadataOf("__consumer_offsets")
		for _, p := range rt.Partitions {
			same(t, "replicas, none on a replay broker", len(p.Replicas), 2)
		}
		k.topic("t", 1)
		not := kerr.NotCoordinator
		join := at(kmsg.NewPtrJoinGroupRequest(), 9)
		join.Group, join.ProtocolType, join.SessionTimeoutMillis = there, "consumer", 10_000
		join.Protocols = append(join.Protocols, kmsg.NewJoinGroupRequestProtocol())
		code(t, "join", do[*kmsg.JoinGroupResponse](k, join).ErrorCode, not)
		sync := at(kmsg.NewPtrSyncGroupRequest(), 5)
		sync.Group, sync.MemberID, sync.ProtocolType, sync.Protocol = there, "m", kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
		code(t, "sync", do[*kmsg.SyncGroupResponse](k, sync).ErrorCode, not)
		beat := at(kmsg.NewPtrHeartbeatRequest(), 4)
		beat.Group, beat.MemberID = there, "m"
		code(t, "heartbeat", do[*kmsg.HeartbeatResponse](k, beat).ErrorCode, not)
		leave := at(kmsg.NewPtrLeaveGroupRequest(), 5)
		leave.Group = there
		code(t, "leave", do[*kmsg.LeaveGroupResponse](k, leave).ErrorCode, not)
		commit := commitRequest(9, there, "t", metadata.TopicID{}, map[int32]int64{0: 1})
		code(t, "commit", do[*kmsg.OffsetCommitResponse](k, commit).Topics[0].Partitions[0].ErrorCode, not)
		fetch := at(kmsg.NewPtrOffsetFetchRequest(), 8)
		fetch.Groups = append(fetch.Groups, kmsg.NewOffsetFetchRequestGroup())
		fetch.Groups[0].Group = there
		code(t, "fetch", do[*kmsg.OffsetFetchResponse](k, fetch).Groups[0].ErrorCode, not)
		forget := at(kmsg.NewPtrOffsetDeleteRequest(), 0)
		forget.Group = there
		code(t, "delete offsets", do[*kmsg.OffsetDeleteResponse](k, forget).ErrorCode, not)
		describe := at(kmsg.NewPtrDescribeGroupsRequest(), 5)
		describe.Groups = []string{there}
		code(t, "describe", do[*kmsg.DescribeGroupsResponse](k, describe).Groups[0].ErrorCode, not)
		drop := at(kmsg.NewPtrDeleteGroupsRequest(), 2)
		drop.Groups = []string{there}
		code(t, "delete", do[*kmsg.DeleteGroupsResponse](k, drop).Groups[0].ErrorCode, not)
		c.until("this broker's own partitions are loaded, and listed", func(k *conn) bool {
			return do[*kmsg.ListGroupsResponse](k, at(kmsg.NewPtrListGroupsRequest(), 4)).ErrorCode == 0
		})
	})
}
