package tiering

import "github.com/coldbrook/coldbrook/tiering/manifest"

// A topic that is not tiered any more (KIP-950). remote.storage.enable=false with remote.log.delete.on.disable=true is
// worked off by each partition's leader, whoever that is and after whatever crash, because everything it goes by is
// durable: the topic's configuration and the manifest.
//
//  1. Copies stop: the leadership begins anew, which breaks a copy that is under way off.
//  2. The log start moves to the local log start, durably. What is only in the tier is gone for readers.
//  3. One commit takes all entries out of the manifest and puts their objects on its garbage list. The empty manifest
//     ends at the log start: should the topic be tiered again, copying begins there, with what the local log has, so
//     that no local segment counts as copied whose copy is on that list.
//  4. Housekeeping deletes the objects when their grace has passed, as it does those that retention took out.
//
// The empty root stays, and the pointer to it: names of roots are never used twice. A topic that merely is not tiered,
// without the word to delete, keeps its tier: that happens when brokers run without their store for a while.

// givesUp says whether the partition's tier is to be deleted.
func (m *Manager) givesUp(l *leadership) bool {
	return !l.tiered && !l.Log.Config().RemoteEnabled && m.o.Topic(l.Topic).DeleteOnDisable
}

// startLocally moves the log start to where the local log begins.
func (m *Manager) startLocally(l *leadership) error {
	from, start := l.Log.LogStart(), l.Log.LocalLogStart()
	moved, err := l.startAt(start)
	if moved {
		m.log.Info("remote storage disabled, the log starts where the local log does", "topic", l.Topic,
			"partition", l.TIP.Partition, "epoch", l.Epoch, "from", from, "offset", start)
	}
	return err
}

// skipHole moves the log start over records that are nowhere: an emptied tier that ends before the local log begins.
// It comes about when a tier is given up by a leader whose local log reached further back than this one's.
func (m *Manager) skipHole(l *leadership, r *manifest.Root) error {
	start, local := l.Log.LogStart(), l.Log.LocalLogStart()
	if r.Segments > 0 || local <= max(start, r.EndOffset) {
		return nil
	}
	moved, err := l.startAt(local)
	if moved {
		m.log.Warn("log start moved over records that neither the tier nor this broker has", "topic", l.Topic,
			"partition", l.TIP.Partition, "epoch", l.Epoch, "from", start, "offset", local)
	}
	return err
}
