package api_test

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

func askTopic(version int16, name string, create bool) *kmsg.MetadataRequest {
	req := at(kmsg.NewPtrMetadataRequest(), version)
	q := kmsg.NewMetadataRequestTopic()
	q.Topic = &name
	req.Topics, req.AllowAutoTopicCreation = append(req.Topics, q), create
	return req
}

// TestTopicsAreCreatedOnDemandOnce asks for a new topic from many connections at
// once: there is one topic. Who made it is told that it is not known, as Kafka does,
// and everybody can use it when they ask again.
func TestTopicsAreCreatedOnDemandOnce(t *testing.T) {
	c := newCluster(t).start(map[string]string{"num.partitions": "3"})
	ids := make([]metadata.TopicID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		k := c.dial()
		wg.Go(func() {
			rt := do[*kmsg.MetadataResponse](k, askTopic(12, "new", true)).Topics[0]
			if rt.ErrorCode != 0 {
				code(t, "topic", rt.ErrorCode, kerr.UnknownTopicOrPartition)
				same(t, "partitions of what is not known", len(rt.Partitions), 0)
				rt = do[*kmsg.MetadataResponse](k, askTopic(12, "new", true)).Topics[0]
			}
			code(t, "topic, asked for again", rt.ErrorCode, nil)
			same(t, "partitions", len(rt.Partitions), 3)
			ids[i] = rt.TopicID
			k.produce("new", 2, "x")
		})
	}
	wg.Wait()
	for _, id := range ids {
		same(t, "id", id, ids[0])
	}
}

// TestTopicsAreNotCreatedUnlessBothSidesWant keeps to the client's wish (v4) and
// the broker's setting.
func TestTopicsAreNotCreatedUnlessBothSidesWant(t *testing.T) {
	for _, q := range []struct {
		enabled string
		version int16
		wish    bool
		want    *kerr.Error
	}{
		{"true", 12, true, nil}, {"true", 12, false, kerr.UnknownTopicOrPartition}, {"true", 3, false, nil},
		{"false", 12, true, kerr.UnknownTopicOrPartition}, {"false", 3, true, kerr.UnknownTopicOrPartition},
	} {
		k := newCluster(t).start(map[string]string{"auto.create.topics.enable": q.enabled}).dial()
		rt := do[*kmsg.MetadataResponse](k, askTopic(q.version, "new", q.wish)).Topics[0]
		code(t, "topic, asked for once", rt.ErrorCode, kerr.UnknownTopicOrPartition)
		rt = do[*kmsg.MetadataResponse](k, askTopic(12, "new", false)).Topics[0]
		code(t, text("enabled %s, v%d, wish %v", q.enabled, q.version, q.wish), rt.ErrorCode, q.want)
	}
}

// TestOneRequestMakesFewTopics names thousands that are missing, and some that only
// the broker may make.
func TestOneRequestMakesFewTopics(t *testing.T) {
	c := newCluster(t).start(nil)
	k := c.dial()
	made := func() int {
		return len(do[*kmsg.MetadataResponse](k, at(kmsg.NewPtrMetadataRequest(), 12)).Topics)
	}
	req := at(kmsg.NewPtrMetadataRequest(), 12)
	req.AllowAutoTopicCreation = true
	for i := range 3000 {
		q := kmsg.NewMetadataRequestTopic()
		q.Topic = kmsg.StringPtr(text("new-%04d", i))
		req.Topics = append(req.Topics, q)
	}
	for n := range 2 {
		for _, rt := range do[*kmsg.MetadataResponse](k, req).Topics[n*100:] {
			code(t, *rt.Topic, rt.ErrorCode, kerr.UnknownTopicOrPartition)
		}
		same(t, "made", made(), (n+1)*100)
	}
}

// TestReservedNamesAreNobodysTopics asks for the topics of coordinators that are not
// there, and of Kafka's controllers.
func TestReservedNamesAreNobodysTopics(t *testing.T) {
	c := newCluster(t).start(nil)
	k := c.dial()
	for _, name := range []string{"__transaction_state", "__share_group_state", "__cluster_metadata"} {
		for range 2 {
			rt := do[*kmsg.MetadataResponse](k, askTopic(4, name, true)).Topics[0]
			code(t, "metadata of "+name, rt.ErrorCode, kerr.UnknownTopicOrPartition)
			same(t, name+" is internal", rt.IsInternal, name != "__cluster_metadata")
		}
		req := at(kmsg.NewPtrCreateTopicsRequest(), 7)
		req.Topics = append(req.Topics, createTopic(name, 1))
		code(t, "create "+name, do[*kmsg.CreateTopicsResponse](k, req).Topics[0].ErrorCode, kerr.InvalidTopicException)
		code(t, "produce to "+name, produced(do[*kmsg.ProduceResponse](k, produceRequest(name, 0, batch("x")))).ErrorCode, kerr.UnknownTopicOrPartition)
	}
	same(t, "topics", len(do[*kmsg.MetadataResponse](k, at(kmsg.NewPtrMetadataRequest(), 12)).Topics), 0)
}

// TestRequestsOfOneSessionDoNotDisturbEachOther hammers one fetch session from
// several connections, as no client should: each answer is whole or an error.
func TestRequestsOfOneSessionDoNotDisturbEachOther(t *testing.T) {
	c := newCluster(t).start(nil)
	s := c.dial()
	s.topic("t", 3)
	for n := range int32(3) {
		s.produce("t", n, "a", "b")
	}
	open := fetchRequest("t", 0, 0)
	open.SessionEpoch = 0
	addFetch(open, "t", metadata.TopicID{}, 1, 0)
	id := do[*kmsg.FetchResponse](s, open).SessionID
	var wg sync.WaitGroup
	for i := range 4 {
		k := c.dial()
		wg.Go(func() {
			for epoch := int32(1); epoch < 300; epoch++ {
				req := at(kmsg.NewPtrFetchRequest(), 12)
				req.MaxBytes, req.SessionID, req.SessionEpoch = 1<<20, id, epoch
				addFetch(req, "t", metadata.TopicID{}, int32((i+int(epoch))%3), int64(epoch%2))
				resp := do[*kmsg.FetchResponse](k, req)
				switch resp.ErrorCode {
				case 0, kerr.InvalidFetchSessionEpoch.Code:
				default:
					code(t, "fetch", resp.ErrorCode, nil)
				}
				for _, rt := range resp.Topics {
					same(t, "topic", rt.Topic, "t")
					for _, p := range rt.Partitions {
						code(t, "partition", p.ErrorCode, nil)
						values(t, p.RecordBatches, 0)
					}
				}
			}
		})
	}
	wg.Wait()
}
