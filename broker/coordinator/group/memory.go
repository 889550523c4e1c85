package group

import (
	"log/slog"
	"sync/atomic"
)

const (
	// memberShare is the part of the memory of all members that one may take.
	memberShare = 8
	// memberOverhead is about what a member, or an id that was handed out, takes
	// besides the bytes of its client.
	memberOverhead = 512
)

// memory is what members take of this broker, and ids that were handed out: their
// names, subscriptions and assignments are bytes of clients that stay when the requests
// are answered, for as long as a session lasts.
type memory struct {
	limit int64
	used  atomic.Int64
	full  atomic.Bool // and the log says so
	log   *slog.Logger
}

// admits says whether someone who takes so much, and took so much before, may join.
// Who takes no more than before always may.
func (m *memory) admits(size, before int64) bool {
	switch used := m.used.Load() - before; {
	case size <= before:
		return true
	case size <= m.limit/memberShare && used+size <= m.limit:
		if used < m.limit/2 {
			m.full.Store(false)
		}
		return true
	}
	if m.full.CompareAndSwap(false, true) {
		m.log.Warn("members of groups take all the memory there is for them, or one wants more than its share: joins and assignments are refused",
			"size", size, "used", m.used.Load(), "limit", m.limit)
	}
	return false
}

// claim counts bytes to the group and to the broker, or gives them back.
func (g *classicGroup) claim(n int64) {
	g.claimed += n
	if g.memory != nil {
		g.memory.used.Add(n)
	}
}

// pendingSize is what an id that was handed out takes: it keeps its group.
func (g *classicGroup) pendingSize(id string) int64 {
	return int64(memberOverhead + len(g.id) + len(id))
}

// admitsAssignments says whether members may take so much in place of what they have.
func (s *shard) admitsAssignments(g *classicGroup, assignments map[string][]byte) bool {
	size, before := int64(0), int64(0)
	for _, m := range g.members {
		size += int64(len(assignments[m.id]))
		before += int64(len(m.assignment))
	}
	return s.memory.admits(size, before)
}

// memberSize is what a member takes, but for its assignment. Its id is made of its client's or its own name.
func (g *classicGroup) memberSize(m *member) int64 {
	return memberSize(g.id, m.client, m.instance, m.terms())
}

func (j *joinRequest) size() int64 {
	return memberSize(j.group, j.client.ID, j.instance, j.joinTerms)
}

func memberSize(group, client string, instance *string, terms joinTerms) int64 {
	n := memberOverhead + len(group) + 2*len(client) + 2*len(deref(instance))
	for i := range terms.protocols {
		n += 64 + len(terms.protocols[i].Name) + len(terms.protocols[i].Metadata)
	}
	return int64(n)
}
