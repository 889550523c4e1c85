package api

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// describeLogDirs is DescribeLogDirs (key 35), versions 1–5 (KIP-113): this
// broker's replicas by log directory, with what they take of the local disk. v3:
// an error at the top. v4: the volume's bytes (KIP-827). v5: cordoned directories
// (KIP-1066), of which there are none here.
func (a *API) describeLogDirs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	if !a.clusterAllowed(ctx, c, auth.Describe) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code // before v3 an empty answer has to do
		return resp
	}
	asked := func(metadata.TopicPartition) bool { return true }
	if req.Topics != nil {
		named := make(map[metadata.TopicPartition]bool)
		for i := range req.Topics {
			for _, n := range req.Topics[i].Partitions {
				tp := metadata.TopicPartition{Topic: req.Topics[i].Topic, Partition: n}
				if _, err := a.o.Replicas.Partition(tp); err == nil {
					named[tp] = true
				}
			}
		}
		asked = func(tp metadata.TopicPartition) bool { return named[tp] }
	}
	for _, d := range a.o.Dirs {
		resp.Dirs = append(resp.Dirs, a.describeLogDir(d, asked))
	}
	return resp
}

func (a *API) describeLogDir(d *segment.Dir, asked func(metadata.TopicPartition) bool) kmsg.DescribeLogDirsResponseDir {
	rd := kmsg.NewDescribeLogDirsResponseDir()
	rd.Dir = d.Path()
	if abs, err := filepath.Abs(rd.Dir); err == nil {
		rd.Dir = abs
	}
	usage, err := d.Usage()
	if offline := d.Offline(); offline != nil || err != nil {
		if offline == nil {
			a.log.Warn("usage of log directory", "path", d.Path(), "err", err)
		}
		rd.ErrorCode = kerr.KafkaStorageError.Code
		return rd
	}
	rd.TotalBytes, rd.UsableBytes = int64(usage.Total), int64(usage.Free)
	topics := make(map[string][]kmsg.DescribeLogDirsResponseDirTopicPartition)
	for _, l := range d.Logs() {
		tp := l.TopicPartition()
		if !asked(tp) {
			continue
		}
		rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		rp.Partition, rp.Size, rp.OffsetLag = tp.Partition, l.LocalBytes(), a.offsetLag(tp, l)
		topics[tp.Topic] = append(topics[tp.Topic], rp)
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		rt := kmsg.NewDescribeLogDirsResponseDirTopic()
		rt.Topic, rt.Partitions = name, topics[name]
		slices.SortFunc(rt.Partitions, func(a, b kmsg.DescribeLogDirsResponseDirTopicPartition) int {
			return cmp.Compare(a.Partition, b.Partition)
		})
		rd.Topics = append(rd.Topics, rt)
	}
	return rd
}

// offsetLag is how far the replica is behind what is committed; -1 for a log
// that is no replica of this broker any more.
func (a *API) offsetLag(tp metadata.TopicPartition, l *segment.Log) int64 {
	p, err := a.o.Replicas.Partition(tp)
	if err != nil || p.Log() != l {
		return -1
	}
	return max(l.HighWatermark()-l.LogEnd(), 0)
}
