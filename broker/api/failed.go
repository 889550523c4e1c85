package api

import "github.com/twmb/franz-go/pkg/kmsg"

// failed says whether a response carries an error, for the metrics of the
// server. Produce and Fetch answer for themselves.
func failed(resp kmsg.Response) bool {
	switch r := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		return r.ErrorCode != 0
	case *kmsg.MetadataResponse:
		return r.ErrorCode != 0 || anyOf(r.Topics, func(t *kmsg.MetadataResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.ListOffsetsResponse:
		return anyIn(r.Topics, func(t *kmsg.ListOffsetsResponseTopic) []kmsg.ListOffsetsResponseTopicPartition { return t.Partitions },
			func(p *kmsg.ListOffsetsResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.OffsetForLeaderEpochResponse:
		return anyIn(r.Topics, func(t *kmsg.OffsetForLeaderEpochResponseTopic) []kmsg.OffsetForLeaderEpochResponseTopicPartition {
			return t.Partitions
		},
			func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.DeleteRecordsResponse:
		return anyIn(r.Topics, func(t *kmsg.DeleteRecordsResponseTopic) []kmsg.DeleteRecordsResponseTopicPartition {
			return t.Partitions
		},
			func(p *kmsg.DeleteRecordsResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.DescribeTopicPartitionsResponse:
		return anyOf(r.Topics, func(t *kmsg.DescribeTopicPartitionsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.DescribeClusterResponse:
		return r.ErrorCode != 0
	case *kmsg.InitProducerIDResponse:
		return r.ErrorCode != 0
	}
	return failedAdmin(resp) || failedGroup(resp)
}

func failedAdmin(resp kmsg.Response) bool {
	switch r := resp.(type) {
	case *kmsg.CreateTopicsResponse:
		return anyOf(r.Topics, func(t *kmsg.CreateTopicsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.DeleteTopicsResponse:
		return anyOf(r.Topics, func(t *kmsg.DeleteTopicsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.ElectLeadersResponse:
		return r.ErrorCode != 0 || anyIn(r.Topics, func(t *kmsg.ElectLeadersResponseTopic) []kmsg.ElectLeadersResponseTopicPartition { return t.Partitions },
			func(p *kmsg.ElectLeadersResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.AlterPartitionAssignmentsResponse:
		return r.ErrorCode != 0 || anyIn(r.Topics, func(t *kmsg.AlterPartitionAssignmentsResponseTopic) []kmsg.AlterPartitionAssignmentsResponseTopicPartition {
			return t.Partitions
		},
			func(p *kmsg.AlterPartitionAssignmentsResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.ListPartitionReassignmentsResponse:
		return r.ErrorCode != 0
	case *kmsg.UnregisterBrokerResponse:
		return r.ErrorCode != 0
	case *kmsg.DescribeClientQuotasResponse:
		return r.ErrorCode != 0
	case *kmsg.AlterClientQuotasResponse:
		return anyOf(r.Entries, func(e *kmsg.AlterClientQuotasResponseEntry) int16 { return e.ErrorCode })
	case *kmsg.DescribeLogDirsResponse:
		return r.ErrorCode != 0 || anyOf(r.Dirs, func(d *kmsg.DescribeLogDirsResponseDir) int16 { return d.ErrorCode })
	case *kmsg.CreatePartitionsResponse:
		return anyOf(r.Topics, func(t *kmsg.CreatePartitionsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.DescribeConfigsResponse:
		return anyOf(r.Resources, func(t *kmsg.DescribeConfigsResponseResource) int16 { return t.ErrorCode })
	case *kmsg.AlterConfigsResponse:
		return anyOf(r.Resources, func(t *kmsg.AlterConfigsResponseResource) int16 { return t.ErrorCode })
	case *kmsg.IncrementalAlterConfigsResponse:
		return anyOf(r.Resources, func(t *kmsg.IncrementalAlterConfigsResponseResource) int16 { return t.ErrorCode })
	}
	return false
}

func failedGroup(resp kmsg.Response) bool {
	switch r := resp.(type) {
	case *kmsg.FindCoordinatorResponse:
		return r.ErrorCode != 0 || anyOf(r.Coordinators, func(t *kmsg.FindCoordinatorResponseCoordinator) int16 { return t.ErrorCode })
	case *kmsg.JoinGroupResponse:
		return r.ErrorCode != 0
	case *kmsg.SyncGroupResponse:
		return r.ErrorCode != 0
	case *kmsg.HeartbeatResponse:
		return r.ErrorCode != 0
	case *kmsg.LeaveGroupResponse:
		return r.ErrorCode != 0 || anyOf(r.Members, func(t *kmsg.LeaveGroupResponseMember) int16 { return t.ErrorCode })
	case *kmsg.OffsetCommitResponse:
		return anyIn(r.Topics, func(t *kmsg.OffsetCommitResponseTopic) []kmsg.OffsetCommitResponseTopicPartition { return t.Partitions },
			func(p *kmsg.OffsetCommitResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.OffsetFetchResponse:
		return r.ErrorCode != 0 || anyOf(r.Groups, func(t *kmsg.OffsetFetchResponseGroup) int16 { return t.ErrorCode })
	case *kmsg.OffsetDeleteResponse:
		return r.ErrorCode != 0 || anyIn(r.Topics, func(t *kmsg.OffsetDeleteResponseTopic) []kmsg.OffsetDeleteResponseTopicPartition { return t.Partitions },
			func(p *kmsg.OffsetDeleteResponseTopicPartition) int16 { return p.ErrorCode })
	case *kmsg.DescribeGroupsResponse:
		return anyOf(r.Groups, func(t *kmsg.DescribeGroupsResponseGroup) int16 { return t.ErrorCode })
	case *kmsg.ListGroupsResponse:
		return r.ErrorCode != 0
	case *kmsg.DeleteGroupsResponse:
		return anyOf(r.Groups, func(t *kmsg.DeleteGroupsResponseGroup) int16 { return t.ErrorCode })
	}
	return false
}

// anyOf says whether one of the elements has an error code.
func anyOf[T any](list []T, code func(*T) int16) bool {
	for i := range list {
		if code(&list[i]) != 0 {
			return true
		}
	}
	return false
}

// anyIn is anyOf over the parts of the elements.
func anyIn[T, P any](list []T, parts func(*T) []P, code func(*P) int16) bool {
	for i := range list {
		if anyOf(parts(&list[i]), code) {
			return true
		}
	}
	return false
}
