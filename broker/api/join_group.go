package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/wire"
)

// joinGroup is JoinGroup (key 11), versions 0–9.
func (a *API) joinGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.JoinGroupRequest)
	code := a.groupAllowed(ctx, c, auth.Read, req.Group)
	if code == 0 {
		return a.o.Groups.JoinGroup(wire.Idle(ctx), clientOf(c), req)
	}
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	resp.ErrorCode = code
	resp.Generation = -1
	return resp
}
