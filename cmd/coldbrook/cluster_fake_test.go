package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// fakeCluster answers, as all brokers of a cluster at one address, the requests of `cluster`.
type fakeCluster struct {
	t    *testing.T
	addr string

	mu sync.Mutex
	clusterView
	minISR map[string]string
	sizes  replicaSizes
	// after runs after every answer to ListPartitionReassignments, with the number of answers so far: it
	// is what happens while somebody watches.
	after  func(f *fakeCluster, looks int)
	looks  int
	refuse map[metadata.TopicPartition]*kerr.Error // of reassignments and elections
	said   []string                                // what was asked for, in order
	// moves is how many more answers to ListOffsets say that the leader has just moved.
	moves int
}

func newFakeCluster(t *testing.T, brokers int, topics ...*metadata.Topic) *fakeCluster {
	t.Helper()
	f := &fakeCluster{t: t, clusterView: clusterView{ID: "fake", Controller: 1, Topics: topics}, refuse: map[metadata.TopicPartition]*kerr.Error{}, sizes: replicaSizes{}}
	for id := 1; id <= brokers; id++ {
		f.Brokers = append(f.Brokers, brokerView{Broker: metadata.Broker{ID: metadata.BrokerID(id)}, Live: true})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); f.serve(c) })
		}
	})
	return f
}

func topicOf(name string, partitions ...metadata.Partition) *metadata.Topic {
	return &metadata.Topic{Name: name, ID: metadata.NewTopicID(), Partitions: partitions}
}

// part is a partition with its leader and all replicas in sync.
func part(replicas ...metadata.BrokerID) metadata.Partition {
	return metadata.Partition{Replicas: replicas, ISR: slices.Clone(replicas), Leader: replicas[0]}
}

func list(ids ...metadata.BrokerID) []metadata.BrokerID { return ids }

// serve answers one connection until it ends.
func (f *fakeCluster) serve(c net.Conn) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		r := kbin.Reader{Src: frame}
		key, version, correlation := r.Int16(), r.Int16(), r.Int32()
		r.NullableString() // client id
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if req.IsFlexible() {
			kmsg.SkipTags(&r)
		}
		if err := req.ReadFrom(r.Src); err != nil {
			f.t.Errorf("%T: %v", req, err)
			return
		}
		resp := f.answer(req)
		resp.SetVersion(version)
		out := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
		if resp.IsFlexible() && key != 18 {
			out = append(out, 0)
		}
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (f *fakeCluster) answer(req kmsg.Request) kmsg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := req.ResponseKind()
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		for _, k := range []kmsg.Request{&kmsg.MetadataRequest{}, &kmsg.ApiVersionsRequest{}, &kmsg.DescribeConfigsRequest{}, &kmsg.DescribeLogDirsRequest{}, &kmsg.ElectLeadersRequest{},
			&kmsg.IncrementalAlterConfigsRequest{}, &kmsg.AlterPartitionAssignmentsRequest{}, &kmsg.ListPartitionReassignmentsRequest{}, &kmsg.DescribeClusterRequest{}, &kmsg.UnregisterBrokerRequest{}, &kmsg.ListOffsetsRequest{}} {
			resp.(*kmsg.ApiVersionsResponse).ApiKeys = append(resp.(*kmsg.ApiVersionsResponse).ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k.Key(), MaxVersion: k.MaxVersion()})
		}
	case *kmsg.MetadataRequest:
		f.metadata(req, resp.(*kmsg.MetadataResponse))
	case *kmsg.DescribeClusterRequest:
		f.describe(resp.(*kmsg.DescribeClusterResponse))
	case *kmsg.ListPartitionReassignmentsRequest:
		f.reassignments(resp.(*kmsg.ListPartitionReassignmentsResponse))
		f.looks++
		if f.after != nil {
			f.after(f, f.looks)
		}
	case *kmsg.AlterPartitionAssignmentsRequest:
		f.alter(req, resp.(*kmsg.AlterPartitionAssignmentsResponse))
	case *kmsg.ElectLeadersRequest:
		f.elect(req, resp.(*kmsg.ElectLeadersResponse))
	case *kmsg.DescribeConfigsRequest:
		f.configs(req, resp.(*kmsg.DescribeConfigsResponse))
	case *kmsg.IncrementalAlterConfigsRequest:
		f.alterConfigs(req, resp.(*kmsg.IncrementalAlterConfigsResponse))
	case *kmsg.DescribeLogDirsRequest:
		// All brokers have one address: which one was asked cannot be told, and all answer for broker 1.
		dir := kmsg.DescribeLogDirsResponseDir{Dir: "/data"}
		for _, t := range f.Topics {
			dt := kmsg.DescribeLogDirsResponseDirTopic{Topic: t.Name}
			for n := range t.Partitions {
				dt.Partitions = append(dt.Partitions, kmsg.DescribeLogDirsResponseDirTopicPartition{Partition: int32(n), Size: f.sizes[1][metadata.TopicPartition{Topic: t.Name, Partition: int32(n)}]})
			}
			dir.Topics = append(dir.Topics, dt)
		}
		resp.(*kmsg.DescribeLogDirsResponse).Dirs = append(resp.(*kmsg.DescribeLogDirsResponse).Dirs, dir)
	case *kmsg.ListOffsetsRequest:
		f.listOffsets(req, resp.(*kmsg.ListOffsetsResponse))
	case *kmsg.UnregisterBrokerRequest:
		f.said = append(f.said, fmt.Sprintf("forget %d", req.BrokerID))
		f.Brokers = slices.DeleteFunc(f.Brokers, func(b brokerView) bool { return int32(b.ID) == req.BrokerID })
	default:
		f.t.Errorf("%T was not expected", req)
	}
	return resp
}

