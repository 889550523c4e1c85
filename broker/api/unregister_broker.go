package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// unregisterBroker is UnregisterBroker (key 64), version 0 (KIP-631): forgets a
// broker that is gone for good. Unlike Kafka it refuses one that is live, which
// would only register again, and one that partitions still name as a replica,
// whose data would be looked for in vain.
func (a *API) unregisterBroker(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.UnregisterBrokerRequest)
	resp := req.ResponseKind().(*kmsg.UnregisterBrokerResponse)
	err := errClusterDenied
	if a.clusterAllowed(ctx, c, auth.Alter) {
		err = a.o.Metadata.UnregisterBroker(ctx, metadata.BrokerID(req.BrokerID))
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = adminError(err)
	}
	return resp
}
