package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/quota"
)

// Kafka's types of entities that quotas are for.
const (
	userEntity   = "user"
	clientEntity = "client-id"
	ipEntity     = "ip"
)

var errNoIPQuotas = fmt.Errorf("%w: quotas of entity type ip are not enforced by this broker", quota.ErrInvalid)

// describeClientQuotas is DescribeClientQuotas (key 48), versions 0–1 (KIP-546).
func (a *API) describeClientQuotas(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	filter, err := quotaFilterOf(req)
	if !a.clusterAllowed(ctx, c, auth.DescribeConfigs) {
		err = errClusterDenied
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = adminError(err)
		resp.Entries = nil
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	all := a.o.Metadata.Image().Quotas()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		e, err := quota.ParseEntity(string(key))
		if err != nil || !filter.matches(e) {
			continue // not what this version writes, and not what it enforces
		}
		entry := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, p := range partsOf(e) {
			re := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			re.Type, re.Name = p.kind, p.name
			entry.Entity = append(entry.Entity, re)
		}
		for name, v := range all[key] {
			rv := kmsg.NewDescribeClientQuotasResponseEntryValue()
			rv.Key, rv.Value = name, v
			entry.Values = append(entry.Values, rv)
		}
		slices.SortFunc(entry.Values, func(x, y kmsg.DescribeClientQuotasResponseEntryValue) int { return strings.Compare(x.Key, y.Key) })
		resp.Entries = append(resp.Entries, entry)
	}
	return resp
}

// quotaPart is one part of an entity as requests name it: no name is <default>.
type quotaPart struct {
	kind string
	name *string
}

func partsOf(e quota.Entity) []quotaPart {
	var parts []quotaPart
	for _, p := range []struct {
		kind string
		name quota.Name
	}{{userEntity, e.User}, {clientEntity, e.ClientID}} {
		if !p.name.IsSet() {
			continue
		}
		part := quotaPart{kind: p.kind}
		if !p.name.IsDefault() {
			name := p.name.Value()
			part.name = &name
		}
		parts = append(parts, part)
	}
	return parts
}

// quotaFilter says which entities are asked for: ClientQuotasImage.describe.
type quotaFilter struct {
	user, client quotaMatch
	ip           bool // quotas of ip addresses, of which there are none
	strict       bool
}

// quotaMatch is what one part of an entity must be.
type quotaMatch struct {
	asked, any bool
	name       quota.Name
}

func (m quotaMatch) matches(n quota.Name, strict bool) bool {
	switch {
	case !m.asked:
		return !strict || !n.IsSet()
	case m.any:
		return n.IsSet()
	}
	return n == m.name
}

func (f quotaFilter) matches(e quota.Entity) bool {
	return !f.ip && f.user.matches(e.User, f.strict) && f.client.matches(e.ClientID, f.strict)
}

func quotaFilterOf(req *kmsg.DescribeClientQuotasRequest) (quotaFilter, error) {
	f := quotaFilter{strict: req.Strict}
	for i := range req.Components {
		q := &req.Components[i]
		m, err := quotaMatchOf(q)
		if err != nil {
			return f, err
		}
		asked := false
		switch q.EntityType {
		case userEntity:
			asked, f.user = f.user.asked, m
		case clientEntity:
			asked, f.client = f.client.asked, m
		case ipEntity:
			asked, f.ip = f.ip, true
		case "":
			return f, fmt.Errorf("%w: unexpected empty filter component entity type", quota.ErrInvalid)
		default:
			return f, fmt.Errorf("%w: %s", errQuotaEntity, q.EntityType)
		}
		if asked {
			return f, fmt.Errorf("%w: duplicate filter components for entity type %s", quota.ErrInvalid, q.EntityType)
		}
	}
	if f.ip && (f.user.asked || f.client.asked) {
		return f, fmt.Errorf("%w: an ip filter component cannot be used with user or client-id", quota.ErrInvalid)
	}
	return f, nil
}

// errQuotaEntity is an entity type that Kafka leaves to later versions.
var errQuotaEntity = errors.New("custom entity type is not supported")

func quotaMatchOf(q *kmsg.DescribeClientQuotasRequestComponent) (quotaMatch, error) {
	m := quotaMatch{asked: true}
	switch {
	case q.MatchType == kmsg.QuotasMatchTypeExact && q.Match != nil:
		m.name = quota.Named(*q.Match)
	case q.MatchType == kmsg.QuotasMatchTypeExact:
		return m, fmt.Errorf("%w: an exact match of %s without a name", quota.ErrInvalid, q.EntityType)
	case q.MatchType != kmsg.QuotasMatchTypeDefault && q.MatchType != kmsg.QuotasMatchTypeAny:
		return m, fmt.Errorf("%w: unknown match type %d", quota.ErrInvalid, q.MatchType)
	case q.Match != nil:
		return m, fmt.Errorf("%w: a name and a match of %s that takes none", quota.ErrInvalid, q.EntityType)
	default:
		m.name, m.any = quota.Default(), q.MatchType == kmsg.QuotasMatchTypeAny
	}
	return m, nil
}
