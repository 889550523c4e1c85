package controller

import (
	"context"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
)

// purgeLoop works tombstones off: at each change of the image those it has not
// seen, and every interval those that were not done.
func (c *Controller) purgeLoop(ctx context.Context, term *metadata.Term) error {
	wake, stop := c.o.Store.Watch()
	defer stop()
	tick := time.NewTicker(c.o.PurgeInterval)
	defer tick.Stop()
	tried := map[metadata.TopicID]int64{} // revision of the tombstone that was tried
	for {
		im, err := c.current(term)
		if err != nil {
			return err
		}
		graves := im.Tombstones()
		seen := make(map[metadata.TopicID]int64, len(graves))
		for _, grave := range graves {
			id := grave.Topic.ID
			seen[id] = grave.ModRevision
			if tried[id] != grave.ModRevision {
				c.purge(ctx, term, grave)
			}
		}
		tried = seen
		select {
		case <-wake:
		case <-tick.C:
			clear(tried)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Controller) purge(ctx context.Context, term *metadata.Term, grave metadata.Tombstone) {
	log := c.o.Logger.With("topic", grave.Topic.Name, "topic_id", grave.Topic.ID)
	done, err := c.gone(ctx, grave, time.Now())
	if err == nil && done {
		err = term.FinishTombstone(ctx, grave)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		log.Warn("deleted topic not purged", "retry", c.o.PurgeInterval, "err", err)
	case done:
		c.metrics.purged.Add(ctx, 1)
		log.Info("deleted topic purged")
	}
}

// gone says whether nothing is left of the topic but its keys. A topic that never
// became visible had no leader, and so has no data.
func (c *Controller) gone(ctx context.Context, grave metadata.Tombstone, now time.Time) (bool, error) {
	if grave.Creating {
		return now.Sub(grave.Deleted) >= c.o.CreateTimeout, nil
	}
	return c.o.Purge(ctx, grave)
}
