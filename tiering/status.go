package tiering

import (
	"context"
	"iter"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/upload"
)

// Status is what `tier status` says of one led partition beyond what its log knows.
type Status struct {
	TopicIDPartition metadata.TopicIDPartition
	Topic            string
	LeaderEpoch      int32
	View             segment.RemoteView
	OldestAge        time.Duration // of the oldest sealed segment that is not in the tier; 0 = none waits
	PendingDeletions int64         // items on the manifest's garbage list
	Failures         int           // passes that failed since the last good one
	RetryAt          time.Time     // of the next pass after a failure
	Held             string        // why nothing is copied and nothing deleted before an operator decides; empty: it is
}

// Status returns the state of every partition this broker leads that is tiered or was, in no order. What waits for upload
// is counted now: views are as old as the last pass, and would not show a segment that was just sealed.
func (m *Manager) Status(now time.Time) []Status {
	var all []Status
	for _, p := range m.snapshot() {
		if s, ok := m.status(p, now); ok {
			all = append(all, s)
		}
	}
	return all
}

func (m *Manager) status(p *partition, now time.Time) (Status, bool) {
	p.mu.Lock()
	l := p.leader
	if l == nil || !l.tiered && !m.holdsLocked(p) {
		p.mu.Unlock()
		return Status{}, false
	}
	s := Status{
		TopicIDPartition: p.tip, Topic: l.Topic, LeaderEpoch: l.Epoch, View: *p.view.Load(),
		PendingDeletions: p.garbage, Failures: p.failures, RetryAt: p.notBefore, Held: p.held,
	}
	end := l.end
	if seen, ok := m.o.Metadata.Image().RemotePointer(p.tip); ok && !l.loaded {
		end = max(end, seen.EndOffset) // a new leader has not read the tier yet
	}
	p.mu.Unlock()
	s.View.PendingSegments, s.View.PendingBytes, s.View.OldestUnuploaded = upload.Lag(m.waiting(l, end))
	if !s.View.OldestUnuploaded.IsZero() {
		s.OldestAge = max(now.Sub(s.View.OldestUnuploaded), 0)
	}
	return s, true
}

// Costs is what each topic uses of the store and costs, and when the window began from which a day's requests are told.
func (m *Manager) Costs(now time.Time, p cost.Prices) (rows []cost.Row, since time.Time) {
	var stored []cost.Stored
	for _, s := range m.Status(now) {
		stored = append(stored, cost.Stored{Topic: s.Topic, Bytes: s.View.Bytes, Segments: s.View.Segments})
	}
	return cost.Report(m.o.Ledger, stored, now, p)
}

// Entries yields the entries of a partition from the one that holds from on, oldest first. They must not be
// changed. An error ends the sequence.
func (m *Manager) Entries(ctx context.Context, tip metadata.TopicIDPartition, from int64) iter.Seq2[*manifest.Entry, error] {
	return func(yield func(*manifest.Entry, error) bool) {
		man, err := m.current(ctx, m.partition(tip), false)
		if err != nil {
			yield(nil, err)
			return
		}
		man.Entries(ctx, from)(yield)
	}
}
