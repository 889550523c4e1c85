package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// describeGroups is DescribeGroups (key 15), versions 0–6.
func (a *API) describeGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeGroupsRequest)
	resp := a.o.Groups.DescribeGroups(ctx, clientOf(c), req)
	for i := range resp.Groups {
		g := &resp.Groups[i]
		if code := a.groupAllowed(ctx, c, auth.Describe, g.Group); code != 0 {
			denied := kmsg.NewDescribeGroupsResponseGroup()
			denied.Group, denied.ErrorCode = g.Group, code
			*g = denied
			continue
		}
		g.AuthorizedOperations = noOperations
		if req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = a.operations(ctx, c, auth.Group, g.Group)
		}
	}
	return resp
}
