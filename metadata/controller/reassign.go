package controller

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// Why Reassign changes nothing.
var (
	ErrNoReassignment  = errors.New("no reassignment in progress")
	ErrInvalidReplicas = errors.New("invalid replicas")
)

// Reassign returns the change that begins to move a partition to the target
// replicas, the preferred leader first, or, without a target, that gives up the
// move in progress (KIP-455). A new target replaces one that is worked on:
// replicas that only that one added go at once. Where nothing is to be copied
// the move is complete with this change; else Plan completes it when all of the
// target is in sync. The change may turn out to change nothing.
//
// Errors: metadata.ErrUnknownPartition, ErrNoReassignment, ErrInvalidReplicas,
// also where no in-sync replica would remain.
func Reassign(im *metadata.Image, t *metadata.Topic, partition int32, target []metadata.BrokerID) (metadata.PartitionChange, error) {
	p, err := partitionOf(t, partition)
	if err == nil {
		p, err = reassigned(im, p, target)
	}
	if err != nil {
		return metadata.PartitionChange{}, fmt.Errorf("reassign %s-%d: %w", t.Name, partition, err)
	}
	from := t.Partitions[partition]
	return change(t, int(partition), decider{im: im, created: t.Created}.decide(from, p)), nil
}

// reassigned is the partition with another target.
func reassigned(im *metadata.Image, p metadata.Partition, target []metadata.BrokerID) (metadata.Partition, error) {
	to := p
	origin := without(p.Replicas, p.Adding) // what there was before a move in progress
	switch {
	case target == nil && !p.Reassigning():
		return p, ErrNoReassignment
	case p.Restored():
		return p, fmt.Errorf("%w: the partition was restored, and its replicas %v are still to say what they have", ErrInvalidReplicas, p.Replicas)
	case target == nil:
		to.Replicas, to.Adding, to.Removing = origin, nil, nil
	default:
		if err := checkTarget(im, target, p.Replicas); err != nil {
			return p, err
		}
		to.Adding, to.Removing = orNil(without(target, origin)), orNil(without(origin, target))
		to.Replicas = slices.Concat(target, to.Removing)
	}
	to.ISR = keep(p.ISR, func(id metadata.BrokerID) bool { return slices.Contains(to.Replicas, id) })
	if len(to.ISR) == 0 && len(p.ISR) > 0 {
		return p, fmt.Errorf("%w: all in-sync replicas %v are among those that were being added and would go", ErrInvalidReplicas, p.ISR)
	}
	return to, nil
}

// orNil makes equal what is stored alike.
func orNil(ids []metadata.BrokerID) []metadata.BrokerID {
	if len(ids) == 0 {
		return nil
	}
	return ids
}

// checkTarget wants brokers that registered once, of which those that are new to
// the partition may hold partitions. They need not be live: the move waits for them.
func checkTarget(im *metadata.Image, target, have []metadata.BrokerID) error {
	if len(target) == 0 {
		return fmt.Errorf("%w: the list is empty", ErrInvalidReplicas)
	}
	for i, id := range target {
		n, known := im.Node(id)
		switch {
		case slices.Contains(target[:i], id):
			return fmt.Errorf("%w: broker %d is named twice in %v", ErrInvalidReplicas, id, target)
		case slices.Contains(have, id):
		case !known:
			return fmt.Errorf("%w: no broker %d is registered", ErrInvalidReplicas, id)
		case n.Role == metadata.RoleReplay:
			return fmt.Errorf("%w: broker %d has the role %q and holds no partitions", ErrInvalidReplicas, id, n.Role)
		}
	}
	return nil
}
