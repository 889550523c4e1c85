package metadata

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// An image is as old as its watch is late, and a watch does not say that it is.
// So the store is asked: where it is now is where the image must come to.

const (
	// confirmInterval is how often the store is asked although nobody wants to
	// know: a store that was set back has nothing to tell its watches, and who
	// goes by Confirmed is to find a recent answer.
	confirmInterval = 200 * time.Millisecond
	// confirmTimeout bounds one question.
	confirmTimeout = 2 * time.Second
	// confirmBackoff is the pause after a question that was not answered.
	confirmBackoff = 100 * time.Millisecond
	// eventsGrace is how long events may take before the watch is asked how far it
	// is: the store's last changes may be other keys'.
	eventsGrace = 50 * time.Millisecond
	// watchPatience is how far a watch may be behind before all is read anew.
	watchPatience = 30 * time.Second
)

// errSetBack means that the store is not where it has been: somebody put an older
// state in its place.
var errSetBack = errors.New("the key-value store was set back to an earlier state")

// errLate means that the watch does not come to where the store is.
var errLate = errors.New("the watch is behind the key-value store")

// doubts are those who want to know whether the image is fresh.
type doubts struct {
	wake  chan struct{}             // of capacity 1: somebody waits in next
	fresh atomic.Pointer[time.Time] // the image shows all that was decided before
	// The following are guarded by Store.mu.
	next    chan struct{}   // of the next question; nil: nobody waits for it
	asked   []chan struct{} // of questions that had no answer yet
	seen    int64           // the watch has come so far, though the image has nothing of it
	before  change          // the image's last when the store answered last, or fell silent
	silent  bool            // since then it did not answer
	unwatch context.CancelCauseFunc
}

// Confirmed returns a time before which nothing was decided that the image does
// not show.
func (s *Store) Confirmed() time.Time { return *s.doubts.fresh.Load() }

// Confirm returns a channel that is closed as soon as the image shows all that
// was decided before the call. It needs Run. It never blocks, and many who ask at
// the same time cost one question to the store.
func (s *Store) Confirm() <-chan struct{} {
	s.mu.Lock()
	if s.doubts.next == nil {
		s.doubts.next = make(chan struct{})
	}
	next := s.doubts.next
	s.mu.Unlock()
	select {
	case s.doubts.wake <- struct{}{}:
	default: // the question is about to be asked
	}
	return next
}

// keepConfirmed asks where the store is, when somebody wants to know and now and
// then, until ctx ends.
func (s *Store) keepConfirmed(ctx context.Context) {
	tick := time.NewTicker(confirmInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.doubts.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := s.confirm(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.Debug("metadata image not confirmed", "revision", s.Image().Revision(), "err", err)
		if errors.Is(err, errSetBack) || errors.Is(err, errLate) {
			s.mu.Lock()
			unwatch := s.doubts.unwatch
			s.mu.Unlock()
			unwatch(err)
		}
		select {
		case <-time.After(confirmBackoff):
		case <-ctx.Done():
			return
		}
		s.wakeDoubts()
	}
}

// wakeDoubts has the next question asked if one is without an answer.
func (s *Store) wakeDoubts() {
	s.mu.Lock()
	waiting := s.doubts.next != nil || len(s.doubts.asked) > 0
	s.mu.Unlock()
	if waiting {
		select {
		case s.doubts.wake <- struct{}{}:
		default:
		}
	}
}

// confirm is one question, and the wait for the watch to come to the answer.
func (s *Store) confirm(ctx context.Context) error {
	s.mu.Lock()
	if s.doubts.next != nil {
		s.doubts.asked = append(s.doubts.asked, s.doubts.next)
		s.doubts.next = nil
	}
	answered := len(s.doubts.asked)
	s.mu.Unlock()
	sent := time.Now()
	at, err := s.whereabouts(ctx)
	if err != nil {
		return err
	}
	if err := s.awaitWatch(ctx, at); err != nil {
		return err
	}
	s.doubts.fresh.Store(&sent)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.doubts.asked[:answered] {
		close(ch)
	}
	s.doubts.asked = nil
	return nil
}

// whereabouts returns the store's revision, or errSetBack where its past is not
// the image's. A watch that the client opened again may have brought changes of
// another past already, so the last change from before is looked for too.
func (s *Store) whereabouts(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	im := s.Image()
	s.mu.Lock()
	before := s.doubts.before
	s.mu.Unlock()
	if before.key != "" && before != im.last {
		if _, err := s.stillAt(ctx, before); err != nil {
			return 0, err
		}
	}
	revision, err := s.stillAt(ctx, im.last)
	if err == nil && revision < im.Revision() {
		err = fmt.Errorf("%w: it is at revision %d, the image at %d", errSetBack, revision, im.Revision())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.doubts.before, s.doubts.silent = im.last, false
	case !s.doubts.silent: // what it is at now comes from before the silence
		s.doubts.before, s.doubts.silent = s.Image().last, true
	}
	return revision, err
}

// stillAt returns the store's revision if a change is where it was.
func (s *Store) stillAt(ctx context.Context, last change) (int64, error) {
	start := time.Now()
	resp, err := s.kv.Range(ctx, kv.RangeRequest{Key: last.key, Revision: last.revision})
	compacted := errors.Is(err, kv.ErrCompacted)
	if compacted {
		resp, err = s.kv.Range(ctx, kv.RangeRequest{Key: last.key})
	}
	s.metrics.observe(ctx, "confirm", start, err)
	switch {
	case errors.Is(err, kv.ErrFutureRevision):
		return 0, fmt.Errorf("%w: it has not come to revision %d", errSetBack, last.revision)
	case err != nil:
		return 0, err
	case compacted && (len(resp.KVs) == 0 || resp.KVs[0].ModRevision >= last.revision):
		return resp.Revision, nil // it may have changed since
	case len(resp.KVs) == 0 || resp.KVs[0].ModRevision != last.revision:
		return 0, fmt.Errorf("%w: key %q was not written at revision %d", errSetBack, last.key, last.revision)
	}
	return resp.Revision, nil
}

// awaitWatch returns when the image shows all up to a revision.
func (s *Store) awaitWatch(ctx context.Context, revision int64) error {
	patience := time.NewTimer(watchPatience)
	defer patience.Stop()
	ask := time.NewTimer(eventsGrace)
	defer ask.Stop()
	for {
		s.mu.Lock()
		at, grew := max(s.Image().Revision(), s.doubts.seen), s.grew
		s.mu.Unlock()
		if at >= revision {
			return nil
		}
		select {
		case <-grew:
		case <-ask.C:
			if err := s.kv.RequestProgress(ctx); err != nil {
				s.log.Debug("watch not asked for its progress", "err", err)
			}
			ask.Reset(4 * eventsGrace)
		case <-patience.C:
			return fmt.Errorf("%w: it is at revision %d, the store was at %d %s ago", errLate, at, revision, watchPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sawUpTo notes that nothing that the image shows changed up to a revision.
func (s *Store) sawUpTo(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision > s.doubts.seen {
		s.doubts.seen = revision
		close(s.grew)
		s.grew = make(chan struct{})
	}
}
