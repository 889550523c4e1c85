package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/quota"
	"github.com/coldbrook/coldbrook/metadata"
)

// maxQuotaEntities is how many entities one request may alter; each is a write to etcd.
const maxQuotaEntities = 1000

// alterClientQuotas is AlterClientQuotas (key 49), versions 0–1 (KIP-546). As in
// Kafka each entity is altered, or refused, for itself.
func (a *API) alterClientQuotas(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AlterClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	allowed := a.clusterAllowed(ctx, c, auth.AlterConfigs)
	seen := make(map[quota.Entity]bool)
	for i := range req.Entries {
		q := &req.Entries[i]
		entry := kmsg.NewAlterClientQuotasResponseEntry()
		for _, p := range q.Entity {
			re := kmsg.NewAlterClientQuotasResponseEntryEntity()
			re.Type, re.Name = p.Type, p.Name
			entry.Entity = append(entry.Entity, re)
		}
		err := errClusterDenied
		if allowed {
			err = a.alterQuota(ctx, q, seen, req.ValidateOnly)
		}
		if err != nil {
			entry.ErrorCode, entry.ErrorMessage = adminError(err)
		}
		resp.Entries = append(resp.Entries, entry)
	}
	return resp
}

func (a *API) alterQuota(ctx context.Context, q *kmsg.AlterClientQuotasRequestEntry, seen map[quota.Entity]bool, validateOnly bool) error {
	e, err := quotaEntityOf(q.Entity)
	if err != nil {
		return err
	}
	switch {
	case seen[e]:
		return fmt.Errorf("%w: %s is named more than once in the request", quota.ErrInvalid, e)
	case len(seen) == maxQuotaEntities:
		return fmt.Errorf("%w: more than %d entities in one request", quota.ErrInvalid, maxQuotaEntities)
	}
	seen[e] = true
	set, del, err := quotaChangesOf(e, q.Ops)
	if err != nil || validateOnly {
		return err
	}
	return a.o.Metadata.AlterQuotas(ctx, metadata.QuotaEntity(e.Key()), set, del)
}

// quotaEntityOf reads an entity: ClientQuotaControlManager.validateEntity.
func quotaEntityOf(parts []kmsg.AlterClientQuotasRequestEntryEntity) (quota.Entity, error) {
	var e quota.Entity
	for _, p := range parts {
		name := quota.Default()
		if p.Name != nil {
			name = quota.Named(*p.Name)
		}
		part := &e.User
		switch p.Type {
		case userEntity:
		case clientEntity:
			part = &e.ClientID
		case ipEntity:
			return e, errNoIPQuotas
		default:
			return e, fmt.Errorf("%w: unhandled client quota entity type %q", quota.ErrInvalid, p.Type)
		}
		if part.IsSet() {
			return e, fmt.Errorf("%w: entity type %s is given twice", quota.ErrInvalid, p.Type)
		}
		*part = name
	}
	if len(parts) == 0 {
		return e, fmt.Errorf("%w: invalid empty client quota entity", quota.ErrInvalid)
	}
	return e, e.Validate()
}

func quotaChangesOf(e quota.Entity, ops []kmsg.AlterClientQuotasRequestEntryOp) (set map[string]float64, del []string, err error) {
	set = make(map[string]float64)
	named := make(map[string]bool)
	for _, op := range ops {
		kind, ok := quota.ParseKind(op.Key)
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("%w: %s is not a quota that this broker enforces, want one of %s", quota.ErrInvalid, op.Key, kindList())
		case named[op.Key]:
			return nil, nil, fmt.Errorf("%w: %s is given twice", quota.ErrInvalid, op.Key)
		}
		named[op.Key] = true
		if op.Remove {
			del = append(del, op.Key)
			continue
		}
		if err := (quota.Rule{Entity: e, Kind: kind, Value: op.Value}).Validate(); err != nil {
			return nil, nil, err
		}
		set[op.Key] = op.Value
	}
	return set, del, nil
}

func kindList() string {
	var names []string
	for _, k := range quota.Kinds() {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}
