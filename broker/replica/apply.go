package replica

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
)

// sessionCheck is how soon the Image is looked at again while it shows this
// broker under a registration that [Options].Session does not give yet.
const sessionCheck = 20 * time.Millisecond

// applier follows the Image: one goroutine, the only one that changes the view
// and the states of partitions. Applying an Image costs what changed in it, and
// nothing that waits for a disk: see jobs.
type applier struct {
	m          *Manager
	recoveries errgroup.Group
	jobs       *jobs

	image        *metadata.Image // applied last
	registration int64           // with it
	configs      map[metadata.TopicID]TopicConfig
	stopped      map[metadata.TopicIDPartition]*Partition // of topics that the Image lost
	undone       map[metadata.TopicIDPartition]struct{}   // to be tried again after RetryInterval
	busy         map[metadata.TopicIDPartition]struct{}   // left alone until a job is done
	leaving      map[metadata.TopicPartition]*leaving     // nobody else has the name
	opened       map[metadata.TopicIDPartition]opening    // not in the view yet
}

func newApplier(m *Manager) *applier {
	return &applier{
		m: m, jobs: newJobs(), configs: make(map[metadata.TopicID]TopicConfig),
		stopped: make(map[metadata.TopicIDPartition]*Partition), undone: make(map[metadata.TopicIDPartition]struct{}),
		busy: make(map[metadata.TopicIDPartition]struct{}), leaving: make(map[metadata.TopicPartition]*leaving),
		opened: make(map[metadata.TopicIDPartition]opening),
	}
}

// followImage applies each new Image until ctx ends.
func (m *Manager) followImage(ctx context.Context) error {
	a := newApplier(m)
	defer func() { _ = a.recoveries.Wait() }() // they return no errors
	defer a.jobs.wait()
	changed, stop := m.o.Metadata.Watch()
	defer stop()
	retry := time.NewTicker(m.o.RetryInterval)
	defer retry.Stop()
	session := time.NewTimer(sessionCheck)
	defer session.Stop()
	img := m.o.Metadata.Image()
	a.sweep(img)
	a.apply(ctx, img, a.everything(img))
	for starting := true; ; {
		if starting && len(a.busy) == 0 {
			starting = false
			close(m.ready)
		}
		if _, shown := a.image.Broker(m.o.Broker); shown && a.registration < 0 {
			session.Reset(sessionCheck)
		}
		img = a.image
		var todo map[metadata.TopicIDPartition]struct{}
		select {
		case <-changed:
			img = m.o.Metadata.Image()
			todo = a.changes(img)
		case <-m.reconfigured:
			img = m.o.Metadata.Image()
			clear(a.configs)
			todo = a.everything(img)
		case <-session.C:
			if m.registration(img) == a.registration {
				continue
			}
		case <-a.jobs.wake:
			todo = a.finish()
		case <-retry.C:
			a.leaveAgain()
			if len(a.undone) == 0 {
				continue
			}
			todo = maps.Clone(a.undone)
		case <-ctx.Done():
			return nil
		}
		a.apply(ctx, img, todo)
	}
}

// registration is the broker epoch under which this broker may lead, -1 for none:
// never that of a former run, which may have lost what others have seen of it.
func (m *Manager) registration(img *metadata.Image) int64 {
	self, ok := img.Broker(m.o.Broker)
	if !ok || m.o.Session == nil {
		return -1
	}
	if s := m.o.Session(); s == nil || s.Epoch != self.Epoch {
		return -1
	}
	return self.Epoch
}

// everything is what the Image places here and what is here.
func (a *applier) everything(img *metadata.Image) map[metadata.TopicIDPartition]struct{} {
	todo := make(map[metadata.TopicIDPartition]struct{})
	for _, t := range img.Topics() {
		for n := range t.Partitions {
			if a.placed(t, n) {
				todo[metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}] = struct{}{}
			}
		}
	}
	v := a.m.view.Load()
	for id := range v.byID {
		todo[id] = struct{}{}
	}
	for id := range v.failed {
		todo[id] = struct{}{}
	}
	return todo
}

// placed says whether the Image places a partition here.
func (a *applier) placed(t *metadata.Topic, n int) bool {
	return n < len(t.Partitions) && slices.Contains(t.Partitions[n].Replicas, a.m.o.Broker)
}

