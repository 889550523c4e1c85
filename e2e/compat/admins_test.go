package compat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	segment "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const retention = "retention.ms"

// errNotOffered says that a client has no such call.
var errNotOffered = errors.New("the client does not offer this")

// admin is somebody's client for operators, in what all of them offer.
type admin interface {
	create(ctx context.Context, topic string, partitions int, retentionMs string) error
	config(ctx context.Context, topic string) (retentionMs string, err error)
	alter(ctx context.Context, topic, retentionMs string) error
	grow(ctx context.Context, topic string, partitions int) error
	partitions(ctx context.Context, topic string) (int, error) // 0: no such topic
	offsets(ctx context.Context, topic string) (start, end int64, err error)
	truncate(ctx context.Context, topic string, before int64) error
	group(ctx context.Context, group, topic string) (state string, committed int64, err error)
	deleteGroup(ctx context.Context, group string) error
	deleteTopic(ctx context.Context, topic string) error
	close()
}

// Offsets are those of partition 0.

type franzAdmin struct{ *kadm.Client }

func newFranzAdmin(addr string) (admin, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(10*time.Millisecond))
	return franzAdmin{kadm.NewClient(cl)}, err
}

func (a franzAdmin) create(ctx context.Context, topic string, n int, ms string) error {
	_, err := a.CreateTopic(ctx, int32(n), 1, map[string]*string{retention: &ms}, topic)
	return err
}

func (a franzAdmin) config(ctx context.Context, topic string) (string, error) {
	all, err := a.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	for _, c := range all[0].Configs {
		if c.Key == retention {
			return c.MaybeValue(), all[0].Err
		}
	}
	return "", all[0].Err
}

func (a franzAdmin) alter(ctx context.Context, topic, ms string) error {
	rs, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: retention, Value: &ms}}, topic)
	if err != nil {
		return err
	}
	return rs[0].Err
}

func (a franzAdmin) grow(ctx context.Context, topic string, n int) error {
	rs, err := a.UpdatePartitions(ctx, n, topic)
	return errors.Join(err, rs.Error())
}

func (a franzAdmin) partitions(ctx context.Context, topic string) (int, error) {
	list, err := a.ListTopics(ctx)
	return len(list[topic].Partitions), err
}

func (a franzAdmin) offsets(ctx context.Context, topic string) (int64, int64, error) {
	s, err := a.ListStartOffsets(ctx, topic)
	e, err2 := a.ListEndOffsets(ctx, topic)
	start, _ := s.Lookup(topic, 0)
	end, _ := e.Lookup(topic, 0)
	return start.Offset, end.Offset, errors.Join(err, err2, start.Err, end.Err)
}

func (a franzAdmin) truncate(ctx context.Context, topic string, before int64) error {
	at := make(kadm.Offsets)
	at.AddOffset(topic, 0, before, -1)
	rs, err := a.DeleteRecords(ctx, at)
	return errors.Join(err, rs.Error())
}

func (a franzAdmin) group(ctx context.Context, group, topic string) (string, int64, error) {
	g, err := a.DescribeGroups(ctx, group)
	o, err2 := a.FetchOffsets(ctx, group)
	at, _ := o.Lookup(topic, 0)
	return g[group].State, at.At, errors.Join(err, err2, g[group].Err, at.Err)
}

func (a franzAdmin) deleteGroup(ctx context.Context, group string) error {
	_, err := a.DeleteGroup(ctx, group)
	return err
}

func (a franzAdmin) deleteTopic(ctx context.Context, topic string) error {
	_, err := a.DeleteTopic(ctx, topic)
	return err
}

func (a franzAdmin) close() { a.Close() }

type confluentAdmin struct{ *kafka.AdminClient }

func newConfluentAdmin(addr string) (admin, error) {
	a, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": addr})
	return confluentAdmin{a}, err
}

// worst is the error of a call or of its only result.
func worst(err error, result kafka.Error) error {
	if err == nil && result.Code() != kafka.ErrNoError {
		return result
	}
	return err
}

func (a confluentAdmin) create(ctx context.Context, topic string, n int, ms string) error {
	rs, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: n, ReplicationFactor: 1, Config: map[string]string{retention: ms}}})
	if err != nil {
		return err
	}
	return worst(nil, rs[0].Error)
}

func (a confluentAdmin) config(ctx context.Context, topic string) (string, error) {
	rs, err := a.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic}})
	if err != nil {
		return "", err
	}
	return rs[0].Config[retention].Value, worst(nil, rs[0].Error)
}

