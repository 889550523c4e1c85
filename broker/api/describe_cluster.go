package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/metadata"
)

// DescribeCluster's endpoint types (KIP-919).
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

// describeCluster is DescribeCluster (key 60), versions 0–2 (KIP-700). v2: also
// brokers that registered once and are not live, which Kafka calls fenced
// (KIP-1073).
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
	resp.ClusterID, resp.ControllerID = img.ClusterID(), int32(a.controllerID(img, c.Conn.Listener()))
	for _, b := range img.Brokers() {
		host, port, ok := endpoint(b, c.Conn.Listener())
		if !ok {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), host, port, rack(b)
		resp.Brokers = append(resp.Brokers, rb)
	}
	if req.IncludeFencedBrokers {
		resp.Brokers = append(resp.Brokers, fencedBrokers(img)...)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = a.operations(ctx, c, auth.Cluster, auth.ClusterName)
	}
	return resp
}

func fencedBrokers(img *metadata.Image) []kmsg.DescribeClusterResponseBroker {
	var out []kmsg.DescribeClusterResponseBroker
	for _, n := range img.Nodes() {
		if _, live := img.Broker(n.ID); live {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.IsFenced = int32(n.ID), n.Host, n.Port, true
		if n.Rack != "" {
			rb.Rack = &n.Rack
		}
		out = append(out, rb)
	}
	return out
}
