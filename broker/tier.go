package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/tiering"
	"github.com/coldbrook/coldbrook/tiering/cache"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// openObjects opens the object store and checks it. One that is wrong (no such
// bucket, no access) stops the start; one that is only away does not: the
// broker works without it until the disk is full.
func (b *Broker) openObjects(ctx context.Context, parts *layers) error {
	b.addresses.Store = b.settings.Load().Broker().Remote.StoreURL
	store := b.o.Objects
	if store == nil {
		s := b.settings.Load()
		if _, given := s.Get("remote.store.url"); !given {
			if err := objectsElsewhere(s.Broker().DataDir, b.addresses.ClusterID); err != nil {
				return err
			}
		}
		opened, err := object.Open(ctx, b.addresses.Store, object.Options{Logger: b.log})
		if err != nil {
			return err
		}
		parts.onStop("object store", opened.Close)
		store = opened
	}
	var err error
	b.ledger = cost.NewLedger(b.addresses.ClusterID, b.topicName)
	if b.objects, err = object.WithCount(store, b.o.Meter("object"), b.ledger.Request); err != nil {
		return err
	}
	parts.start(ctx, "ledger of the object store", b.ledger.Run)
	err = b.checkObjects(ctx)
	if unanswered(err) {
		b.log.Error("object store does not answer, uploads and old reads wait for it", "store", b.addresses.Store, "err", err)
		parts.start(ctx, "check of the object store", b.checkObjectsLater)
		return nil
	}
	return err // names the bucket and what is wrong with it
}

func (b *Broker) checkObjects(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return object.Check(bounded, b.objects)
}

// unanswered says that a check says nothing of the store.
func unanswered(err error) bool {
	return errors.Is(err, object.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

const (
	// checkObjectsEvery is how often a store that did not answer at the start is looked at until it does.
	checkObjectsEvery = 5 * time.Second
	// checkObjectsSay is how often it is said again that it cannot be used.
	checkObjectsSay = 10 * time.Minute
)

// checkObjectsLater checks a store that was away at the start once it answers. One that overwrites objects, or lacks
// something else that nothing can stand in for, ends the broker then: it must not go on because its store came late.
func (b *Broker) checkObjectsLater(ctx context.Context) error {
	tick := time.NewTicker(checkObjectsEvery)
	defer tick.Stop()
	var said time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		switch err := b.checkObjects(ctx); {
		case ctx.Err() != nil:
		case err == nil:
			b.log.Info("object store answers", "store", b.addresses.Store)
			tick.Stop()
		case errors.Is(err, object.ErrUnsupported):
			return err
		case !unanswered(err) && time.Since(said) > checkObjectsSay:
			said = time.Now()
			b.log.Error("object store cannot be used", "store", b.addresses.Store, "err", err)
		}
	}
}

// objectsElsewhere refuses to begin an empty store beside the one that an earlier release made: it took the name of the
// data directory for a part of a URL, in which '#', '?' and '%' end it or stand for something else.
func objectsElsewhere(dataDir, cluster string) error {
	here := filepath.Join(dataDir, "objects")
	u, err := url.Parse("file://" + filepath.ToSlash(here))
	if err != nil || u.Path == filepath.ToSlash(here) {
		return nil
	}
	there := filepath.FromSlash(u.Path)
	if _, err := os.Stat(filepath.Join(there, cluster)); err != nil {
		return nil // nothing of this cluster
	}
	if _, err := os.Stat(filepath.Join(here, cluster)); err == nil {
		return nil
	}
	return fmt.Errorf("an earlier release keeps this cluster's objects in %s: move %s to %s, or name the place with --store", there, filepath.Join(there, cluster), here)
}

func (b *Broker) openTier(ctx context.Context, parts *layers) error {
	if err := b.tierNotNeeded(ctx); err != nil {
		return err
	}
	r := b.settings.Load().Broker().Remote
	disk, err := b.openCacheDisk()
	if err != nil {
		return err
	}
	chunks, err := cache.New(cache.Options{MemoryBytes: r.CacheBytes, PrefetchBytes: r.ReadAheadBytes, Disk: disk, Count: b.ledger.Cache, Meter: b.o.Meter("tiering"), Logger: b.log})
	if err != nil {
		return err
	}
	parts.start(ctx, "tier cache", chunks.Run)
	b.tier, err = tiering.New(tiering.Options{
		Store: b.objects, ClusterID: b.addresses.ClusterID, Metadata: b.metadata, Cache: chunks,
		Topic:    b.tierSettings,
		Interval: r.TaskInterval, Uploads: r.Copiers, Grace: r.DeleteGrace, RetryMin: r.RetryBackoff, RetryMax: r.RetryBackoffMax,
		CopyRate: byteRate(r.CopyBytesPerSecond), FetchRate: byteRate(r.FetchBytesPerSecond),
		ReadAhead: r.ReadAheadBytes, MetaBytes: r.IndexCacheBytes,
		Sweep: r.GCInterval, Collector: b.collector, ScrubRate: r.ScrubBytesPerSecond,
		Ledger: b.ledger, Prices: b.prices, TopicMetrics: b.settings.Load().Broker().MetricsTopicEnabled,
		Logger: b.log, Meter: b.o.Meter("tiering"), Tracer: b.tracer("tiering"),
	})
	if err != nil {
		return err
	}
	parts.start(ctx, "tiering", b.tier.Run)
	return nil
}

// openCacheDisk opens the cache's second level, or returns nil when there is none.
func (b *Broker) openCacheDisk() (*cache.Disk, error) {
	r := b.settings.Load().Broker().Remote
	if r.CacheDir == "" {
		return nil, nil
	}
	d, err := cache.OpenDisk(cache.DiskOptions{FS: b.o.FS, Dir: r.CacheDir, Bytes: r.CacheDiskBytes, Scope: b.addresses.ClusterID, Logger: b.log})
	if err != nil {
		return nil, fmt.Errorf("remote.cache.dir: %w", err)
	}
	return d, nil
}

// tracer is a package's, or nil when nothing is traced.
func (b *Broker) tracer(pkg string) trace.Tracer {
	if b.o.Tracer == nil {
		return nil
	}
	return b.o.Tracer(pkg)
}

// byteRate is a quota in the tiering manager's words, where 0 is unlimited.
func byteRate(n int64) int64 {
	if n == math.MaxInt64 {
		return 0
	}
	return n
}

// tierSettings is what a topic's configuration says about copying it.
func (b *Broker) tierSettings(topic string) upload.TopicSettings {
	// What is left out has been told when the replicas took the configuration over.
	t, _ := b.settings.Load().ResolveStored(b.metadata.Image().TopicConfig(topic))
	return upload.TopicSettings{CopyDisabled: t.RemoteCopyDisabled, DeleteOnDisable: t.RemoteDeleteOnDisable, CopyLag: t.RemoteCopyLag, CopyLagBytes: t.RemoteCopyLagBytes}
}
