package metadata

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// QuotaEntity names whom client quotas are for, as the key below quotas/ does:
// users/<name>, clients/<name> or users/<name>/clients/<name>. Package quota
// writes and reads the names.
type QuotaEntity string

// maxQuotaEntity bounds a key: two names, escaped.
const maxQuotaEntity = 8 << 10

func (e QuotaEntity) check() error {
	if !strings.HasPrefix(string(e), "users/") && !strings.HasPrefix(string(e), "clients/") || len(e) > maxQuotaEntity {
		return fmt.Errorf("%.100q names nobody that quotas are for", string(e))
	}
	return nil
}

func (k keyspace) quota(e QuotaEntity) string { return string(k) + "quotas/" + string(e) }

// quotaValues are the quotas of one entity by Kafka's names for them.
type quotaValues map[string]float64

func (v quotaValues) check() error {
	for name, n := range v {
		if !(n > 0) || math.IsInf(n, 1) {
			return fmt.Errorf("%s is %g, want more than 0", name, n)
		}
	}
	return nil
}

type quotaState struct {
	values quotaValues
	mod    int64
}

// Quotas returns the client quotas by entity and by Kafka's names for them.
func (im *Image) Quotas() map[QuotaEntity]map[string]float64 {
	out := make(map[QuotaEntity]map[string]float64, len(im.quotas))
	for e, s := range im.quotas {
		out[e] = s.values
	}
	return out
}

// Quota returns the client quotas of one entity, nil if there are none.
func (im *Image) Quota(e QuotaEntity) map[string]float64 {
	if s := im.quotas[e]; s != nil {
		return s.values
	}
	return nil
}

// ChangedQuotas says whether client quotas may differ from old's, an earlier
// image of the same Store. It costs nothing.
func (im *Image) ChangedQuotas(old *Image) bool { return im.quotaChanges != old.quotaChanges }

func (b *builder) applyQuota(name string, e kv.Event) error {
	var s *quotaState
	if !e.Deleted {
		values, err := decode[quotaValues](e)
		if err == nil {
			err = QuotaEntity(name).check()
		}
		if err != nil {
			return err
		}
		s = &quotaState{values: values, mod: e.KV.ModRevision}
	}
	if !b.ownQuotas {
		b.im.quotas, b.ownQuotas = maps.Clone(b.im.quotas), true
	}
	b.im.quotaChanges++
	setOrDelete(&b.im.quotas, QuotaEntity(name), s)
	return nil
}

// AlterQuotas changes the client quotas of one entity: it sets, then deletes.
// Values must be above 0; which names there are is not checked here.
func (s *Store) AlterQuotas(ctx context.Context, e QuotaEntity, set map[string]float64, del []string) error {
	err := e.check()
	if err == nil {
		err = quotaValues(set).check()
	}
	if err == nil {
		err = s.alterQuotas(ctx, s.keys.quota(e), func(next quotaValues) {
			maps.Copy(next, set)
			for _, name := range del {
				delete(next, name)
			}
		})
	}
	if err != nil {
		return fmt.Errorf("alter quotas of %s: %w", e, err)
	}
	return nil
}

func (s *Store) alterQuotas(ctx context.Context, key string, change func(quotaValues)) error {
	look := []kv.Op{kv.Get(key, "")}
	resp, err := s.txn(ctx, "read-quotas", kv.Txn{Then: look})
	for {
		if err != nil {
			return err
		}
		t := kv.Txn{If: []kv.Cmp{kv.Absent(key)}, Else: look}
		var have quotaValues
		if len(resp.Gets[0]) > 0 {
			t.If[0] = kv.Unchanged(key, resp.Gets[0][0].ModRevision)
			if have, err = decode[quotaValues](kv.Event{KV: resp.Gets[0][0]}); err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
		}
		next := quotaValues{}
		maps.Copy(next, have)
		change(next)
		if maps.Equal(have, next) {
			return nil
		}
		t.Then = []kv.Op{kv.Put(key, encode(next), 0)}
		if len(next) == 0 {
			t.Then = []kv.Op{kv.Delete(key, "")}
		}
		if resp, err = s.txn(ctx, "alter-quotas", t); err == nil && resp.Succeeded {
			s.settle(ctx, resp.Revision)
			return nil
		}
	}
}
