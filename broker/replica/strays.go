package replica

import (
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment"
)

// fate is what becomes of a partition's directory that is found at the start.
type fate int8

const (
	keep     fate = iota // its partition is opened, or nobody knows it
	setAside             // its name is free for another, its records stay
	remove
)

// sweep deals with what was decided of this broker's partitions while it was away:
// what belongs to topics that were deleted, or lives on elsewhere, is deleted; what
// is in the way of another is put aside. It opens nothing: the logs may be damaged.
// However many there are, each directory is synced once.
func (a *applier) sweep(img *metadata.Image) {
	graves := buried(img)
	for _, d := range a.m.o.Dirs {
		byFate := map[fate][]metadata.TopicPartition{}
		for _, pd := range d.Partitions() {
			f, why := a.fateOf(img, graves, d, pd)
			if why != "" {
				a.m.log.Warn(why, "partition", pd.TopicPartition, "topic_id", pd.TopicID, "dir", d.Path())
			}
			byFate[f] = append(byFate[f], pd.TopicPartition)
		}
		if err := d.DeleteStrays(byFate[remove]); err != nil {
			a.m.log.Error("delete strays", "dir", d.Path(), "err", err)
		}
		if _, err := d.SetAside(byFate[setAside]); err != nil {
			a.m.log.Error("put strays aside", "dir", d.Path(), "err", err)
		}
	}
}

// fateOf decides about a directory, and says what an operator should know. Only what
// the metadata says plainly deletes: losing metadata must not lose data, nor must
// metadata that is older than the disk.
func (a *applier) fateOf(img *metadata.Image, graves map[metadata.TopicID]bool, d *segment.Dir, pd segment.PartitionDir) (fate, string) {
	n := int(pd.TopicPartition.Partition)
	t, lives := img.TopicByID(pd.TopicID)
	named, renewed := img.Topic(pd.TopicPartition.Topic)
	switch {
	case pd.TopicID.IsZero() && renewed && a.placed(named, n):
		return keep, "" // from before there were ids: taken for the topic of that name
	case lives && a.placed(t, n):
		return keep, ""
	case lives && n < len(t.Partitions) && !known(t, n):
		return keep, "state of the partition cannot be read, directory left as it is"
	case lives && n < len(t.Partitions):
		epoch, err := d.StrayEpoch(pd.TopicPartition)
		if err != nil || moved(&t.Partitions[n], epoch) == setAside {
			return setAside, "replica was moved to other brokers, and its log is not older than what the metadata knows of them: put aside"
		}
		return remove, "replica was moved to other brokers meanwhile, deleting it"
	case lives:
		return setAside, "topic has no such partition, directory put aside"
	case graves[pd.TopicID]:
		return remove, ""
	case renewed && !pd.TopicID.IsZero():
		return setAside, "directory belongs to an earlier topic of that name, put aside"
	}
	return keep, "partition directory belongs to no topic of this cluster, left as it is"
}

// moved is the fate of a replica that is to be elsewhere, by the last leader epoch
// of its log. Nobody may have what it has if the metadata is older than it, or knows
// nobody who is in sync.
func moved(p *metadata.Partition, epoch int32) fate {
	if epoch > p.LeaderEpoch || len(p.ISR) == 0 {
		return setAside
	}
	return remove
}

// leaveUnopened deletes a log that did not open, or puts it aside, when its topic was
// deleted or it lives on elsewhere.
func (a *applier) leaveUnopened(img *metadata.Image, id metadata.TopicIDPartition) {
	graves := buried(img)
	for _, d := range a.m.o.Dirs {
		for _, pd := range d.Partitions() {
			if pd.TopicID != id.Topic || pd.TopicPartition.Partition != id.Partition {
				continue
			}
			f, _ := a.fateOf(img, graves, d, pd)
			if f == keep {
				continue
			}
			a.jobs.running.Go(func() {
				tps := []metadata.TopicPartition{pd.TopicPartition}
				err := error(nil)
				if f == remove {
					err = d.DeleteStrays(tps)
				} else {
					_, err = d.SetAside(tps)
				}
				if err != nil {
					a.m.log.Error("delete log that did not open", "partition", pd.TopicPartition, "topic_id", id.Topic, "err", err)
				}
			})
		}
	}
}

// buried are the topics that were deleted and not undeleted.
func buried(img *metadata.Image) map[metadata.TopicID]bool {
	graves := make(map[metadata.TopicID]bool)
	for _, t := range img.Tombstones() {
		if !t.Creating {
			graves[t.Topic.ID] = true
		}
	}
	return graves
}
