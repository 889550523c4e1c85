package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// orphans reports the orphans of one partition. A repair deletes those that this broker may delete and that it first
// saw a grace period ago.
func (f *fsck) orphans(ctx context.Context, tip metadata.TopicIDPartition, all []Problem) {
	if len(all) == 0 {
		return
	}
	var why string
	var due []string
	taken := map[string]bool{}
	if f.o.Repair {
		for i := range all {
			if f.c.state.due(all[i].Object, f.now.Add(-time.Duration(all[i].AgeMs)*time.Millisecond), time.Now(), f.c.o.Grace) && len(due) < fsckRepairLimits {
				due = append(due, all[i].Object)
				taken[all[i].Object] = true
			}
		}
		if len(due) > 0 {
			why = f.c.deleteDue(ctx, tip, due)
		}
	}
	for i := range all {
		p := &all[i]
		switch {
		case !f.o.Repair:
		case !taken[p.Object]:
			p.Action = fmt.Sprintf("left: it goes when this broker has known it for %v", f.c.o.Grace)
		case why != "":
			p.Action = why
		default:
			_, err := f.c.bucket.Head(ctx, p.Object)
			if p.Repaired = errors.Is(err, object.ErrNotFound); p.Repaired {
				p.Action = "deleted"
			} else {
				p.Action = "left: the current leader may still name it"
			}
		}
		f.report(*p)
	}
}

// deleteDue deletes orphans of a partition by the rules of the collector. It returns why it did not.
func (c *Collector) deleteDue(ctx context.Context, tip metadata.TopicIDPartition, keys []string) string {
	fresh, err := c.metadata.Fresh(ctx)
	if err != nil {
		return "not deleted: " + err.Error()
	}
	state, ok := fresh.PartitionByID(tip)
	if !ok {
		return "left: its topic is deleted, the purge takes it"
	}
	if state.Leader == metadata.NoBroker {
		pointer, _ := fresh.RemotePointer(tip)
		t, _ := fresh.TopicByID(tip.Topic)
		p := leaderless{tip: tip, dir: manifest.PartitionDir(t.Name, tip), pointer: pointer, orphans: keys}
		if err := c.deleteLeaderless(ctx, fresh, &p); err != nil {
			return "not deleted: " + err.Error()
		}
		return ""
	}
	p := c.o.Partitions.Find(tip)
	if p == nil {
		return fmt.Sprintf("left to broker %d, which leads the partition", state.Leader)
	}
	err = p.Do(ctx, c.Deletion(p, keys))
	if err != nil {
		return "not deleted: " + err.Error()
	}
	return ""
}

// strays looks at folders of topics that etcd does not know.
func (f *fsck) strays(ctx context.Context) error {
	c := f.c
	var folders []manifest.TopicFolder
	err := c.eachTopicFolder(ctx, func(t manifest.TopicFolder) { folders = append(folders, t) })
	fresh, ferr := c.metadata.Fresh(ctx)
	if err != nil || ferr != nil {
		return errors.Join(err, ferr)
	}
	for _, t := range folders {
		if exists(fresh, t.ID) {
			continue
		}
		if err := f.stray(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (f *fsck) stray(ctx context.Context, t manifest.TopicFolder) error {
	c := f.c
	tip := metadata.TopicIDPartition{Topic: t.ID, Partition: -1}
	_, err := c.bucket.Head(ctx, t.Dir+manifest.TopicFile)
	if err == nil {
		p := newProblem(ProblemUnknown, t.Name, tip, t.Dir)
		p.Detail = "in the bucket and not in etcd; `coldbrook topic recover` brings it back"
		f.report(p)
		return nil
	}
	if !errors.Is(err, object.ErrNotFound) {
		return bucket.Failed("head", t.Dir+manifest.TopicFile, err)
	}
	var orphans []Problem
	var due []string
	taken := map[string]bool{}
	for info, err := range c.bucket.List(ctx, t.Dir) {
		if err != nil {
			return err
		}
		key := info.Key
		_, part, n, ok := manifest.ParsePartitionKey(key)
		p := newProblem(ProblemOrphan, t.Name, tip, key)
		p.Size = info.Size
		switch age := f.now.Sub(info.Modified); {
		case !ok || n.Kind == manifest.KindForeign:
			p.Kind = ProblemForeign
		case age < c.o.Grace:
			f.sum.Young++
			continue
		default:
			p.Partition, p.AgeMs = part.Partition, age.Milliseconds()
			if f.o.Repair && c.state.due(key, info.Modified, time.Now(), c.o.Grace) && len(due) < fsckRepairLimits {
				due = append(due, key)
				taken[key] = true
			}
		}
		orphans = append(orphans, p)
	}
	var failed error
	if len(due) > 0 {
		fresh, err := c.metadata.Fresh(ctx) // after the LIST
		switch {
		case err != nil:
			return err
		case exists(fresh, t.ID):
			clear(taken)
		default:
			failed = c.deleteOrphans(ctx, due)
		}
	}
	for _, p := range orphans {
		switch {
		case !f.o.Repair || p.Kind == ProblemForeign:
		case !taken[p.Object]:
			p.Action = fmt.Sprintf("left: it goes when this broker has known it for %v", c.o.Grace)
		case failed != nil:
			p.Action = "not deleted: " + failed.Error()
		default:
			p.Repaired, p.Action = true, "deleted"
		}
		f.report(p)
	}
	return nil
}

// uploads reports multipart uploads that nobody has ended for the grace period. The collector aborts them.
func (f *fsck) uploads(ctx context.Context) error {
	c := f.c
	for u, err := range c.bucket.Store.Uploads(ctx, c.bucket.Prefix+manifest.TopicsDir) {
		if err != nil {
			return bucket.Failed("list uploads", manifest.TopicsDir, err)
		}
		t, _, ok := manifest.ParseTopicKey(u.Key[len(c.bucket.Prefix):])
		age := f.now.Sub(u.Initiated)
		if !ok || age < c.o.Grace {
			f.sum.Young++
			continue
		}
		_, tip, _, ok := manifest.ParsePartitionKey(u.Key[len(c.bucket.Prefix):])
		if !ok {
			tip = metadata.TopicIDPartition{Topic: t.ID, Partition: -1}
		}
		p := newProblem(ProblemUpload, t.Name, tip, u.Key[len(c.bucket.Prefix):])
		p.AgeMs = age.Milliseconds()
		if f.o.Repair {
			p.Action = "left: the collector aborts it"
		}
		f.report(p)
	}
	return nil
}
