package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// DescribeGroups handles DescribeGroups (key 15), versions 0–6. The caller
// fills in the authorized operations of v3. v4: instance ids. v6: a group that
// does not exist is GROUP_ID_NOT_FOUND, before that only "Dead".
func (c *Coordinator) DescribeGroups(ctx context.Context, _ Client, req *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	resp.Groups = make([]kmsg.DescribeGroupsResponseGroup, len(req.Groups))
	for i, group := range req.Groups {
		out, err := coordinator.Peek(ctx, c.rt, c.PartitionOf(group), func(s *shard) (kmsg.DescribeGroupsResponseGroup, error) {
			return s.describe(group, req.Version), nil
		})
		if err != nil {
			out = kmsg.NewDescribeGroupsResponseGroup()
			out.Group, out.ErrorCode = group, codeOf(err)
		}
		resp.Groups[i] = out
	}
	return resp
}

func (s *shard) describe(group string, version int16) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group = group
	g := s.groups[group]
	if g == nil {
		out.State = dead
		if version >= 6 {
			message := fmt.Sprintf("Group %s not found.", group)
			out.ErrorCode, out.ErrorMessage = codeGroupNotFound, &message
		}
		return out
	}
	out.State, out.ProtocolType = g.state.String(), g.protocolType
	if g.state == Stable {
		out.Protocol = deref(g.protocol)
	}
	out.Members = make([]kmsg.DescribeGroupsResponseGroupMember, len(g.members))
	for i, m := range g.members {
		d := &out.Members[i]
		d.Default()
		d.MemberID, d.InstanceID, d.ClientID, d.ClientHost = m.id, m.instance, m.client, m.host
		d.MemberAssignment = m.assignment
		if g.state == Stable {
			d.ProtocolMetadata = m.metadata(deref(g.protocol))
		}
	}
	return out
}

const classicType = "Classic"

// ListGroups handles ListGroups (key 16), versions 0–5: the groups of the
// partitions this broker coordinates. v4: filter by state, v5: by type.
func (c *Coordinator) ListGroups(ctx context.Context, _ Client, req *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	if len(req.TypesFilter) > 0 && !containsFold(req.TypesFilter, classicType) {
		return resp
	}
	lists, err := each(c, func(partition int32) ([]kmsg.ListGroupsResponseGroup, error) {
		return coordinator.Peek(ctx, c.rt, partition, func(s *shard) ([]kmsg.ListGroupsResponseGroup, error) {
			return s.list(req.StatesFilter), nil
		})
	})
	if err != nil {
		resp.ErrorCode = codeOf(err)
		return resp
	}
	resp.Groups = slices.Concat(lists...)
	return resp
}

func (s *shard) list(states []string) []kmsg.ListGroupsResponseGroup {
	var out []kmsg.ListGroupsResponseGroup
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		if len(states) > 0 && !containsFold(states, g.state.String()) {
			continue
		}
		l := kmsg.NewListGroupsResponseGroup()
		l.Group, l.ProtocolType, l.GroupState, l.GroupType = id, g.protocolType, g.state.String(), classicType
		out = append(out, l)
	}
	return out
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(other string) bool { return strings.EqualFold(other, s) })
}

// Committed is a group's committed offset of one partition: what lag is
// counted from.
type Committed struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time // of the commit
}

// Summary is a group with its offsets.
type Summary struct {
	Group        string
	State        State
	ProtocolType string
	Members      int
	Offsets      []Committed // by topic and partition
}

// Summaries returns the groups of all partitions this broker has loaded,
// sorted within a partition; partitions that are loading are left out. Offsets
// that are not committed yet may be included.
func (c *Coordinator) Summaries(ctx context.Context) ([]Summary, error) {
	lists, err := each(c, func(partition int32) ([]Summary, error) {
		list, err := coordinator.Peek(ctx, c.rt, partition, func(s *shard) ([]Summary, error) {
			return s.summaries(), nil
		})
		if errors.Is(err, coordinator.ErrLoading) {
			return nil, nil
		}
		return list, err
	})
	return slices.Concat(lists...), err
}

func (s *shard) summaries() []Summary {
	out := make([]Summary, 0, len(s.groups))
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		sum := Summary{Group: id, State: g.state, ProtocolType: g.protocolType, Members: len(g.members)}
		for _, tp := range g.store.sorted() {
			o, _ := g.store.get(tp.topic, tp.partition)
			sum.Offsets = append(sum.Offsets, Committed{tp.topic, tp.partition, o.offset, time.UnixMilli(o.committed)})
		}
		out = append(out, sum)
	}
	return out
}
