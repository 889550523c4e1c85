package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// collectOrphans deletes what was found before. It is a job of the partition's pass, so that nothing is being copied.
func (m *Manager) collectOrphans(ctx context.Context, p *partition, l *leadership, man bucket.Manifest, h handover) (bucket.Manifest, error) {
	held := map[string]bool{}
	for i := range l.ready {
		held[l.ready[i].Object] = true
	}
	keys, err := m.stillOrphans(ctx, man, h.orphans, func(n manifest.ObjectName) bool {
		switch {
		case n.Kind == manifest.KindSegment && held[n.Name]:
			return false
		case n.Kind == manifest.KindRoot && n.Epoch == l.epoch && n.Sequence > man.Pointer.Sequence:
			return false // the next commit may try the name again, and buries it
		case man.Pointer.ModRevision == 0:
			return n.Kind != manifest.KindNode && n.Epoch < l.epoch // there is no pointer to swap
		}
		return true
	})
	if err != nil {
		return man, err
	}
	if len(keys) > 0 {
		if err := ahead(keys, l.epoch); err != nil {
			return man, err
		}
		if man.Pointer.ModRevision != 0 {
			swapped, err := m.swap(ctx, p, man.Pointer, l.epoch, man.Pointer)
			if errors.Is(err, metadata.ErrFenced) {
				p.fence(l)
				err = fmt.Errorf("%w: %w", ErrNotLeader, err)
			}
			if err != nil {
				p.unload(l)
				return man, fmt.Errorf("swap the pointer for itself: %w", err)
			}
			p.setPointer(swapped)
			man.Pointer = swapped
		}
		if err := m.deleteOrphans(ctx, keys); err != nil {
			return man, err
		}
	}
	uploads := slices.DeleteFunc(slices.Clone(h.uploads), func(u object.Upload) bool {
		_, _, n, _ := manifest.ParsePartitionKey(u.Key[len(m.bucket.Prefix):])
		return n.Kind == manifest.KindNode || n.Epoch > l.epoch // another leader's
	})
	return man, m.abortUploads(ctx, uploads)
}

// errAhead refuses to collect in a partition whose folder knows more than etcd.
var errAhead = errors.New("the bucket has objects of a later leader epoch than etcd: was etcd set back? nothing is collected here")

// ahead looks for objects of leader epochs that have not been.
func ahead(keys []string, epoch int32) error {
	for _, key := range keys {
		if _, _, n, _ := manifest.ParsePartitionKey(key); n.Epoch > epoch {
			return &bucket.ObjectError{Op: "collect", Object: key, Err: errAhead}
		}
	}
	return nil
}

// stillOrphans keeps the keys that the manifest does not name and that may accepts.
func (m *Manager) stillOrphans(ctx context.Context, man bucket.Manifest, keys []string, may func(manifest.ObjectName) bool) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	refs, err := m.references(ctx, man)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, key := range keys {
		_, _, n, ok := manifest.ParsePartitionKey(key)
		if !ok || n.Kind == manifest.KindForeign || !may(n) {
			continue
		}
		there, err := refs.names(ctx, n)
		if err != nil {
			return nil, err
		}
		if !there {
			out = append(out, key)
		}
	}
	return out, nil
}

func (m *Manager) deleteOrphans(ctx context.Context, keys []string) error {
	if err := m.bucket.Remove(ctx, keys); err != nil {
		return err
	}
	m.gc.deleted.Add(ctx, int64(len(keys)))
	m.gc.unmark(keys...)
	m.log.Info("orphans deleted", "objects", len(keys), "object", keys[0])
	return nil
}

func (m *Manager) abortUploads(ctx context.Context, uploads []object.Upload) error {
	var errs []error
	for _, u := range uploads {
		if err := m.bucket.Retry(ctx, func(ctx context.Context) error { return m.bucket.Store.Abort(ctx, u) }); err != nil {
			errs = append(errs, bucket.Failed("abort", u.Key, err))
			continue
		}
		m.gc.aborted.Add(ctx, 1)
		m.gc.unmark(uploadMark(u))
		m.log.Info("abandoned upload aborted", "object", u.Key, "age", time.Since(u.Initiated))
	}
	return errors.Join(errs...)
}