func (a confluentAdmin) alter(ctx context.Context, topic, ms string) error {
	rs, err := a.IncrementalAlterConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic,
		Config: []kafka.ConfigEntry{{Name: retention, Value: ms, IncrementalOperation: kafka.AlterConfigOpTypeSet}}}})
	if err != nil {
		return err
	}
	return worst(nil, rs[0].Error)
}

func (a confluentAdmin) grow(ctx context.Context, topic string, n int) error {
	rs, err := a.CreatePartitions(ctx, []kafka.PartitionsSpecification{{Topic: topic, IncreaseTo: n}})
	if err != nil {
		return err
	}
	return worst(nil, rs[0].Error)
}

func (a confluentAdmin) partitions(_ context.Context, topic string) (int, error) {
	md, err := a.GetMetadata(nil, true, 10_000)
	if err != nil {
		return 0, err
	}
	return len(md.Topics[topic].Partitions), nil
}

func (a confluentAdmin) offsets(ctx context.Context, topic string) (start, end int64, err error) {
	for spec, into := range map[kafka.OffsetSpec]*int64{kafka.EarliestOffsetSpec: &start, kafka.LatestOffsetSpec: &end} {
		rs, err := a.ListOffsets(ctx, map[kafka.TopicPartition]kafka.OffsetSpec{{Topic: &topic}: spec})
		if err != nil {
			return 0, 0, err
		}
		for _, r := range rs.ResultInfos {
			if err := worst(nil, r.Error); err != nil {
				return 0, 0, err
			}
			*into = int64(r.Offset)
		}
	}
	return start, end, nil
}

func (a confluentAdmin) truncate(ctx context.Context, topic string, before int64) error {
	rs, err := a.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &topic, Offset: kafka.Offset(before)}})
	if err != nil {
		return err
	}
	return rs.DeleteRecordsResults[0].TopicPartition.Error
}

func (a confluentAdmin) group(ctx context.Context, group, topic string) (string, int64, error) {
	g, err := a.DescribeConsumerGroups(ctx, []string{group})
	if err != nil {
		return "", 0, err
	}
	o, err := a.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: []kafka.TopicPartition{{Topic: &topic}}}})
	if err != nil {
		return "", 0, err
	}
	at := o.ConsumerGroupsTopicPartitions[0].Partitions[0]
	d := g.ConsumerGroupDescriptions[0]
	return d.State.String(), int64(at.Offset), errors.Join(at.Error, worst(nil, d.Error))
}

func (a confluentAdmin) deleteGroup(ctx context.Context, group string) error {
	rs, err := a.DeleteConsumerGroups(ctx, []string{group})
	if err != nil {
		return err
	}
	return worst(nil, rs.ConsumerGroupResults[0].Error)
}

func (a confluentAdmin) deleteTopic(ctx context.Context, topic string) error {
	rs, err := a.DeleteTopics(ctx, []string{topic})
	if err != nil {
		return err
	}
	return worst(nil, rs[0].Error)
}

func (a confluentAdmin) close() { a.Close() }

type saramaAdmin struct {
	sarama.ClusterAdmin
	client sarama.Client
}

func newSaramaAdmin(v sarama.KafkaVersion) func(string) (admin, error) {
	return func(addr string) (admin, error) {
		cl, err := sarama.NewClient([]string{addr}, saramaClient{v}.config())
		if err != nil {
			return nil, err
		}
		a, err := sarama.NewClusterAdminFromClient(cl)
		return saramaAdmin{a, cl}, err
	}
}

func (a saramaAdmin) create(_ context.Context, topic string, n int, ms string) error {
	return a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(n), ReplicationFactor: 1, ConfigEntries: map[string]*string{retention: &ms}}, false)
}

func (a saramaAdmin) config(_ context.Context, topic string) (string, error) {
	list, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{retention}})
	if err != nil || len(list) != 1 {
		return "", fmt.Errorf("%d settings: %w", len(list), err)
	}
	return list[0].Value, nil
}

// alter uses AlterConfigs, the call before IncrementalAlterConfigs.
func (a saramaAdmin) alter(_ context.Context, topic, ms string) error {
	return a.AlterConfig(sarama.TopicResource, topic, map[string]*string{retention: &ms}, false)
}

func (a saramaAdmin) grow(_ context.Context, topic string, n int) error {
	return a.CreatePartitions(topic, int32(n), nil, false)
}

func (a saramaAdmin) partitions(_ context.Context, topic string) (int, error) {
	list, err := a.ListTopics()
	return int(list[topic].NumPartitions), err
}

func (a saramaAdmin) offsets(_ context.Context, topic string) (int64, int64, error) {
	start, err := a.client.GetOffset(topic, 0, sarama.OffsetOldest)
	end, err2 := a.client.GetOffset(topic, 0, sarama.OffsetNewest)
	return start, end, errors.Join(err, err2)
}