func (f *fakeCluster) endpoint() (string, int32) {
	host, port, _ := net.SplitHostPort(f.addr)
	n, _ := strconv.Atoi(port)
	return host, int32(n)
}

func (f *fakeCluster) metadata(req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) {
	resp.ClusterID, resp.ControllerID = kmsg.StringPtr(f.ID), int32(f.Controller)
	host, port := f.endpoint()
	for _, b := range f.Brokers {
		if b.Live {
			resp.Brokers = append(resp.Brokers, kmsg.MetadataResponseBroker{NodeID: int32(b.ID), Host: host, Port: port})
		}
	}
	if req.Topics != nil && len(req.Topics) == 0 {
		return
	}
	for _, t := range f.Topics {
		mt := kmsg.MetadataResponseTopic{Topic: kmsg.StringPtr(t.Name), TopicID: t.ID}
		for n, p := range t.Partitions {
			mt.Partitions = append(mt.Partitions, kmsg.MetadataResponseTopicPartition{Partition: int32(n), Leader: int32(p.Leader), Replicas: int32s(p.Replicas), ISR: int32s(p.ISR)})
		}
		resp.Topics = append(resp.Topics, mt)
	}
}

func (f *fakeCluster) describe(resp *kmsg.DescribeClusterResponse) {
	resp.ClusterID, resp.ControllerID = f.ID, int32(f.Controller)
	host, port := f.endpoint()
	for _, b := range f.Brokers {
		row := kmsg.DescribeClusterResponseBroker{NodeID: int32(b.ID), Host: host, Port: port, IsFenced: !b.Live}
		if b.Rack != "" {
			row.Rack = &b.Rack
		}
		resp.Brokers = append(resp.Brokers, row)
	}
}

func (f *fakeCluster) reassignments(resp *kmsg.ListPartitionReassignmentsResponse) {
	f.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if moving(p) {
			resp.Topics = append(resp.Topics, kmsg.ListPartitionReassignmentsResponseTopic{Topic: t.Name, Partitions: []kmsg.ListPartitionReassignmentsResponseTopicPartition{
				{Partition: n, Replicas: int32s(p.Replicas), AddingReplicas: int32s(p.Adding), RemovingReplicas: int32s(p.Removing)},
			}})
		}
	})
}

