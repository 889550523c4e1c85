package api_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

func createTopic(name string, partitions int32) kmsg.CreateTopicsRequestTopic {
	q := kmsg.NewCreateTopicsRequestTopic()
	q.Topic, q.NumPartitions, q.ReplicationFactor = name, partitions, 1
	return q
}

func checkCreateTopics(t *testing.T, s *served, v int16) {
	create := func(validate bool, topics ...kmsg.CreateTopicsRequestTopic) []kmsg.CreateTopicsResponseTopic {
		req := at(kmsg.NewPtrCreateTopicsRequest(), v)
		req.Topics, req.ValidateOnly = topics, validate
		return do[*kmsg.CreateTopicsResponse](s.conn, req).Topics
	}
	name := text("created-%d", v)
	got := create(true, createTopic(name, 3))[0]
	code(t, "validate only", got.ErrorCode, nil)
	got = create(false, createTopic(name, 3))[0]
	code(t, "create after validation", got.ErrorCode, nil)
	if v >= 5 {
		same(t, "partitions", got.NumPartitions, 3)
		same(t, "replication", got.ReplicationFactor, 1)
		same(t, "has a configuration", len(got.Configs) > 20, true)
	} else {
		same(t, "configuration before v5", len(got.Configs), 0)
	}
	if v >= 7 {
		same(t, "has an id", metadata.TopicID(got.TopicID).IsZero(), false)
	}
	configured := createTopic(name+"-x", 1)
	kv := kmsg.NewCreateTopicsRequestTopicConfig()
	kv.Name, kv.Value = "retention.ms", kmsg.StringPtr("many")
	configured.Configs = append(configured.Configs, kv)
	assigned := createTopic(name+"-y", -1)
	assigned.ReplicationFactor = -1
	as := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	as.Replicas = []int32{9}
	assigned.ReplicaAssignment = append(assigned.ReplicaAssignment, as)
	wide := createTopic(name+"-z", 1)
	wide.ReplicationFactor = 3
	for _, q := range []struct {
		what  string
		topic kmsg.CreateTopicsRequestTopic
		want  *kerr.Error
	}{
		{"exists", createTopic(name, 1), kerr.TopicAlreadyExists},
		{"bad name", createTopic("a b", 1), kerr.InvalidTopicException},
		{"colliding name", createTopic("created."+name[len("created-"):], 1), nil},
		{"no partitions", createTopic(name+"-0", 0), kerr.InvalidPartitions},
		{"too many partitions", createTopic(name+"-m", 2_000_000_000), kerr.PolicyViolation},
		{"more replicas than brokers", wide, kerr.InvalidReplicationFactor},
		{"bad setting", configured, kerr.InvalidConfig},
		{"unknown broker assigned", assigned, kerr.InvalidReplicaAssignment},
		{"internal", createTopic("__consumer_offsets", 1), kerr.InvalidTopicException},
	} {
		code(t, q.what, create(false, q.topic)[0].ErrorCode, q.want)
	}
	for _, twice := range create(false, createTopic(name+"-2", 1), createTopic(name+"-2", 1)) {
		code(t, "named twice", twice.ErrorCode, kerr.InvalidRequest)
	}
	s.topic(name+".c_d", 1)
	code(t, "differs in . and _ only", create(true, createTopic(name+"_c.d", 1))[0].ErrorCode, kerr.InvalidTopicException)
	if v >= 4 {
		q := createTopic(name+"-d", -1)
		q.ReplicationFactor = -1
		code(t, "defaults", create(true, q)[0].ErrorCode, nil)
	}
}

