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
	named := make(map[resourceKey]int)
	for i := range req.Resources {
		named[resourceKey{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		q := &req.Resources[i]
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = q.ResourceType, q.ResourceName
		key := resourceKey{q.ResourceType, q.ResourceName}
		err := errDuplicateResource
		if named[key] == 1 {
			err = a.changeConfig(ctx, c, key, q.Configs, req.ValidateOnly)
		}
		if err != nil {
			r.ErrorCode, r.ErrorMessage = adminError(err)
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

// changeConfig changes only the settings that are named, so that changes of
// others at the same time are kept.
func (a *API) changeConfig(ctx context.Context, c *call, key resourceKey, configs []kmsg.IncrementalAlterConfigsRequestResourceConfig, validateOnly bool) error {
	r, err := a.alterable(ctx, c, key)
	if err != nil {
		return err
	}
	ops := make([]config.Op, len(configs))
	for i, kv := range configs {
		ops[i] = config.Op{Name: kv.Name, Kind: config.OpKind(kv.Op), Value: kv.Value}
	}
	return a.alter(ctx, r, validateOnly, func(s *config.Settings, current map[string]string) (map[string]string, error) {
		if r.Kind == metadata.TopicResource {
			return s.AlterTopic(current, ops)
		}
		return s.AlterBroker(current, r.Name != "", ops)
	})
}
