package gc

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

// Deletion is the job that deletes those of the keys that are orphans still when it is done.
func (c *Collector) Deletion(p Led, keys []string) Job {
	return func(ctx context.Context, man bucket.Manifest) (bucket.Manifest, error) {
		return c.collectOrphans(ctx, p, man, handover{orphans: keys})
	}
}

// collectOrphans deletes what was found before. It is a job of the partition's pass, so that nothing is being copied.
func (c *Collector) collectOrphans(ctx context.Context, p Led, man bucket.Manifest, h handover) (bucket.Manifest, error) {
	if !p.Ready() {
		return man, fmt.Errorf("the tier of partition %v is not ready, or does not agree with the log: nothing is deleted", p.TopicIDPartition())
	}
	epoch := p.Epoch()
	keys, err := c.stillOrphans(ctx, man, h.orphans, func(n manifest.ObjectName) bool {
		switch {
		case n.Kind == manifest.KindSegment && p.Holds(n.Name):
			return false
		case n.Kind == manifest.KindRoot && n.Epoch == epoch && n.Sequence > man.Pointer.Sequence:
			return false // the next commit may try the name again, and buries it
		case man.Pointer.ModRevision == 0:
			return n.Kind != manifest.KindNode && n.Epoch < epoch // there is no pointer to swap
		}
		return true
	})
	if err != nil {
		return man, err
	}
	if len(keys) > 0 {
		if err := c.ahead(ctx, manifest.PartitionDir(p.Topic(), p.TopicIDPartition()), man.Pointer, epoch, keys); err != nil {
			return man, err
		}
		if man.Pointer.ModRevision != 0 {
			if man, err = p.Confirm(ctx, man); err != nil {
				return man, err
			}
		}
		// After the swap: a root that is not listed now is one that can no longer become the newest.
		if keys, err = c.unprotected(ctx, manifest.PartitionDir(p.Topic(), p.TopicIDPartition()), man, keys); err != nil {
			return man, err
		}
		if err := c.deleteOrphans(ctx, keys); err != nil {
			return man, err
		}
	}
	uploads := slices.DeleteFunc(slices.Clone(h.uploads), func(u object.Upload) bool {
		_, _, n, _ := manifest.ParsePartitionKey(u.Key[len(c.bucket.Prefix):])
		return n.Kind == manifest.KindNode || n.Epoch > epoch // another leader's
	})
	return man, c.abortUploads(ctx, uploads)
}

// errAhead refuses to collect in a partition whose folder knows more than etcd.
var errAhead = errors.New("the bucket knows more of this partition than etcd: was etcd set back? nothing is collected here")

// ahead refuses where the folder has what etcd does not know: roots newer than the pointer, which may name anything, or
// objects of leader epochs that have not been. What the leader of epoch tried itself is excepted: its next commit
// buries that.
func (c *Collector) ahead(ctx context.Context, dir string, pointer metadata.RemotePointer, epoch int32, keys []string) error {
	if err := later(keys, epoch); err != nil {
		return err
	}
	roots, err := c.bucket.Newer(ctx, dir, pointer)
	if err != nil {
		return err
	}
	for _, n := range roots {
		if n.Epoch != epoch {
			return &bucket.ObjectError{Op: "collect", Object: manifest.NodeKey(dir, n.Name), Err: errAhead}
		}
	}
	return nil
}

// later looks for objects of leader epochs that have not been.
func later(keys []string, epoch int32) error {
	for _, key := range keys {
		if _, _, n, _ := manifest.ParsePartitionKey(key); n.Epoch > epoch {
			return &bucket.ObjectError{Op: "collect", Object: key, Err: errAhead}
		}
	}
	return nil
}

// stillOrphans keeps the keys that the manifest does not name and that may accepts.
func (c *Collector) stillOrphans(ctx context.Context, man bucket.Manifest, keys []string, may func(manifest.ObjectName) bool) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	refs, err := c.references(ctx, man)
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

