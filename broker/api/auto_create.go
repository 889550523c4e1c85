package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
)

const (
	// maxAutoCreate is how many topics one Metadata request makes. A client that
	// named more asks again, as it does for those that were made.
	maxAutoCreate = 100
	// autoCreateAtOnce is how many of them are made side by side.
	autoCreateAtOnce = 10
)

// autoCreate makes topics that are missing in img where client and broker both want
// it; it counts against the client's controller mutation quota. denied are those
// that the client may see but not make.
func (a *API) autoCreate(ctx context.Context, c *call, req *kmsg.MetadataRequest, img *metadata.Image, asked []*kmsg.MetadataRequestTopic) (denied map[string]bool) {
	if req.Version >= 4 && !req.AllowAutoTopicCreation || !a.limits().autoCreate {
		return nil
	}
	var missing []string
	for _, q := range asked {
		if namedByID(q) || unknownTopic(*q.Topic) == kerr.InvalidTopicException.Code {
			continue
		}
		name := *q.Topic
		_, exists := img.Topic(name)
		switch {
		case exists:
			a.creating.settle(ctx, name)
		case a.topicAllowed(ctx, c, auth.Describe, name) != 0:
		case !a.clusterAllowed(ctx, c, auth.Create) && a.topicAllowed(ctx, c, auth.Create, name) != 0:
			if denied == nil {
				denied = make(map[string]bool)
			}
			denied[name] = true
		case reservedTopic(name) && name != group.Topic:
		case len(missing) < maxAutoCreate:
			missing = append(missing, name)
		}
	}
	a.createMissing(ctx, c, missing)
	return denied
}

func (a *API) createMissing(ctx context.Context, c *call, names []string) {
	partitions := make([]int, len(names))
	var g errgroup.Group
	g.SetLimit(autoCreateAtOnce)
	for i, name := range names {
		g.Go(func() error {
			t, err := a.createByName(ctx, name)
			if err != nil {
				a.log.Warn("create topic automatically", "topic", name, "err", err)
				return nil
			}
			partitions[i] = len(t.Partitions)
			return nil
		})
	}
	_ = g.Wait() // the errors are logged
	total := 0
	for _, n := range partitions {
		total += n
	}
	a.mutated(c, total)
}

func (a *API) createByName(ctx context.Context, name string) (*metadata.Topic, error) {
	if name == group.Topic {
		return a.groupTopic(ctx)
	}
	return a.createOnce(ctx, topicSpec{name: name, partitions: -1, replication: -1})
}