func (f *fakeCluster) listOffsets(req *kmsg.ListOffsetsRequest, resp *kmsg.ListOffsetsResponse) {
	for _, t := range req.Topics {
		rt := kmsg.ListOffsetsResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset = p.Partition, 7
			if f.moves > 0 {
				f.moves--
				rp.ErrorCode = kerr.NotLeaderForPartition.Code
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// at is the partition itself.
func (f *fakeCluster) at(topic string, n int32) *metadata.Partition {
	for _, t := range f.Topics {
		if t.Name == topic {
			return &t.Partitions[n]
		}
	}
	return nil
}

func (f *fakeCluster) alter(req *kmsg.AlterPartitionAssignmentsRequest, resp *kmsg.AlterPartitionAssignmentsResponse) {
	for _, t := range req.Topics {
		rt := kmsg.AlterPartitionAssignmentsResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			rp := kmsg.AlterPartitionAssignmentsResponseTopicPartition{Partition: p.Partition}
			tp := metadata.TopicPartition{Topic: t.Topic, Partition: p.Partition}
			at := f.at(t.Topic, p.Partition)
			switch err := f.refuse[tp]; {
			case err != nil:
				rp.ErrorCode, rp.ErrorMessage = err.Code, kmsg.StringPtr("because")
			case p.Replicas == nil:
				f.said = append(f.said, "cancel "+tp.String())
				at.Replicas, at.Adding, at.Removing = without(at.Replicas, at.Adding), nil, nil
			default:
				f.said = append(f.said, "move "+tp.String()+" to "+numbers(p.Replicas))
				to := brokerIDs(p.Replicas)
				at.Adding, at.Removing = without(to, at.Replicas), without(at.Replicas, to)
				at.Replicas = append(to, at.Removing...)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// finish ends all reassignments, as the controller does when the new replicas are in sync.
func (f *fakeCluster) finish() {
	for _, t := range f.Topics {
		for n := range t.Partitions {
			if p := &t.Partitions[n]; moving(*p) {
				p.Replicas = without(p.Replicas, p.Removing)
				p.ISR, p.Adding, p.Removing = slices.Clone(p.Replicas), nil, nil
			}
		}
	}
}

func (f *fakeCluster) elect(req *kmsg.ElectLeadersRequest, resp *kmsg.ElectLeadersResponse) {
	want := selection{}
	for _, t := range req.Topics {
		want[t.Topic] = t.Partitions
	}
	f.said = append(f.said, fmt.Sprintf("elect %d of %d topics", req.ElectionType, len(req.Topics)))
	f.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if !want.has(t.Name, n) {
			return
		}
		rp := kmsg.ElectLeadersResponseTopicPartition{Partition: n}
		if err := f.refuse[metadata.TopicPartition{Topic: t.Name, Partition: n}]; err != nil {
			rp.ErrorCode, rp.ErrorMessage = err.Code, kmsg.StringPtr("because")
		} else if p.Leader == p.Replicas[0] {
			rp.ErrorCode = kerr.ElectionNotNeeded.Code
		} else {
			f.at(t.Name, n).Leader = p.Replicas[0]
		}
		if last := len(resp.Topics) - 1; last < 0 || resp.Topics[last].Topic != t.Name {
			resp.Topics = append(resp.Topics, kmsg.ElectLeadersResponseTopic{Topic: t.Name})
		}
		rt := &resp.Topics[len(resp.Topics)-1]
		rt.Partitions = append(rt.Partitions, rp)
	})
}

func (f *fakeCluster) configs(req *kmsg.DescribeConfigsRequest, resp *kmsg.DescribeConfigsResponse) {
	for _, r := range req.Resources {
		out := kmsg.DescribeConfigsResponseResource{ResourceType: r.ResourceType, ResourceName: r.ResourceName}
		set := func(name, value string, source kmsg.ConfigSource) {
			out.Configs = append(out.Configs, kmsg.DescribeConfigsResponseResourceConfig{Name: name, Value: &value, Source: source})
		}
		if r.ResourceType == kmsg.ConfigResourceTypeTopic {
			if v := f.minISR[r.ResourceName]; v != "" {
				set("min.insync.replicas", v, kmsg.ConfigSourceDynamicTopicConfig)
			}
			if r.ResourceName == "throttled" {
				set(leaderReplicas, "0:1", kmsg.ConfigSourceDynamicTopicConfig)
			} else {
				set(leaderReplicas, "", kmsg.ConfigSourceDefaultConfig)
			}
		}
		if id, err := brokerID(r.ResourceName); err == nil && r.ResourceType == kmsg.ConfigResourceTypeBroker {
			if b, ok := f.broker(id); ok && b.Role != "" {
				set("broker.role", b.Role, kmsg.ConfigSourceStaticBrokerConfig)
			}
		}
		resp.Resources = append(resp.Resources, out)
	}
}

func (f *fakeCluster) alterConfigs(req *kmsg.IncrementalAlterConfigsRequest, resp *kmsg.IncrementalAlterConfigsResponse) {
	for _, r := range req.Resources {
		for _, c := range r.Configs {
			value := "unset"
			if c.Op == kmsg.IncrementalAlterConfigOpSet {
				value = *c.Value
			}
			f.said = append(f.said, fmt.Sprintf("%s %s=%s", r.ResourceName, c.Name, value))
		}
		resp.Resources = append(resp.Resources, kmsg.IncrementalAlterConfigsResponseResource{ResourceType: r.ResourceType, ResourceName: r.ResourceName})
	}
}

// asked is what was asked for so far.
func (f *fakeCluster) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.said)
}
