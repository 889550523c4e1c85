package api_test

import (
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// electRequest asks for elections in one topic; without a topic for all.
func electRequest(v int16, kind int8, topic string, partitions ...int32) *kmsg.ElectLeadersRequest {
	req := at(kmsg.NewPtrElectLeadersRequest(), v)
	req.ElectionType = kind
	if topic != "" {
		rt := kmsg.NewElectLeadersRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func checkElectLeaders(t *testing.T, s *served, v int16) {
	elect := func(kind int8, topic string, partitions ...int32) *kmsg.ElectLeadersResponse {
		return do[*kmsg.ElectLeadersResponse](s.conn, electRequest(v, kind, topic, partitions...))
	}
	resp := elect(0, "t", 0, 1, 7)
	code(t, "elect", resp.ErrorCode, nil)
	for i, want := range []*kerr.Error{kerr.ElectionNotNeeded, kerr.ElectionNotNeeded, kerr.UnknownTopicOrPartition} {
		p := resp.Topics[0].Partitions[i]
		code(t, text("partition %d", p.Partition), p.ErrorCode, want)
		same(t, "message", p.ErrorMessage != nil && *p.ErrorMessage != "", true)
	}
	code(t, "unknown topic", elect(0, "nowhere", 0).Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	for _, p := range elect(0, "t", 0, 0).Topics[0].Partitions {
		code(t, "named twice", p.ErrorCode, kerr.InvalidRequest)
	}
	code(t, "too many", elect(0, "t", make([]int32, 10_001)...).ErrorCode, map[bool]*kerr.Error{true: kerr.PolicyViolation}[v >= 1])
	same(t, "all of the cluster, and nothing to do", len(elect(0, "").Topics), 0)
	if v >= 1 {
		code(t, "unclean, with a leader", elect(1, "t", 0).Topics[0].Partitions[0].ErrorCode, kerr.ElectionNotNeeded)
		code(t, "no such election", elect(7, "t", 0).ErrorCode, kerr.InvalidRequest)
	}
}

// reassignRequest asks for one partition to be moved; null replicas cancel.
func reassignRequest(v int16, topic string, partition int32, replicas []int32) *kmsg.AlterPartitionAssignmentsRequest {
	req := at(kmsg.NewPtrAlterPartitionAssignmentsRequest(), v)
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = topic
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = partition, replicas
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

// reassign moves one partition and returns what became of it.
func (k *conn) reassign(req *kmsg.AlterPartitionAssignmentsRequest) kmsg.AlterPartitionAssignmentsResponseTopicPartition {
	k.t.Helper()
	resp := do[*kmsg.AlterPartitionAssignmentsResponse](k, req)
	code(k.t, "reassign", resp.ErrorCode, nil)
	return resp.Topics[0].Partitions[0]
}

func checkAlterPartitionReassignments(t *testing.T, s *served, v int16) {
	for _, q := range []struct {
		what      string
		topic     string
		partition int32
		replicas  []int32
		want      *kerr.Error
	}{
		{"nothing to cancel", "t", 0, nil, kerr.NoReassignmentInProgress},
		{"no replicas", "t", 0, []int32{}, kerr.InvalidReplicaAssignment},
		{"unknown broker", "t", 0, []int32{1, 9}, kerr.InvalidReplicaAssignment},
		{"negative broker", "t", 0, []int32{-1}, kerr.InvalidReplicaAssignment},
		{"twice the same", "t", 0, []int32{1, 1}, kerr.InvalidReplicaAssignment},
		{"unknown topic", "nowhere", 0, []int32{1}, kerr.UnknownTopicOrPartition},
		{"unknown partition", "t", 7, []int32{1}, kerr.UnknownTopicOrPartition},
		{"negative partition", "t", -1, []int32{1}, kerr.UnknownTopicOrPartition},
		{"where it is", "t", 1, []int32{1}, nil},
	} {
		p := s.reassign(reassignRequest(v, q.topic, q.partition, q.replicas))
		same(t, "partition", p.Partition, q.partition)
		code(t, q.what, p.ErrorCode, q.want)
		same(t, q.what+": message", p.ErrorMessage != nil, q.want != nil)
	}
	if v >= 1 {
		req := reassignRequest(v, "t", 0, []int32{1, 9})
		req.AllowReplicationFactorChange = false
		code(t, "replication factor", s.reassign(req).ErrorCode, kerr.InvalidReplicationFactor)
	}
	many := reassignRequest(v, "t", 0, []int32{1})
	for range 10_000 {
		many.Topics[0].Partitions = append(many.Topics[0].Partitions, many.Topics[0].Partitions[0])
	}
	code(t, "too many", do[*kmsg.AlterPartitionAssignmentsResponse](s.conn, many).ErrorCode, kerr.PolicyViolation)
	twice := reassignRequest(v, "t", 0, []int32{1})
	twice.Topics = append(twice.Topics, twice.Topics[0])
	for _, rt := range do[*kmsg.AlterPartitionAssignmentsResponse](s.conn, twice).Topics {
		code(t, "named twice", rt.Partitions[0].ErrorCode, kerr.InvalidRequest)
	}
}

func checkListPartitionReassignments(t *testing.T, s *served, v int16) {
	resp := do[*kmsg.ListPartitionReassignmentsResponse](s.conn, at(kmsg.NewPtrListPartitionReassignmentsRequest(), v))
	code(t, "list", resp.ErrorCode, nil)
	same(t, "moves", len(resp.Topics), 0)
}

func checkUnregisterBroker(t *testing.T, s *served, v int16) {
	for id, want := range map[int32]*kerr.Error{1: kerr.InvalidRequest, 9: kerr.BrokerIDNotRegistered, -1: kerr.BrokerIDNotRegistered} {
		req := at(kmsg.NewPtrUnregisterBrokerRequest(), v)
		req.BrokerID = id
		resp := do[*kmsg.UnregisterBrokerResponse](s.conn, req)
		code(t, text("broker %d", id), resp.ErrorCode, want)
		same(t, "message", resp.ErrorMessage != nil, true)
	}
}

func checkDescribeLogDirs(t *testing.T, s *served, v int16) {
	all := at(kmsg.NewPtrDescribeLogDirsRequest(), v)
	resp := do[*kmsg.DescribeLogDirsResponse](s.conn, all)
	code(t, "log dirs", resp.ErrorCode, nil)
	if len(resp.Dirs) != 1 {
		t.Fatalf("%d log directories, want 1", len(resp.Dirs))
	}
	d := resp.Dirs[0]
	code(t, "directory", d.ErrorCode, nil)
	same(t, "absolute path", filepath.IsAbs(d.Dir), true)
	if v >= 4 {
		same(t, "volume", d.TotalBytes > 0 && d.UsableBytes >= 0 && d.UsableBytes <= d.TotalBytes, true)
	}
	found := 0
	for _, rt := range d.Topics {
		for i, p := range rt.Partitions {
			if rt.Topic == "t" {
				found++
				same(t, "order", p.Partition, int32(i))
				same(t, "size of what was written", p.Size > 0, p.Partition == 0)
				same(t, "lag", p.OffsetLag, 0)
				same(t, "future", p.IsFuture, false)
			}
		}
	}
	same(t, "partitions of t", found, 2)
	one := at(kmsg.NewPtrDescribeLogDirsRequest(), v)
	rt := kmsg.NewDescribeLogDirsRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{1, 9}
	one.Topics = append(one.Topics, rt)
	got := do[*kmsg.DescribeLogDirsResponse](s.conn, one).Dirs[0].Topics
	if len(got) != 1 || len(got[0].Partitions) != 1 || got[0].Partitions[0].Partition != 1 {
		t.Errorf("t-1 asked for: %+v", got)
	}
}