// leaderless is a partition that nobody leads, with what a round found in its folder.
type leaderless struct {
	tip     metadata.TopicIDPartition
	dir     string
	pointer metadata.RemotePointer // when the LIST began
	orphans []string
}

// sweepRest is the collector's share of a round: partitions without a leader, and folders of topics that are gone.
func (m *Manager) sweepRest(ctx context.Context, uploads map[string][]object.Upload) error {
	var errs []error
	var parts []leaderless
	var gone []manifest.TopicFolder
	im := m.o.Metadata.Image()
	buried := map[metadata.TopicID]bool{}
	for _, grave := range im.Tombstones() {
		buried[grave.Topic.ID] = true // Purge's
	}
	err := m.eachTopicFolder(ctx, func(f manifest.TopicFolder) {
		t, ok := im.TopicByID(f.ID)
		switch {
		case buried[f.ID]:
		case !ok:
			gone = append(gone, f)
		default:
			for n := range t.Partitions {
				if t.Partitions[n].Leader == metadata.NoBroker {
					tip := metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}
					parts = append(parts, leaderless{tip: tip, dir: manifest.PartitionDir(t.Name, tip)})
				}
			}
		}
	})
	errs = append(errs, err)
	now := time.Now()
	for i := range parts {
		p := &parts[i]
		p.pointer, _ = im.RemotePointer(p.tip)
		errs = append(errs, m.listLeaderless(ctx, p, now))
	}
	parts = slices.DeleteFunc(parts, func(p leaderless) bool { return len(p.orphans) == 0 })
	dead := map[string][]string{}
	for _, f := range gone {
		keys, err := m.listGone(ctx, f, now)
		errs = append(errs, err)
		if len(keys) > 0 {
			dead[f.Dir] = keys
		}
	}
	if len(parts)+len(dead)+len(uploads) == 0 {
		return errors.Join(errs...)
	}
	fresh, err := m.o.Metadata.Fresh(ctx) // after the LISTs that it judges
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i := range parts {
		errs = append(errs, m.deleteLeaderless(ctx, fresh, &parts[i]))
	}
	for _, f := range gone {
		if keys := dead[f.Dir]; len(keys) > 0 && !exists(fresh, f.ID) {
			errs = append(errs, m.deleteOrphans(ctx, keys))
		}
	}
	return errors.Join(append(errs, m.abortRest(ctx, fresh, uploads))...)
}

// exists says whether anything is known of a topic: itself or its tombstone.
func exists(im *metadata.Image, id metadata.TopicID) bool {
	if _, ok := im.TopicByID(id); ok {
		return true
	}
	return slices.ContainsFunc(im.Tombstones(), func(g metadata.Tombstone) bool { return g.Topic.ID == id })
}

// eachTopicFolder finds the topics' folders with one LIST request for each: it begins behind the folder before.
func (m *Manager) eachTopicFolder(ctx context.Context, fn func(manifest.TopicFolder)) error {
	for after := ""; ; {
		found := false
		for info, err := range m.bucket.Store.List(ctx, m.bucket.Prefix+manifest.TopicsDir, after) {
			if err != nil {
				return bucket.Failed("list", manifest.TopicsDir, err)
			}
			found = true
			folder, _, _ := strings.Cut(info.Key[len(m.bucket.Prefix)+len(manifest.TopicsDir):], "/")
			if f, _, ok := manifest.ParseTopicKey(info.Key[len(m.bucket.Prefix):]); ok && m.bucket.Prefix+f.Dir > after {
				fn(f)
			}
			// Behind all names that we give; names of others may come after it.
			after = max(info.Key, m.bucket.Prefix+manifest.TopicsDir+folder+"/~")
			break
		}
		if !found {
			return nil
		}
	}
}

