package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// listGroups is ListGroups (key 16), versions 0–5. Groups that may not be
// described are left out.
func (a *API) listGroups(ctx context.Context, c *call) kmsg.Response {
	resp := a.o.Groups.ListGroups(ctx, clientOf(c), c.req.(*kmsg.ListGroupsRequest))
	if a.clusterAllowed(ctx, c, auth.Describe) {
		return resp
	}
	resp.Groups = slices.DeleteFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool {
		return a.groupAllowed(ctx, c, auth.Describe, g.Group) != 0
	})
	return resp
}
