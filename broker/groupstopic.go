package broker

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// growRetry is when a change of the groups' topic that failed is tried again, should
// nothing else happen before.
const growRetry = 10 * time.Second

// growGroupsTopic gives the topic of the group coordinator its replicas until ctx
// ends: a client may have come, and made it, when fewer brokers were there than
// offsets.topic.replication.factor (KAFKA-3959), and one broker that is lost must not
// take the offsets with it. It is the controller that does it.
func (b *Broker) growGroupsTopic(ctx context.Context) error {
	changed, stop := b.metadata.Watch()
	defer stop()
	for {
		s, im := b.settings.Load().Broker(), b.metadata.Image()
		var again <-chan time.Time
		if t, ok := im.Topic(group.Topic); ok && im.Controller() == metadata.BrokerID(s.NodeID) {
			changes := controller.Grow(im, t, int(s.Group.OffsetsReplicationFactor))
			if len(changes) > 0 && !b.grow(ctx, t, changes) {
				again = time.After(growRetry)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// grow makes the changes and says whether all were made.
func (b *Broker) grow(ctx context.Context, t *metadata.Topic, changes []metadata.PartitionChange) bool {
	done := 0
	for _, err := range b.metadata.AlterPartitions(ctx, changes) {
		if err == nil {
			done++
			continue
		}
		b.log.Debug("add replicas", "topic", t.Name, "err", err) // somebody else was faster, or etcd is away
	}
	if done > 0 {
		b.log.Info("adding replicas to the topic of the group coordinator, which was made with fewer", "topic", t.Name, "partitions", done)
	}
	return done == len(changes)
}