// listLeaderless finds what is due in the folder of a partition that nobody leads.
func (m *Manager) listLeaderless(ctx context.Context, p *leaderless, now time.Time) error {
	man, err := m.bucket.Open(ctx, p.tip, p.pointer)
	if err != nil {
		return err
	}
	for d, err := range m.audit(ctx, p.dir, m.bucket.Uncached(man)) {
		if err != nil {
			return err
		}
		if d.kind == unnamed && m.gc.due(d.key, d.modified, now, m.o.Grace) && len(p.orphans) < maxHandover {
			p.orphans = append(p.orphans, d.key)
		}
	}
	return nil
}

// deleteLeaderless deletes what earlier leaders left. fresh was read after the LIST.
func (m *Manager) deleteLeaderless(ctx context.Context, fresh *metadata.Image, p *leaderless) error {
	now, ok := fresh.PartitionByID(p.tip)
	pointer, _ := fresh.RemotePointer(p.tip)
	if !ok || now.Leader != metadata.NoBroker || pointer.ModRevision != p.pointer.ModRevision {
		return nil // another round
	}
	man, err := m.bucket.Open(ctx, p.tip, pointer)
	if err != nil {
		return err
	}
	keys, err := m.stillOrphans(ctx, man, p.orphans, func(n manifest.ObjectName) bool {
		return n.Kind == manifest.KindNode && pointer.ModRevision != 0 || n.Kind != manifest.KindNode && n.Epoch != now.LeaderEpoch
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if err := ahead(keys, now.LeaderEpoch); err != nil {
		return err
	}
	if pointer.ModRevision != 0 {
		bounded, cancel := context.WithTimeout(ctx, etcdLimit)
		_, err := m.o.Metadata.SwapRemotePointer(bounded, p.tip, pointer, now.LeaderEpoch, pointer)
		cancel()
		if err != nil {
			return err
		}
	}
	return m.deleteOrphans(ctx, keys)
}

// listGone finds what is due in the folder of a topic that is not in etcd.
func (m *Manager) listGone(ctx context.Context, f manifest.TopicFolder, now time.Time) ([]string, error) {
	_, err := m.bucket.Store.Head(ctx, m.bucket.Prefix+f.Dir+"topic.json")
	switch {
	case err == nil:
		m.log.Warn("a topic is in the bucket and not in etcd, its objects stay", "topic", f.Name, "topic_id", f.ID)
		return nil, nil
	case !errors.Is(err, object.ErrNotFound):
		return nil, bucket.Failed("head", f.Dir+"topic.json", err)
	}
	var keys []string
	for info, err := range m.bucket.Store.List(ctx, m.bucket.Prefix+f.Dir, "") {
		if err != nil {
			return nil, bucket.Failed("list", f.Dir, err)
		}
		key := info.Key[len(m.bucket.Prefix):]
		_, _, n, ok := manifest.ParsePartitionKey(key)
		if ok && n.Kind != manifest.KindForeign && m.gc.due(key, info.Modified, now, m.o.Grace) && len(keys) < maxHandover {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// abortRest aborts uploads that no leader will: of topics that are gone, and of former leader epochs.
func (m *Manager) abortRest(ctx context.Context, fresh *metadata.Image, uploads map[string][]object.Upload) error {
	var dead []object.Upload
	for _, list := range uploads {
		for _, u := range list {
			_, tip, n, _ := manifest.ParsePartitionKey(u.Key[len(m.bucket.Prefix):])
			p, ok := fresh.PartitionByID(tip)
			if !ok && !exists(fresh, tip.Topic) || ok && n.Kind == manifest.KindSegment && n.Epoch < p.LeaderEpoch {
				dead = append(dead, u)
			}
		}
	}
	return m.abortUploads(ctx, dead)
}
