package tiering

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/gc"
	"github.com/coldbrook/coldbrook/tiering/read"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// Manager is the RemoteLogManager of one broker. All methods are safe for concurrent use.
type Manager struct {
	o          Options
	log        *slog.Logger
	bucket     *bucket.Cluster
	metrics    metrics
	unregister func() error
	tasks      *bucket.Tasks
	uploader   *upload.Uploader
	reader     *read.Reader
	topics     *upload.TopicFiles
	gc         *gc.Collector
	wake       chan struct{} // 1-buffered: the scheduler should look again

	mu         sync.Mutex
	partitions map[metadata.TopicIDPartition]*partition
}

// partition returns the state of a partition, making it when need be.
func (m *Manager) partition(tip metadata.TopicIDPartition) *partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.partitions[tip]
	if p == nil {
		p = newPartition(tip)
		m.partitions[tip] = p
	}
	return p
}

// known returns the state of a partition, nil where there is none.
func (m *Manager) known(tip metadata.TopicIDPartition) *partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.partitions[tip]
}

func (m *Manager) snapshot() []*partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.partitions))
}

// Lead starts the life cycle of a partition this broker leads. It never blocks. A second call with another epoch
// or log replaces the first, and so does one after the log's RemoteEnabled has changed. Of a log that is not tiered
// nothing is copied; what the tier has of it is given up if the topic says so (disable.go).
func (m *Manager) Lead(tip metadata.TopicIDPartition, leaderEpoch int32, log *segment.Log) {
	if m.partition(tip).lead(leaderEpoch, log) {
		m.nudge()
	}
}

// Resign ends what Lead started; a copy that is under way is broken off. It never blocks. Reads go on.
func (m *Manager) Resign(tip metadata.TopicIDPartition) {
	if p := m.known(tip); p != nil {
		p.resign()
	}
}

// View is a partition's remote state as last known to this broker. Of a partition it does not lead it is what the
// pointer says: committed offsets, but no sizes before Refresh.
func (m *Manager) View(tip metadata.TopicIDPartition) segment.RemoteView {
	v := noView
	if p := m.known(tip); p != nil {
		v = *p.view.Load()
		if p.led() {
			return v
		}
	}
	if pointer, ok := m.o.Metadata.Image().RemotePointer(tip); ok && pointer.EndOffset-1 != v.HighestOffset {
		v = noView
		v.HighestOffset, v.StartOffset = pointer.EndOffset-1, pointer.StartOffset
	}
	v.Loaded = true
	return v
}

// nudge makes the scheduler look for work now.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Purge deletes a deleted topic from the bucket once the grace period since its deletion has passed; done is false
// while it must be called later. It needs no leader.
func (m *Manager) Purge(ctx context.Context, t metadata.Tombstone) (done bool, err error) {
	return m.gc.Purge(ctx, t)
}

// Fsck compares the bucket with the manifests and the manifests with themselves, without reading segments.
func (m *Manager) Fsck(ctx context.Context, o gc.FsckOptions, report func(gc.Problem), progress func(gc.FsckSummary)) (gc.FsckSummary, error) {
	return m.gc.Fsck(ctx, o, report, progress)
}

// Verify reads every byte that the manifests name, and checks it.
func (m *Manager) Verify(ctx context.Context, o gc.VerifyOptions, report func(gc.Problem), progress func(gc.VerifySummary)) (gc.VerifySummary, error) {
	return m.gc.Verify(ctx, o, report, progress)
}

// metrics are what the manager counts itself; rates are the scraper's business.
type metrics struct {
	commits, lostRaces metric.Int64Counter
	shown              sync.Once
}
