package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// endpointBrokers is DescribeCluster's endpoint type for brokers (KIP-919).
const endpointBrokers = 1

// describeCluster is DescribeCluster (key 60), versions 0–2 (KIP-700).
func (a *API) describeCluster(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.ClusterAuthorizedOperations, resp.EndpointType = noOperations, endpointBrokers
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		return resp
	}
	img := a.o.Metadata.Image()
	resp.ClusterID, resp.ControllerID = img.ClusterID(), int32(img.Controller())
	for _, b := range img.Brokers() {
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Rack = int32(b.ID), rack(b)
		rb.Host, rb.Port = endpoint(b, c.Conn.Listener())
		resp.Brokers = append(resp.Brokers, rb)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = a.operations(ctx, c, auth.Cluster, auth.ClusterName)
	}
	return resp
}
