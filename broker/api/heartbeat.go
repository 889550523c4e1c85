package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// heartbeat is Heartbeat (key 12), versions 0–4.
func (a *API) heartbeat(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.HeartbeatRequest)
	code := a.groupAllowed(ctx, c, auth.Read, req.Group)
	if code == 0 {
		return a.o.Groups.Heartbeat(ctx, clientOf(c), req)
	}
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	resp.ErrorCode = code
	return resp
}