func checkDeleteTopics(t *testing.T, s *served, v int16) {
	name := text("dropped-%d", v)
	id := s.topic(name, 1)
	ask := func(name string) kmsg.DeleteTopicsResponseTopic {
		req := at(kmsg.NewPtrDeleteTopicsRequest(), v)
		req.TopicNames = []string{name}
		if v >= 6 {
			q := kmsg.NewDeleteTopicsRequestTopic()
			q.Topic = &name
			req.Topics = append(req.Topics, q)
		}
		return do[*kmsg.DeleteTopicsResponse](s.conn, req).Topics[0]
	}
	got := ask(name)
	code(t, "delete", got.ErrorCode, nil)
	same(t, "name", *got.Topic, name)
	if v >= 6 {
		same(t, "id", got.TopicID, [16]byte(id))
	}
	code(t, "again", ask(name).ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, "produce to it", produced(do[*kmsg.ProduceResponse](s.conn, produceRequest(name, 0, batch("x")))).ErrorCode, kerr.UnknownTopicOrPartition)
	s.topic(name+"-p", 1, "delete.protection=true")
	code(t, "protected", ask(name+"-p").ErrorCode, kerr.PolicyViolation)
	if v < 6 {
		return
	}
	byID := func(id metadata.TopicID, name *string) kmsg.DeleteTopicsResponseTopic {
		req := at(kmsg.NewPtrDeleteTopicsRequest(), v)
		q := kmsg.NewDeleteTopicsRequestTopic()
		q.TopicID, q.Topic = id, name
		req.Topics = append(req.Topics, q)
		return do[*kmsg.DeleteTopicsResponse](s.conn, req).Topics[0]
	}
	id = s.topic(name, 1)
	code(t, "name and id", byID(id, &name).ErrorCode, kerr.InvalidRequest)
	code(t, "neither", byID(metadata.TopicID{}, nil).ErrorCode, kerr.InvalidRequest)
	got = byID(id, nil)
	code(t, "by id", got.ErrorCode, nil)
	same(t, "name", *got.Topic, name)
	code(t, "by unknown id", byID(id, nil).ErrorCode, kerr.UnknownTopicID)
}

func checkCreatePartitions(t *testing.T, s *served, v int16) {
	name := text("grown-%d", v)
	s.topic(name, 2)
	ask := func(name string, count int32, validate bool) int16 {
		req := at(kmsg.NewPtrCreatePartitionsRequest(), v)
		req.ValidateOnly = validate
		q := kmsg.NewCreatePartitionsRequestTopic()
		q.Topic, q.Count = name, count
		req.Topics = append(req.Topics, q)
		return do[*kmsg.CreatePartitionsResponse](s.conn, req).Topics[0].ErrorCode
	}
	code(t, "validate", ask(name, 4, true), nil)
	code(t, "not there yet", s.listOffset(name, 3, -1).ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, "grow", ask(name, 4, false), nil)
	same(t, "new partition", s.produce(name, 3, "x"), 0)
	code(t, "as many", ask(name, 4, false), kerr.InvalidPartitions)
	code(t, "fewer", ask(name, 1, false), kerr.InvalidPartitions)
	code(t, "too many", ask(name, 2_000_000_000, false), kerr.PolicyViolation)
	code(t, "unknown", ask("nowhere", 4, false), kerr.UnknownTopicOrPartition)
}

func describe(s *served, v int16, kind kmsg.ConfigResourceType, name string, keys ...string) kmsg.DescribeConfigsResponseResource {
	req := at(kmsg.NewPtrDescribeConfigsRequest(), v)
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	q := kmsg.NewDescribeConfigsRequestResource()
	q.ResourceType, q.ResourceName, q.ConfigNames = kind, name, keys
	req.Resources = append(req.Resources, q, q) // asked twice, answered once
	return do[*kmsg.DescribeConfigsResponse](s.conn, req).Resources[0]
}

// setting is the described value of a topic's setting.
func setting(s *served, topic, name string) string {
	r := describe(s, 4, kmsg.ConfigResourceTypeTopic, topic, name)
	if len(r.Configs) != 1 || r.Configs[0].Value == nil {
		return ""
	}
	return *r.Configs[0].Value
}

