package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
)

// incrementalAlterConfigs is IncrementalAlterConfigs (key 44), versions 0–1 (KIP-339).
func (a *API) incrementalAlterConfigs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.IncrementalAlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	for i := range req.Resources {
		q := &req.Resources[i]
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = q.ResourceType, q.ResourceName
		ops := make([]config.Op, len(q.Configs))
		for j, kv := range q.Configs {
			ops[j] = config.Op{Name: kv.Name, Kind: config.OpKind(kv.Op), Value: kv.Value}
		}
		err := a.changeConfig(ctx, c, q.ResourceType, q.ResourceName, req.ValidateOnly, func(s *config.Settings, kind metadata.ResourceKind, current map[string]string, perBroker bool) (map[string]string, error) {
			if kind == metadata.TopicResource {
				return s.AlterTopic(current, ops)
			}
			return s.AlterBroker(current, perBroker, ops)
		})
		if err != nil {
			r.ErrorCode, r.ErrorMessage = adminError(err)
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}
