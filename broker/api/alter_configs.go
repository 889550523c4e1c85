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
	named := make(map[resourceKey]int)
	for i := range req.Resources {
		named[resourceKey{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		q := &req.Resources[i]
		r := kmsg.NewAlterConfigsResponseResource()
		r.ResourceType, r.ResourceName = q.ResourceType, q.ResourceName
		key := resourceKey{q.ResourceType, q.ResourceName}
		err := errDuplicateResource
		if named[key] == 1 {
			err = a.replaceConfig(ctx, c, key, q.Configs, req.ValidateOnly)
		}
		if err != nil {
			r.ErrorCode, r.ErrorMessage = adminError(err)
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

var errDuplicateResource = fmt.Errorf("%w: each resource must appear at most once", config.ErrInvalidRequest)

func (a *API) replaceConfig(ctx context.Context, c *call, key resourceKey, configs []kmsg.AlterConfigsRequestResourceConfig, validateOnly bool) error {
	asked := make(map[string]string)
	for _, kv := range configs {
		if kv.Value == nil {
			return fmt.Errorf("%w: null value for %s", config.ErrInvalid, kv.Name)
		}
		if _, twice := asked[kv.Name]; twice {
			return fmt.Errorf("%w: %s is given twice", config.ErrInvalidRequest, kv.Name)
		}
		asked[kv.Name] = *kv.Value
	}
	r, err := a.alterable(ctx, c, key)
	if err != nil {
		return err
	}
	return a.alter(ctx, r, validateOnly, func(s *config.Settings, current map[string]string) (map[string]string, error) {
		if r.Kind == metadata.TopicResource {
			return s.ReplaceTopic(current, asked)
		}
		return s.ReplaceBroker(current, asked, r.Name != "")
	})
}

// alter stores what change makes of a resource's overrides, or with validateOnly only looks whether
// it may be. change validates against what is stored, not against an image that may lag behind.
func (a *API) alter(ctx context.Context, r alterable, validateOnly bool, change func(*config.Settings, map[string]string) (map[string]string, error)) error {
	checked := func(current map[string]string) (map[string]string, error) {
		next, err := change(a.o.Settings(), current)
		if err == nil && r.Kind == metadata.BrokerResource {
			err = a.keepsTiers(r, next)
		}
		return next, err
	}
	if validateOnly {
		_, err := checked(r.current)
		return err
	}
	return a.o.Metadata.ChangeConfigs(ctx, r.Resource, checked)
}

// keepsTiers refuses settings of brokers under which a tiered topic would leave the tier.
func (a *API) keepsTiers(r alterable, next map[string]string) error {
	img := a.o.Metadata.Image()
	cluster, own := img.DefaultBrokerConfig(), img.BrokerConfig(a.o.Broker)
	if r.Name == "" {
		cluster = next
	} else {
		own = next
	}
	before := a.o.Settings()
	after, err := before.With(cluster, own)
	if err != nil {
		return nil // of settings that are stored and ignored; the change itself has been checked
	}
	for _, t := range img.Topics() {
		if err := before.CheckTopicUnder(after, t.Name, img.TopicConfig(t.Name)); err != nil {
			return err
		}
	}
	return nil
}

// alterable is a resource whose configuration the caller may alter.
type alterable struct {
	metadata.Resource
	current map[string]string // overrides
}

func (a *API) alterable(ctx context.Context, c *call, key resourceKey) (alterable, error) {
	img := a.o.Metadata.Image()
	r := alterable{Resource: metadata.Resource{Name: key.name}}
	switch key.kind {
	case kmsg.ConfigResourceTypeTopic:
		if !a.allowed(ctx, c, auth.AlterConfigs, auth.Topic, key.name) {
			return r, errDenied
		}
		if err := metadata.ValidTopicName(key.name); err != nil {
			return r, err
		}
		if _, ok := img.Topic(key.name); !ok {
			return r, fmt.Errorf("topic %q: %w", key.name, metadata.ErrUnknownTopic)
		}
		r.Kind, r.current = metadata.TopicResource, img.TopicConfig(key.name)
	case kmsg.ConfigResourceTypeBroker:
		if !a.clusterAllowed(ctx, c, auth.AlterConfigs) {
			return r, errClusterDenied
		}
		r.Kind, r.current = metadata.BrokerResource, img.DefaultBrokerConfig()
		if key.name != "" {
			if err := a.thisBroker(key.name); err != nil {
				return r, err
			}
			r.current = img.BrokerConfig(a.o.Broker)
		}
	default:
		return r, fmt.Errorf("%w: resource type %s has no configuration here", config.ErrInvalidRequest, key.kind)
	}
	return r, nil
}