// known says whether the Image knows a partition's state: it may have none, where
// the value of it cannot be read.
func known(t *metadata.Topic, n int) bool {
	return n < len(t.Partitions) && t.Partitions[n].ModRevision != 0
}

// changes are the partitions that img and the Image applied last show differently.
func (a *applier) changes(img *metadata.Image) map[metadata.TopicIDPartition]struct{} {
	todo := make(map[metadata.TopicIDPartition]struct{})
	add := func(t *metadata.Topic, all bool, old *metadata.Topic) {
		for n := range t.Partitions {
			if !all && old != nil && n < len(old.Partitions) && old.Partitions[n].ModRevision == t.Partitions[n].ModRevision {
				continue
			}
			todo[metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}] = struct{}{}
		}
	}
	for c := range img.ChangedTopics(a.image) {
		if c.New != nil {
			add(c.New, false, c.Old)
		} else {
			add(c.Old, true, nil)
			delete(a.configs, c.ID)
		}
	}
	for name := range img.ChangedTopicConfigs(a.image) {
		if t, ok := img.Topic(name); ok {
			delete(a.configs, t.ID)
			add(t, true, nil)
		}
	}
	return todo
}

// apply makes the partitions of todo what the Image says. One that cannot be
// opened, or does not become what it should, is tried again after RetryInterval.
func (a *applier) apply(ctx context.Context, img *metadata.Image, todo map[metadata.TopicIDPartition]struct{}) {
	brokers := a.image == nil || !sameBrokers(a.image.Brokers(), img.Brokers())
	if r := a.m.registration(img); r != a.registration {
		a.registration, todo = r, a.everything(img)
	}
	a.image = img
	want := a.wanted(img, todo)
	next := edit(a.m.view.Load())
	failed := a.takeOpened(next)
	defer func() {
		for id := range failed {
			a.m.suspect(id)
		}
	}()
	a.stopMissing(img, next, todo)
	a.openMissing(ctx, next, want, failed)
	a.m.view.Store(next.view)
	for id := range todo {
		w, ok := want[id]
		p := next.byID[id]
		_, busy := a.busy[id]
		if next.failed[id] != nil {
			a.m.suspect(id)
		}
		switch {
		case busy: // looked at again when the job is done
		case !ok && p == nil:
			delete(a.undone, id)
		case !ok: // without a configuration
			a.undone[id] = struct{}{}
		case p != nil && !a.held(p, w):
			a.settle(ctx, p, w)
		}
	}
	if brokers {
		// A follower that died is not waited for any more, wherever it was.
		for _, p := range next.byID {
			if s := p.state.Load(); s.leading && len(s.Replicas) > 1 {
				p.advance()
			}
		}
	}
	a.m.applied.broadcast()
}

func sameBrokers(a, b []metadata.Broker) bool {
	return slices.EqualFunc(a, b, func(a, b metadata.Broker) bool {
		return a.ID == b.ID && a.Epoch == b.Epoch && a.Draining == b.Draining
	})
}

// viewEdit is a view that becomes another at the first change.
type viewEdit struct {
	*view
	own bool
}

func edit(v *view) *viewEdit { return &viewEdit{view: v} }

func (e *viewEdit) change() {
	if !e.own {
		e.view = &view{byID: maps.Clone(e.byID), failed: maps.Clone(e.failed)}
		if e.byID == nil {
			e.byID = make(map[metadata.TopicIDPartition]*Partition)
		}
		if e.failed == nil {
			e.failed = make(map[metadata.TopicIDPartition]error)
		}
		e.own = true
	}
}

func (e *viewEdit) put(id metadata.TopicIDPartition, p *Partition) {
	e.change()
	e.byID[id] = p
	delete(e.failed, id)
}

func (e *viewEdit) drop(id metadata.TopicIDPartition) {
	if e.byID[id] != nil || e.failed[id] != nil {
		e.change()
		delete(e.byID, id)
		delete(e.failed, id)
	}
}

func (e *viewEdit) fail(id metadata.TopicIDPartition, err error) {
	e.change()
	e.failed[id] = err
}

