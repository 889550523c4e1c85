package console

import (
	"context"
	"slices"
)

// Health is how the cluster is, as this broker sees it: /api/v1/cluster.
type Health struct {
	Cluster
	Live       int `json:"brokers_live"`
	Partitions int `json:"partitions"`
	// InSync says that there is a controller and that no partition lacks a leader or a replica in sync.
	InSync          bool           `json:"in_sync"`
	Leaderless      []PartitionRef `json:"leaderless"`
	UnderReplicated []PartitionRef `json:"under_replicated"` // a replica that is not just being added is not in sync
	Reassigning     []PartitionRef `json:"reassigning"`
}

// PartitionRef is a partition and its topic.
type PartitionRef struct {
	Topic string `json:"topic"`
	Partition
}

// health works it out from brokers and topics.
func (s *Server) health(ctx context.Context) (Health, error) {
	c, err := s.o.Brokers(ctx)
	if err != nil {
		return Health{}, err
	}
	topics, err := s.o.Topics(ctx)
	if err != nil {
		return Health{}, err
	}
	h := Health{Cluster: c, Leaderless: []PartitionRef{}, UnderReplicated: []PartitionRef{}, Reassigning: []PartitionRef{}}
	for _, b := range c.Brokers {
		if b.State != StateAway {
			h.Live++
		}
	}
	for _, t := range topics {
		for _, p := range t.Partitions {
			h.Partitions++
			ref := PartitionRef{t.Name, p}
			if p.Leader < 0 {
				h.Leaderless = append(h.Leaderless, ref)
			}
			if slices.ContainsFunc(p.Replicas, func(id int32) bool { return !slices.Contains(p.ISR, id) && !slices.Contains(p.Adding, id) }) {
				h.UnderReplicated = append(h.UnderReplicated, ref)
			}
			if len(p.Adding)+len(p.Removing) > 0 {
				h.Reassigning = append(h.Reassigning, ref)
			}
		}
	}
	h.InSync = c.Controller >= 0 && len(h.Leaderless)+len(h.UnderReplicated) == 0
	return h, nil
}