// deleteOrphans deletes roots first, then the rest: whatever a crash leaves, no root in the bucket names what it deleted.
func (c *Collector) deleteOrphans(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	var roots, rest []string
	for _, key := range keys {
		if _, _, n, _ := manifest.ParsePartitionKey(key); n.Kind == manifest.KindRoot {
			roots = append(roots, key)
		} else {
			rest = append(rest, key)
		}
	}
	if err := c.bucket.Remove(ctx, roots); err != nil {
		return err
	}
	if err := c.bucket.Remove(ctx, rest); err != nil {
		return err
	}
	c.state.deleted.Add(ctx, int64(len(keys)))
	c.state.unmark(keys...)
	c.log.Info("orphans deleted", "objects", len(keys), "object", keys[0])
	return nil
}

func (c *Collector) abortUploads(ctx context.Context, uploads []object.Upload) error {
	var errs []error
	for _, u := range uploads {
		if err := c.bucket.Retry(ctx, func(ctx context.Context) error { return c.bucket.Store.Abort(ctx, u) }); err != nil {
			errs = append(errs, bucket.Failed("abort", u.Key, err))
			continue
		}
		c.state.aborted.Add(ctx, 1)
		c.state.unmark(uploadMark(u))
		c.log.Info("abandoned upload aborted", "object", u.Key, "age", time.Since(u.Initiated))
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
func (c *Collector) sweepRest(ctx context.Context, uploads map[string][]object.Upload) error {
	var errs []error
	var parts []leaderless
	var gone []manifest.TopicFolder
	im := c.metadata.Image()
	buried := map[metadata.TopicID]bool{}
	for _, grave := range im.Tombstones() {
		buried[grave.Topic.ID] = true // Purge's
	}
	err := c.eachTopicFolder(ctx, func(f manifest.TopicFolder) {
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
		errs = append(errs, c.listLeaderless(ctx, p, now))
	}
	parts = slices.DeleteFunc(parts, func(p leaderless) bool { return len(p.orphans) == 0 })
	dead := map[string][]string{}
	for _, f := range gone {
		keys, err := c.listGone(ctx, f, now)
		errs = append(errs, err)
		if len(keys) > 0 {
			dead[f.Dir] = keys
		}
	}
	if len(parts)+len(dead)+len(uploads) == 0 {
		return errors.Join(errs...)
	}
	fresh, err := c.metadata.Fresh(ctx) // after the LISTs that it judges
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i := range parts {
		errs = append(errs, c.deleteLeaderless(ctx, fresh, &parts[i]))
	}
	for _, f := range gone {
		if keys := dead[f.Dir]; len(keys) > 0 && !exists(fresh, f.ID) {
			errs = append(errs, c.deleteOrphans(ctx, keys))
		}
	}
	return errors.Join(append(errs, c.abortRest(ctx, fresh, uploads))...)
}

// exists says whether anything is known of a topic: itself or its tombstone.
func exists(im *metadata.Image, id metadata.TopicID) bool {
	if _, ok := im.TopicByID(id); ok {
		return true
	}
	return slices.ContainsFunc(im.Tombstones(), func(g metadata.Tombstone) bool { return g.Topic.ID == id })
}

// eachTopicFolder finds the topics' folders with one LIST request for each: it begins behind the folder before.
func (c *Collector) eachTopicFolder(ctx context.Context, fn func(manifest.TopicFolder)) error {
	for after := ""; ; {
		found := false
		for info, err := range c.bucket.Store.List(ctx, c.bucket.Prefix+manifest.TopicsDir, after) {
			if err != nil {
				return bucket.Failed("list", manifest.TopicsDir, err)
			}
			found = true
			folder, _, _ := strings.Cut(info.Key[len(c.bucket.Prefix)+len(manifest.TopicsDir):], "/")
			if f, _, ok := manifest.ParseTopicKey(info.Key[len(c.bucket.Prefix):]); ok && c.bucket.Prefix+f.Dir > after {
				fn(f)
			}
			// Behind all names that we give; names of others may come after it.
			after = max(info.Key, c.bucket.Prefix+manifest.TopicsDir+folder+"/~")
			break
		}
		if !found {
			return nil
		}
	}
}

// listLeaderless finds what is due in the folder of a partition that nobody leads.
func (c *Collector) listLeaderless(ctx context.Context, p *leaderless, now time.Time) error {
	man, err := c.bucket.Open(ctx, p.tip, p.pointer)
	if err != nil {
		return err
	}
	for d, err := range c.audit(ctx, p.dir, c.bucket.Uncached(man)) {
		if err != nil {
			return err
		}
		if d.kind == unnamed && c.state.due(d.key, d.modified, now, c.o.Grace) && len(p.orphans) < maxHandover {
			p.orphans = append(p.orphans, d.key)
		}
	}
	return nil
}

// deleteLeaderless deletes what earlier leaders left. fresh was read after the LIST.
func (c *Collector) deleteLeaderless(ctx context.Context, fresh *metadata.Image, p *leaderless) error {
	now, ok := fresh.PartitionByID(p.tip)
	pointer, _ := fresh.RemotePointer(p.tip)
	if !ok || now.Leader != metadata.NoBroker || pointer.ModRevision != p.pointer.ModRevision {
		return nil // another round
	}
	man, err := c.bucket.Open(ctx, p.tip, pointer)
	if err != nil {
		return err
	}
	keys, err := c.stillOrphans(ctx, man, p.orphans, func(n manifest.ObjectName) bool {
		return n.Kind == manifest.KindNode && pointer.ModRevision != 0 || n.Kind != manifest.KindNode && n.Epoch != now.LeaderEpoch
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if err := c.ahead(ctx, p.dir, pointer, now.LeaderEpoch, keys); err != nil {
		return err
	}
	if pointer.ModRevision != 0 {
		bounded, cancel := context.WithTimeout(ctx, etcdLimit)
		_, err := c.metadata.SwapRemotePointer(bounded, p.tip, pointer, now.LeaderEpoch, pointer)
		cancel()
		if err != nil {
			return err
		}
	}
	if keys, err = c.unprotected(ctx, p.dir, man, keys); err != nil {
		return err
	}
	return c.deleteOrphans(ctx, keys)
}

// listGone finds what is due in the folder of a topic that is not in etcd.
func (c *Collector) listGone(ctx context.Context, f manifest.TopicFolder, now time.Time) ([]string, error) {
	_, err := c.bucket.Head(ctx, f.Dir+manifest.TopicFile)
	switch {
	case err == nil:
		c.log.Warn("a topic is in the bucket and not in etcd, its objects stay", "topic", f.Name, "topic_id", f.ID)
		return nil, nil
	case !errors.Is(err, object.ErrNotFound):
		return nil, bucket.Failed("head", f.Dir+manifest.TopicFile, err)
	}
	var keys []string
	for info, err := range c.bucket.List(ctx, f.Dir) {
		if err != nil {
			return nil, err
		}
		key := info.Key
		_, _, n, ok := manifest.ParsePartitionKey(key)
		if ok && n.Kind != manifest.KindForeign && c.state.due(key, info.Modified, now, c.o.Grace) && len(keys) < maxHandover {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// abortRest aborts uploads that no leader will: of topics that are gone, and of former leader epochs.
func (c *Collector) abortRest(ctx context.Context, fresh *metadata.Image, uploads map[string][]object.Upload) error {
	var dead []object.Upload
	for _, list := range uploads {
		for _, u := range list {
			_, tip, n, _ := manifest.ParsePartitionKey(u.Key[len(c.bucket.Prefix):])
			p, ok := fresh.PartitionByID(tip)
			if !ok && !exists(fresh, tip.Topic) || ok && n.Kind == manifest.KindSegment && n.Epoch < p.LeaderEpoch {
				dead = append(dead, u)
			}
		}
	}
	return c.abortUploads(ctx, dead)
}