func checkDescribeConfigs(t *testing.T, s *served, v int16) {
	name := text("described-%d", v)
	s.topic(name, 1, "retention.ms=1234")
	r := describe(s, v, kmsg.ConfigResourceTypeTopic, name, "retention.ms", "cleanup.policy")
	code(t, "topic", r.ErrorCode, nil)
	if len(r.Configs) != 2 {
		t.Fatalf("%d settings, want the two asked for", len(r.Configs))
	}
	for _, c := range r.Configs {
		switch c.Name {
		case "retention.ms":
			same(t, "value", *c.Value, "1234")
			same(t, "source", c.Source, kmsg.ConfigSourceDynamicTopicConfig)
			if v >= 3 {
				same(t, "documented", *c.Documentation != "", true)
			}
		case "cleanup.policy":
			same(t, "source", c.Source, kmsg.ConfigSourceDefaultConfig)
		default:
			t.Errorf("setting %s was not asked for", c.Name)
		}
	}
	same(t, "every setting", len(describe(s, v, kmsg.ConfigResourceTypeTopic, name).Configs) > 20, true)
	code(t, "broker", describe(s, v, kmsg.ConfigResourceTypeBroker, "1").ErrorCode, nil)
	code(t, "all brokers", describe(s, v, kmsg.ConfigResourceTypeBroker, "").ErrorCode, nil)
	code(t, "another broker", describe(s, v, kmsg.ConfigResourceTypeBroker, "2").ErrorCode, kerr.InvalidRequest)
	code(t, "unknown topic", describe(s, v, kmsg.ConfigResourceTypeTopic, "nowhere").ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, "bad topic", describe(s, v, kmsg.ConfigResourceTypeTopic, "").ErrorCode, kerr.InvalidTopicException)
	code(t, "unknown kind", describe(s, v, 99, "x").ErrorCode, kerr.InvalidRequest)
	req := at(kmsg.NewPtrDescribeConfigsRequest(), v)
	q := kmsg.NewDescribeConfigsRequestResource()
	q.ResourceType, q.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	for range 1000 {
		req.Resources = append(req.Resources, q)
	}
	same(t, "answers for one resource", len(do[*kmsg.DescribeConfigsResponse](s.conn, req).Resources), 1)
}

func checkAlterConfigs(t *testing.T, s *served, v int16) {
	name := text("altered-%d", v)
	s.topic(name, 1, "retention.ms=1234", "segment.bytes=1048576")
	alter := func(validate bool, resources ...string) int16 {
		req := at(kmsg.NewPtrAlterConfigsRequest(), v)
		req.ValidateOnly = validate
		for _, value := range resources {
			q := kmsg.NewAlterConfigsRequestResource()
			q.ResourceType, q.ResourceName = kmsg.ConfigResourceTypeTopic, name
			kv := kmsg.NewAlterConfigsRequestResourceConfig()
			kv.Name, kv.Value = "retention.ms", kmsg.StringPtr(value)
			q.Configs = append(q.Configs, kv)
			req.Resources = append(req.Resources, q)
		}
		return do[*kmsg.AlterConfigsResponse](s.conn, req).Resources[0].ErrorCode
	}
	code(t, "validate", alter(true, "5"), nil)
	same(t, "validated only", setting(s, name, "retention.ms"), "1234")
	code(t, "alter", alter(false, "5"), nil)
	same(t, "altered", setting(s, name, "retention.ms"), "5")
	same(t, "what is not named falls back", setting(s, name, "segment.bytes"), "1073741824")
	code(t, "bad value", alter(false, "much"), kerr.InvalidConfig)
	code(t, "one resource twice", alter(false, "6", "7"), kerr.InvalidRequest)
}

func checkIncrementalAlterConfigs(t *testing.T, s *served, v int16) {
	name := text("changed-%d", v)
	s.topic(name, 1, "retention.ms=1234")
	alter := func(kind kmsg.ConfigResourceType, resource, key string, op kmsg.IncrementalAlterConfigOp, value string) int16 {
		req := at(kmsg.NewPtrIncrementalAlterConfigsRequest(), v)
		q := kmsg.NewIncrementalAlterConfigsRequestResource()
		q.ResourceType, q.ResourceName = kind, resource
		kv := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		kv.Name, kv.Op, kv.Value = key, op, &value
		q.Configs = append(q.Configs, kv)
		req.Resources = append(req.Resources, q)
		return do[*kmsg.IncrementalAlterConfigsResponse](s.conn, req).Resources[0].ErrorCode
	}
	topic, broker := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	code(t, "set", alter(topic, name, "segment.ms", 0, "77777"), nil)
	same(t, "set", setting(s, name, "segment.ms"), "77777")
	same(t, "others stay", setting(s, name, "retention.ms"), "1234")
	code(t, "delete", alter(topic, name, "retention.ms", 1, ""), nil)
	same(t, "deleted", setting(s, name, "retention.ms"), "604800000")
	code(t, "append to what is no list", alter(topic, name, "retention.ms", 2, "5"), kerr.InvalidConfig)
	code(t, "unknown setting", alter(topic, name, "no.such", 0, "5"), kerr.InvalidConfig)
	code(t, "unknown topic", alter(topic, "nowhere", "retention.ms", 0, "5"), kerr.UnknownTopicOrPartition)
	code(t, "broker", alter(broker, "1", "log.retention.ms", 0, "604800000"), nil)
	code(t, "read-only", alter(broker, "1", "node.id", 0, "5"), kerr.InvalidConfig)
	code(t, "another broker", alter(broker, "7", "log.retention.ms", 0, "5"), kerr.InvalidRequest)
}