// wanted is one partition the Image places here.
type wanted struct {
	topic  *metadata.Topic
	number int32
	config TopicConfig
}

// wanted are those of todo that the Image places here.
func (a *applier) wanted(img *metadata.Image, todo map[metadata.TopicIDPartition]struct{}) map[metadata.TopicIDPartition]wanted {
	want := make(map[metadata.TopicIDPartition]wanted)
	for id := range todo {
		t, ok := img.TopicByID(id.Topic)
		if !ok || !a.placed(t, int(id.Partition)) {
			continue
		}
		if cfg, ok := a.config(img, t); ok {
			want[id] = wanted{topic: t, number: id.Partition, config: cfg}
		}
	}
	return want
}

// config resolves a topic's configuration once, until it changes.
func (a *applier) config(img *metadata.Image, t *metadata.Topic) (TopicConfig, bool) {
	if cfg, ok := a.configs[t.ID]; ok {
		return cfg, true
	}
	cfg, err := a.m.o.TopicConfig(img.TopicConfig(t.Name))
	if err != nil {
		a.m.log.Error("topic configuration invalid, using defaults", "topic", t.Name, "err", err)
		if cfg, err = a.m.o.TopicConfig(nil); err != nil {
			a.m.log.Error("default topic configuration invalid", "err", err)
			return TopicConfig{}, false
		}
	}
	if !cfg.Log.RemoteEnabled && !cfg.LeavesTier && inTier(img, t) {
		a.m.log.Error("topic is configured without remote storage but the tier has its records: it stays tiered; "+
			"set remote.storage.enable=false,remote.log.delete.on.disable=true to delete them", "topic", t.Name)
		cfg.Log.RemoteEnabled = true
	}
	a.configs[t.ID] = cfg
	return cfg, true
}

// inTier says whether the tier has records of the topic. A log that is opened
// without its tier starts where the local segments do: what an old version, a
// changed default or a bad value says of remote.storage.enable must not do that.
func inTier(img *metadata.Image, t *metadata.Topic) bool {
	for n := range t.Partitions {
		p, ok := img.RemotePointer(metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)})
		if ok && p.EndOffset > p.StartOffset {
			return true
		}
	}
	return false
}

// stopMissing stops partitions that the Image no longer places here. Their files go
// when the topic was deleted or lives on elsewhere; they stay when the Image has
// lost the topic, or the partition of it, and nothing says why.
func (a *applier) stopMissing(img *metadata.Image, v *viewEdit, todo map[metadata.TopicIDPartition]struct{}) {
	lost := false
	for id := range todo {
		t, lives := img.TopicByID(id.Topic)
		if lives && a.placed(t, int(id.Partition)) {
			continue
		}
		p, unopened := v.byID[id], v.failed[id] != nil
		v.drop(id)
		if p == nil {
			if unopened {
				a.leaveUnopened(img, id)
			}
			continue
		}
		a.stop(p, lives)
		if lives && known(t, int(id.Partition)) {
			a.leave(p, moved(&t.Partitions[id.Partition], p.log.LatestEpoch()))
		} else {
			a.stopped[id], lost = p, true
		}
	}
	a.buryStopped(img, lost)
}

// buryStopped deletes what is left of topics that the Image lost, once it says
// that they were deleted; or leaves them, with a complaint.
func (a *applier) buryStopped(img *metadata.Image, lost bool) {
	if len(a.stopped) == 0 {
		return
	}
	graves := buried(img)
	for id, p := range a.stopped {
		t, lives := img.TopicByID(id.Topic)
		_, renewed := img.Topic(p.tp.Topic)
		switch {
		case lives && a.placed(t, int(id.Partition)): // openMissing takes it back
		case lives && known(t, int(id.Partition)):
			a.leave(p, moved(&t.Partitions[id.Partition], p.log.LatestEpoch()))
			delete(a.stopped, id)
		case !lives && graves[id.Topic]:
			a.leave(p, remove)
			delete(a.stopped, id)
		case !lives && renewed:
			a.leave(p, setAside)
			delete(a.stopped, id)
		case lost:
			a.m.log.Error("partition left the metadata without being deleted, its files stay", "partition", p.tp, "topic_id", id.Topic)
		}
	}
}
