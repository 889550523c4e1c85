package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// entry is one API key: the versions served and how. Exactly one of serve and
// pipelined is set. Which one it is says how the requests of a connection follow
// each other, so that each means what it meant when it arrived.
type entry struct {
	key      kmsg.Key
	min, max int16
	// serve has the connection to itself, as every request has in Kafka: it begins
	// when all before it are answered, and nothing behind it begins before its
	// answer has left. It may wait as long as it likes.
	serve func(*API, context.Context, *call) kmsg.Response
	// pipelined takes effect before it returns, in the order of arrival, and keeps
	// nothing of the body. The Pending only waits for the answer, while what is
	// behind the request is handled.
	pipelined func(*API, context.Context, *call) (wire.Response, wire.Pending)
	// waits says that serve mostly waits for others, which no quota counts.
	waits bool
	// decides says that serve may wait for etcd, for as long as the request says.
	decides bool
	// maxBytes is the largest request, anyBytes or 0 for smallRequest.
	maxBytes int32
}

// advertised is the lowest version told to clients. librdkafka looks for
// Produce 0 before it compresses, so Kafka advertises it without serving it.
func (e entry) advertised() int16 {
	if e.key == kmsg.Produce {
		return 0
	}
	return e.min
}

func versionTable() map[int16]*entry {
	t := make(map[int16]*entry)
	for _, e := range []entry{
		{key: kmsg.Produce, min: 3, max: 13, pipelined: (*API).produce, maxBytes: anyBytes},
		{key: kmsg.Fetch, min: 4, max: 18, pipelined: (*API).fetch},
		{key: kmsg.ListOffsets, min: 1, max: 11, serve: (*API).listOffsets, waits: true},
		{key: kmsg.Metadata, min: 0, max: 13, serve: (*API).metadata},
		{key: kmsg.OffsetCommit, min: 2, max: 10, serve: (*API).offsetCommit, waits: true},
		{key: kmsg.OffsetFetch, min: 1, max: 10, serve: (*API).offsetFetch, waits: true},
		{key: kmsg.FindCoordinator, min: 0, max: 6, serve: (*API).findCoordinator},
		{key: kmsg.JoinGroup, min: 0, max: 9, serve: (*API).joinGroup, waits: true, maxBytes: groupRequest},
		{key: kmsg.Heartbeat, min: 0, max: 4, serve: (*API).heartbeat, waits: true},
		{key: kmsg.LeaveGroup, min: 0, max: 5, serve: (*API).leaveGroup, waits: true},
		{key: kmsg.SyncGroup, min: 0, max: 5, serve: (*API).syncGroup, waits: true, maxBytes: groupRequest},
		{key: kmsg.DescribeGroups, min: 0, max: 6, serve: (*API).describeGroups, waits: true},
		{key: kmsg.ListGroups, min: 0, max: 5, serve: (*API).listGroups, waits: true},
		{key: kmsg.ApiVersions, min: 0, max: 4, serve: (*API).apiVersions},
		{key: kmsg.CreateTopics, min: 2, max: 7, serve: (*API).createTopics, decides: true},
		{key: kmsg.DeleteTopics, min: 1, max: 6, serve: (*API).deleteTopics, decides: true},
		{key: kmsg.DeleteRecords, min: 0, max: 2, serve: (*API).deleteRecords, waits: true},
		{key: kmsg.InitProducerID, min: 0, max: 5, serve: (*API).initProducerID, decides: true},
		{key: kmsg.OffsetForLeaderEpoch, min: 2, max: 4, serve: (*API).offsetForLeaderEpoch, waits: true},
		{key: kmsg.DescribeConfigs, min: 1, max: 4, serve: (*API).describeConfigs},
		{key: kmsg.AlterConfigs, min: 0, max: 2, serve: (*API).alterConfigs, decides: true},
		{key: kmsg.DescribeLogDirs, min: 1, max: 5, serve: (*API).describeLogDirs},
		{key: kmsg.CreatePartitions, min: 0, max: 3, serve: (*API).createPartitions, decides: true},
		{key: kmsg.DeleteGroups, min: 0, max: 2, serve: (*API).deleteGroups, waits: true},
		{key: kmsg.ElectLeaders, min: 0, max: 2, serve: (*API).electLeaders, decides: true},
		{key: kmsg.IncrementalAlterConfigs, min: 0, max: 1, serve: (*API).incrementalAlterConfigs, decides: true},
		{key: kmsg.AlterPartitionAssignments, min: 0, max: 1, serve: (*API).alterPartitionReassignments, decides: true},
		{key: kmsg.ListPartitionReassignments, min: 0, max: 0, serve: (*API).listPartitionReassignments},
		{key: kmsg.OffsetDelete, min: 0, max: 0, serve: (*API).offsetDelete, waits: true},
		{key: kmsg.DescribeClientQuotas, min: 0, max: 1, serve: (*API).describeClientQuotas},
		{key: kmsg.AlterClientQuotas, min: 0, max: 1, serve: (*API).alterClientQuotas, decides: true},
		{key: kmsg.DescribeCluster, min: 0, max: 2, serve: (*API).describeCluster},
		{key: kmsg.UnregisterBroker, min: 0, max: 0, serve: (*API).unregisterBroker, decides: true},
		{key: kmsg.DescribeTopicPartitions, min: 0, max: 0, serve: (*API).describeTopicPartitions},
	} {
		if e.maxBytes == 0 {
			e.maxBytes = smallRequest
		}
		t[e.key.Int16()] = &e
	}
	return t
}

// VersionRange is one served API, as ApiVersions and the README list it.
type VersionRange struct {
	Key      int16
	Name     string
	Min, Max int16
}

// Versions lists the served APIs by key. Min is what clients are told.
func Versions() []VersionRange {
	var list []VersionRange
	for key, e := range versionTable() {
		list = append(list, VersionRange{Key: key, Name: e.key.Name(), Min: e.advertised(), Max: e.max})
	}
	slices.SortFunc(list, func(a, b VersionRange) int { return int(a.Key) - int(b.Key) })
	return list
}
