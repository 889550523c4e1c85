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

// changeConfig stores only the settings that are named, so that changes of
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
	s := a.o.Settings()
	var next map[string]string
	if r.Kind == metadata.TopicResource {
		next, err = s.AlterTopic(r.current, ops)
	} else {
		next, err = s.AlterBroker(r.current, r.Name != "", ops)
	}
	if err != nil || validateOnly {
		return err
	}
	set := make(map[string]string)
	var del []string
	for _, op := range ops {
		if v, ok := next[op.Name]; ok {
			set[op.Name] = v
		} else {
			del = append(del, op.Name)
		}
	}
	return a.o.Metadata.AlterConfigs(ctx, r.Resource, set, del, false)
}