func (a saramaAdmin) truncate(_ context.Context, topic string, before int64) error {
	return a.DeleteRecords(topic, map[int32]int64{0: before})
}

func (a saramaAdmin) group(_ context.Context, group, topic string) (string, int64, error) {
	g, err := a.DescribeConsumerGroups([]string{group})
	if err != nil {
		return "", 0, err
	}
	o, err := a.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
	if err != nil {
		return "", 0, err
	}
	return g[0].State, o.GetBlock(topic, 0).Offset, nil
}

func (a saramaAdmin) deleteGroup(_ context.Context, group string) error {
	return a.DeleteConsumerGroup(group)
}

func (a saramaAdmin) deleteTopic(_ context.Context, topic string) error { return a.DeleteTopic(topic) }

func (a saramaAdmin) close() { _ = a.Close() } // with its client

type segmentioAdmin struct{ *segment.Client }

func newSegmentioAdmin(addr string) (admin, error) {
	return segmentioAdmin{&segment.Client{Addr: segment.TCP(addr), Transport: &segment.Transport{MetadataTTL: 10 * time.Millisecond}}}, nil
}

func (a segmentioAdmin) create(ctx context.Context, topic string, n int, ms string) error {
	r, err := a.CreateTopics(ctx, &segment.CreateTopicsRequest{Topics: []segment.TopicConfig{{Topic: topic, NumPartitions: n, ReplicationFactor: 1,
		ConfigEntries: []segment.ConfigEntry{{ConfigName: retention, ConfigValue: ms}}}}})
	if err != nil {
		return err
	}
	return r.Errors[topic]
}

func (a segmentioAdmin) config(ctx context.Context, topic string) (string, error) {
	r, err := a.DescribeConfigs(ctx, &segment.DescribeConfigsRequest{Resources: []segment.DescribeConfigRequestResource{
		{ResourceType: segment.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{retention}}}})
	if err != nil {
		return "", err
	}
	return r.Resources[0].ConfigEntries[0].ConfigValue, r.Resources[0].Error
}

func (a segmentioAdmin) alter(ctx context.Context, topic, ms string) error {
	r, err := a.IncrementalAlterConfigs(ctx, &segment.IncrementalAlterConfigsRequest{Resources: []segment.IncrementalAlterConfigsRequestResource{
		{ResourceType: segment.ResourceTypeTopic, ResourceName: topic, Configs: []segment.IncrementalAlterConfigsRequestConfig{
			{Name: retention, Value: ms, ConfigOperation: segment.ConfigOperationSet}}}}})
	if err != nil {
		return err
	}
	return r.Resources[0].Error
}

func (a segmentioAdmin) grow(ctx context.Context, topic string, n int) error {
	r, err := a.CreatePartitions(ctx, &segment.CreatePartitionsRequest{Topics: []segment.TopicPartitionsConfig{{Name: topic, Count: int32(n)}}})
	if err != nil {
		return err
	}
	return r.Errors[topic]
}

func (a segmentioAdmin) partitions(ctx context.Context, topic string) (int, error) {
	r, err := a.Metadata(ctx, &segment.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	return len(r.Topics[0].Partitions), nil
}

func (a segmentioAdmin) offsets(ctx context.Context, topic string) (int64, int64, error) {
	r, err := a.ListOffsets(ctx, &segment.ListOffsetsRequest{Topics: map[string][]segment.OffsetRequest{topic: {segment.FirstOffsetOf(0), segment.LastOffsetOf(0)}}})
	if err != nil {
		return 0, 0, err
	}
	p := r.Topics[topic][0]
	return p.FirstOffset, p.LastOffset, p.Error
}

func (segmentioAdmin) truncate(context.Context, string, int64) error { return errNotOffered }

func (a segmentioAdmin) group(ctx context.Context, group, topic string) (string, int64, error) {
	g, err := a.DescribeGroups(ctx, &segment.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return "", 0, err
	}
	o, err := a.OffsetFetch(ctx, &segment.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0}}})
	if err != nil {
		return "", 0, err
	}
	return g.Groups[0].GroupState, o.Topics[topic][0].CommittedOffset, errors.Join(g.Groups[0].Error, o.Error)
}

func (a segmentioAdmin) deleteGroup(ctx context.Context, group string) error {
	r, err := a.DeleteGroups(ctx, &segment.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return r.Errors[group]
}

func (a segmentioAdmin) deleteTopic(ctx context.Context, topic string) error {
	r, err := a.DeleteTopics(ctx, &segment.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return r.Errors[topic]
}

func (a segmentioAdmin) close() {}
