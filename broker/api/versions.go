package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// entry is one API key: the versions served and how. Exactly one of now, waits
// and raw is set.
type entry struct {
	key      kmsg.Key
	min, max int16
	// now answers on the read loop.
	now func(*API, context.Context, *call) kmsg.Response
	// waits answers on the connection's writer, since it may wait for others.
	waits func(*API, context.Context, *call) kmsg.Response
	// raw builds its own response or waits only in part.
	raw func(*API, context.Context, *call) (wire.Response, wire.Pending)
	// decides says that now may wait for etcd, for as long as the request says.
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

func versionTable() map[int16]entry {
	t := make(map[int16]entry)
	for _, e := range []entry{
		{key: kmsg.Produce, min: 3, max: 13, raw: (*API).produce, maxBytes: anyBytes},
		{key: kmsg.Fetch, min: 4, max: 18, raw: (*API).fetch},
		{key: kmsg.ListOffsets, min: 1, max: 11, waits: (*API).listOffsets},
		{key: kmsg.Metadata, min: 0, max: 13, now: (*API).metadata},
		{key: kmsg.OffsetCommit, min: 2, max: 10, waits: (*API).offsetCommit},
		{key: kmsg.OffsetFetch, min: 1, max: 10, waits: (*API).offsetFetch},
		{key: kmsg.FindCoordinator, min: 0, max: 6, now: (*API).findCoordinator},
		{key: kmsg.JoinGroup, min: 0, max: 9, waits: (*API).joinGroup, maxBytes: groupRequest},
		{key: kmsg.Heartbeat, min: 0, max: 4, waits: (*API).heartbeat},
		{key: kmsg.LeaveGroup, min: 0, max: 5, waits: (*API).leaveGroup},
		{key: kmsg.SyncGroup, min: 0, max: 5, waits: (*API).syncGroup, maxBytes: groupRequest},
		{key: kmsg.DescribeGroups, min: 0, max: 6, waits: (*API).describeGroups},
		{key: kmsg.ListGroups, min: 0, max: 5, waits: (*API).listGroups},
		{key: kmsg.ApiVersions, min: 0, max: 4, now: (*API).apiVersions},
		{key: kmsg.CreateTopics, min: 2, max: 7, now: (*API).createTopics, decides: true},
		{key: kmsg.DeleteTopics, min: 1, max: 6, now: (*API).deleteTopics, decides: true},
		{key: kmsg.DeleteRecords, min: 0, max: 2, waits: (*API).deleteRecords},
		{key: kmsg.InitProducerID, min: 0, max: 5, now: (*API).initProducerID, decides: true},
		{key: kmsg.OffsetForLeaderEpoch, min: 2, max: 4, waits: (*API).offsetForLeaderEpoch},
		{key: kmsg.DescribeConfigs, min: 1, max: 4, now: (*API).describeConfigs},
		{key: kmsg.AlterConfigs, min: 0, max: 2, now: (*API).alterConfigs, decides: true},
		{key: kmsg.DescribeLogDirs, min: 1, max: 5, now: (*API).describeLogDirs},
		{key: kmsg.CreatePartitions, min: 0, max: 3, now: (*API).createPartitions, decides: true},
		{key: kmsg.DeleteGroups, min: 0, max: 2, waits: (*API).deleteGroups},
		{key: kmsg.ElectLeaders, min: 0, max: 2, now: (*API).electLeaders, decides: true},
		{key: kmsg.IncrementalAlterConfigs, min: 0, max: 1, now: (*API).incrementalAlterConfigs, decides: true},
		{key: kmsg.AlterPartitionAssignments, min: 0, max: 1, now: (*API).alterPartitionReassignments, decides: true},
		{key: kmsg.ListPartitionReassignments, min: 0, max: 0, now: (*API).listPartitionReassignments},
		{key: kmsg.OffsetDelete, min: 0, max: 0, waits: (*API).offsetDelete},
		{key: kmsg.DescribeClientQuotas, min: 0, max: 1, now: (*API).describeClientQuotas},
		{key: kmsg.AlterClientQuotas, min: 0, max: 1, now: (*API).alterClientQuotas, decides: true},
		{key: kmsg.DescribeCluster, min: 0, max: 2, now: (*API).describeCluster},
		{key: kmsg.UnregisterBroker, min: 0, max: 0, now: (*API).unregisterBroker, decides: true},
		{key: kmsg.DescribeTopicPartitions, min: 0, max: 0, now: (*API).describeTopicPartitions},
	} {
		if e.maxBytes == 0 {
			e.maxBytes = smallRequest
		}
		t[e.key.Int16()] = e
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
