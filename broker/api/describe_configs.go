package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
)

// describeConfigs is DescribeConfigs (key 32), versions 1–4. v1: synonyms
// (KIP-226). v3: types and documentation (KIP-569).
func (a *API) describeConfigs(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	seen := make(map[resourceKey]bool)
	for i := range req.Resources {
		q := &req.Resources[i]
		key := resourceKey{q.ResourceType, q.ResourceName}
		if seen[key] {
			continue // answered: an answer is long, and may not be asked for a thousand times
		}
		seen[key] = true
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceType, r.ResourceName = q.ResourceType, q.ResourceName
		entries, err := a.configEntries(ctx, c, q.ResourceType, q.ResourceName)
		if err != nil {
			r.ErrorCode, r.ErrorMessage = adminError(err)
		}
		for _, e := range entries {
			if len(q.ConfigNames) == 0 || slices.Contains(q.ConfigNames, e.Name) {
				r.Configs = append(r.Configs, configEntry(req, e))
			}
		}
		resp.Resources = append(resp.Resources, r)
	}
	return resp
}

// resourceKey names a configuration as requests do.
type resourceKey struct {
	kind kmsg.ConfigResourceType
	name string
}

func (a *API) configEntries(ctx context.Context, c *call, kind kmsg.ConfigResourceType, name string) ([]config.Entry, error) {
	s := a.o.Settings()
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if !a.allowed(ctx, c, auth.DescribeConfigs, auth.Topic, name) {
			return nil, errDenied
		}
		if err := metadata.ValidTopicName(name); err != nil {
			return nil, err
		}
		img := a.o.Metadata.Image()
		if _, ok := img.Topic(name); !ok {
			return nil, fmt.Errorf("topic %q: %w", name, metadata.ErrUnknownTopic)
		}
		return s.DescribeTopic(img.TopicConfig(name)), nil
	case kmsg.ConfigResourceTypeBroker:
		if !a.clusterAllowed(ctx, c, auth.DescribeConfigs) {
			return nil, errClusterDenied
		}
		if name == "" {
			return s.DescribeDefaultBroker(), nil
		}
		if err := a.thisBroker(name); err != nil {
			return nil, err
		}
		return s.DescribeBroker(), nil
	}
	return nil, fmt.Errorf("%w: resource type %s has no configuration here", config.ErrInvalidRequest, kind)
}

// thisBroker checks that a broker resource names this broker: only it knows
// its static settings.
func (a *API) thisBroker(name string) error {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil || metadata.BrokerID(id) != a.o.Broker {
		return fmt.Errorf("%w: unexpected broker id %q, this is broker %d", config.ErrInvalidRequest, name, a.o.Broker)
	}
	return nil
}

func configEntry(req *kmsg.DescribeConfigsRequest, e config.Entry) kmsg.DescribeConfigsResponseResourceConfig {
	rc := kmsg.NewDescribeConfigsResponseResourceConfig()
	rc.Name, rc.Value, rc.ReadOnly, rc.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	rc.Source, rc.IsDefault, rc.ConfigType = kmsg.ConfigSource(e.Source), e.Source == config.SourceDefault, kmsg.ConfigType(e.Type)
	if req.IncludeDocumentation {
		rc.Documentation = &e.Doc
	}
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			rs := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			rs.Name, rs.Value, rs.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			rc.ConfigSynonyms = append(rc.ConfigSynonyms, rs)
		}
	}
	return rc
}