func checkDescribeCluster(t *testing.T, s *served, v int16) {
	req := at(kmsg.NewPtrDescribeClusterRequest(), v)
	req.IncludeClusterAuthorizedOperations = true
	resp := do[*kmsg.DescribeClusterResponse](s.conn, req)
	code(t, "cluster", resp.ErrorCode, nil)
	same(t, "brokers", len(resp.Brokers), 1)
	same(t, "controller", resp.ControllerID, 1)
	same(t, "has an id", resp.ClusterID != "", true)
	same(t, "may do something", resp.ClusterAuthorizedOperations > 0, true)
	if v >= 1 {
		req.EndpointType = 2
		code(t, "controllers", do[*kmsg.DescribeClusterResponse](s.conn, req).ErrorCode, kerr.MismatchedEndpointType)
		req.EndpointType = 7
		code(t, "unknown endpoints", do[*kmsg.DescribeClusterResponse](s.conn, req).ErrorCode, kerr.UnsupportedEndpointType)
	}
}

func checkDescribeTopicPartitions(t *testing.T, s *served, v int16) {
	s.topic("pages-a", 3)
	s.topic("pages-b", 2)
	ask := func(limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, names ...string) *kmsg.DescribeTopicPartitionsResponse {
		req := at(kmsg.NewPtrDescribeTopicPartitionsRequest(), v)
		req.ResponsePartitionLimit, req.Cursor = limit, cursor
		for _, name := range names {
			q := kmsg.NewDescribeTopicPartitionsRequestTopic()
			q.Topic = name
			req.Topics = append(req.Topics, q)
		}
		return do[*kmsg.DescribeTopicPartitionsResponse](s.conn, req)
	}
	var seen []string
	var at *kmsg.DescribeTopicPartitionsRequestCursor
	for pages := 0; ; pages++ {
		resp := ask(2, at, "pages-b", "pages-a", "pages-a")
		for _, rt := range resp.Topics {
			code(t, *rt.Topic, rt.ErrorCode, nil)
			for _, p := range rt.Partitions {
				seen = append(seen, text("%s-%d", *rt.Topic, p.Partition))
			}
		}
		if resp.NextCursor == nil {
			break
		}
		next := kmsg.NewDescribeTopicPartitionsRequestCursor()
		next.Topic, next.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		if at = &next; pages > 5 {
			t.Fatal("the cursor does not move on")
		}
	}
	same(t, "partitions", text("%v", seen), "[pages-a-0 pages-a-1 pages-a-2 pages-b-0 pages-b-1]")
	bad := kmsg.NewDescribeTopicPartitionsRequestCursor()
	bad.Topic = "elsewhere"
	code(t, "cursor at a topic that is not asked for", ask(2, &bad, "pages-a").Topics[0].ErrorCode, kerr.InvalidRequest)
	same(t, "limit of none", len(ask(0, nil, "pages-a").Topics[0].Partitions), 1)
	code(t, "unknown", ask(2, nil, "nowhere").Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, "bad name", ask(2, nil, "a b").Topics[0].ErrorCode, kerr.InvalidTopicException)
	same(t, "all topics", len(ask(1000, nil).Topics) > 2, true)
}

// TestACreateTopicsIsBoundedByItsTopics names more topics than a request may create
// partitions, all of them without a partition.
func TestACreateTopicsIsBoundedByItsTopics(t *testing.T) {
	k := newCluster(t).start(nil).dial()
	for n, want := range map[int]*kerr.Error{10: kerr.InvalidPartitions, 10_001: kerr.PolicyViolation} {
		req := at(kmsg.NewPtrCreateTopicsRequest(), 7)
		for i := range n {
			req.Topics = append(req.Topics, createTopic(text("a_%d", i), 0))
		}
		for _, rt := range do[*kmsg.CreateTopicsResponse](k, req).Topics {
			code(t, rt.Topic, rt.ErrorCode, want)
		}
	}
}
