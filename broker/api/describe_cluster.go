package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// DescribeCluster's endpoint types (KIP-919).
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

// describeCluster is DescribeCluster (key 60), versions 0–2 (KIP-700).
func (a *API) describeCluster(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.ClusterAuthorizedOperations, resp.EndpointType = noOperations, endpointBrokers
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		if req.EndpointType == endpointControllers {
			resp.ErrorCode = kerr.MismatchedEndpointType.Code
		}
		resp.ErrorMessage = kmsg.StringPtr("this is a broker, and only brokers can be asked for here")
		return resp
	}
	img := a.o.Metadata.Image()
	resp.ClusterID, resp.ControllerID = img.ClusterID(), int32(img.Controller())
	for _, b := range img.Brokers() {
		host, port, ok := endpoint(b, c.Conn.Listener())
		if !ok {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), host, port, rack(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = a.operations(ctx, c, auth.Cluster, auth.ClusterName)
	}
	return resp
}
