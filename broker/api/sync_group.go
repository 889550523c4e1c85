package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/wire"
)

// syncGroup is SyncGroup (key 14), versions 0–5.
func (a *API) syncGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.SyncGroupRequest)
	code := a.groupAllowed(ctx, c, auth.Read, req.Group)
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		code = kerr.InconsistentGroupProtocol.Code // areMandatoryProtocolTypeAndNamePresent
	}
	if code == 0 {
		return a.o.Groups.SyncGroup(wire.Idle(ctx), clientOf(c), req)
	}
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	resp.ErrorCode = code
	return resp
}
