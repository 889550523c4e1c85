package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// describeGroups is DescribeGroups (key 15), versions 0–6. A group named again
// is answered once.
func (a *API) describeGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeGroupsRequest)
	served := *req
	served.Groups = nil
	var denied []kmsg.DescribeGroupsResponseGroup
	seen := make(map[string]bool, len(req.Groups))
	for _, name := range req.Groups {
		if seen[name] {
			continue
		}
		seen[name] = true
		code := a.groupAllowed(ctx, c, auth.Describe, name)
		if code == 0 {
			served.Groups = append(served.Groups, name)
			continue
		}
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.ErrorCode, g.AuthorizedOperations = name, code, noOperations
		denied = append(denied, g)
	}
	resp := a.o.Groups.DescribeGroups(ctx, clientOf(c), &served)
	for i := range resp.Groups {
		g := &resp.Groups[i]
		g.AuthorizedOperations = noOperations
		if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
			g.AuthorizedOperations = a.operations(ctx, c, auth.Group, g.Group)
		}
	}
	resp.Groups = append(resp.Groups, denied...)
	return resp
}
