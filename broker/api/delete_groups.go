package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// deleteGroups is DeleteGroups (key 42), versions 0–2. A group named again is
// deleted, and answered, once.
func (a *API) deleteGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteGroupsRequest)
	served := *req
	served.Groups = nil
	var denied []kmsg.DeleteGroupsResponseGroup
	seen := make(map[string]bool, len(req.Groups))
	for _, name := range req.Groups {
		if seen[name] {
			continue
		}
		seen[name] = true
		code := a.groupAllowed(ctx, c, auth.Delete, name)
		if code == 0 {
			served.Groups = append(served.Groups, name)
			continue
		}
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, code
		denied = append(denied, g)
	}
	resp := a.o.Groups.DeleteGroups(ctx, clientOf(c), &served)
	resp.Groups = append(resp.Groups, denied...)
	return resp
}
