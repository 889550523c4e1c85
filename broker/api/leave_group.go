package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// leaveGroup is LeaveGroup (key 13), versions 0–5.
func (a *API) leaveGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.LeaveGroupRequest)
	code := a.groupAllowed(ctx, c, auth.Read, req.Group)
	if code == 0 {
		return a.o.Groups.LeaveGroup(ctx, clientOf(c), req)
	}
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	resp.ErrorCode = code
	return resp
}
