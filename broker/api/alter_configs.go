package api

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
)

// alterConfigs is AlterConfigs (key 33), versions 0–2: the whole new state.
func (a *API) alterConfigs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	for i := range req.Resources {
		q := &req.Resources[i]
		r := kmsg.NewAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = q.ResourceType, q.ResourceName
		next := make(map[string]string)
		var err error
		for _, kv := range q.Configs {
			if kv.Value == nil {
				err = fmt.Errorf("%w: null value for %s", config.ErrInvalid, kv.Name)
				continue
			}
			next[kv.Name] = *kv.Value
		}
		if err == nil {
			err = a.changeConfig(ctx, c, q.ResourceType, q.ResourceName, req.ValidateOnly, func(s *config.Settings, kind metadata.ResourceKind, current map[string]string, perBroker bool) (map[string]string, error) {
				if kind == metadata.TopicResource {
					return s.ReplaceTopic(current, next)
				}
				return s.ReplaceBroker(current, next, perBroker)
			})
		}
		if err != nil {
			r.ErrorCode, r.ErrorMessage = adminError(err)
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

// changeFunc makes the new overrides of a resource from the current ones.
type changeFunc func(s *config.Settings, kind metadata.ResourceKind, current map[string]string, perBroker bool) (map[string]string, error)

// changeConfig validates and stores the new overrides of one resource.
func (a *API) changeConfig(ctx context.Context, c *call, kind kmsg.ConfigResourceType, name string, validateOnly bool, change changeFunc) error {
	img := a.o.Metadata.Image()
	res := metadata.Resource{Name: name}
	var current map[string]string
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if !a.allowed(ctx, c, auth.AlterConfigs, auth.Topic, name) {
			return errDenied
		}
		if _, ok := img.Topic(name); !ok {
			return fmt.Errorf("topic %q: %w", name, metadata.ErrUnknownTopic)
		}
		res.Kind, current = metadata.TopicResource, img.TopicConfig(name)
	case kmsg.ConfigResourceTypeBroker:
		if !a.clusterAllowed(ctx, c, auth.AlterConfigs) {
			return errClusterDenied
		}
		res.Kind, current = metadata.BrokerResource, img.DefaultBrokerConfig()
		if name != "" {
			if err := a.thisBroker(name); err != nil {
				return err
			}
			current = img.BrokerConfig(a.o.Broker)
		}
	default:
		return fmt.Errorf("%w: resource type %s has no configuration here", config.ErrInvalidRequest, kind)
	}
	next, err := change(a.o.Settings(), res.Kind, current, name != "")
	if err != nil || validateOnly {
		return err
	}
	return a.o.Metadata.AlterConfigs(ctx, res, next, nil, true)
}
