package api_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// entity is what quotas are for, as type=name pairs; a name of <default> is none.
func quotaEntity(parts ...string) []kmsg.AlterClientQuotasRequestEntryEntity {
	var out []kmsg.AlterClientQuotasRequestEntryEntity
	for _, p := range parts {
		e := kmsg.NewAlterClientQuotasRequestEntryEntity()
		kind, name, _ := strings.Cut(p, "=")
		if e.Type = kind; name != "<default>" {
			e.Name = &name
		}
		out = append(out, e)
	}
	return out
}

// quotaOps sets names to values; a value of 0 removes.
func quotaOps(pairs ...any) []kmsg.AlterClientQuotasRequestEntryOp {
	var out []kmsg.AlterClientQuotasRequestEntryOp
	for i := 0; i < len(pairs); i += 2 {
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value = pairs[i].(string), pairs[i+1].(float64)
		op.Remove = op.Value == 0
		out = append(out, op)
	}
	return out
}

func alterQuotas(version int16, entity []kmsg.AlterClientQuotasRequestEntryEntity, ops []kmsg.AlterClientQuotasRequestEntryOp) *kmsg.AlterClientQuotasRequest {
	req := at(kmsg.NewPtrAlterClientQuotasRequest(), version)
	e := kmsg.NewAlterClientQuotasRequestEntry()
	e.Entity, e.Ops = entity, ops
	req.Entries = append(req.Entries, e)
	return req
}

// quota sets quotas of one entity and waits for nothing: the broker that answers has them.
func (k *conn) quota(entity []kmsg.AlterClientQuotasRequestEntryEntity, pairs ...any) {
	k.t.Helper()
	e := do[*kmsg.AlterClientQuotasResponse](k, alterQuotas(1, entity, quotaOps(pairs...))).Entries[0]
	code(k.t, "alter quotas", e.ErrorCode, nil)
}

func describeQuotas(version int16, strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) *kmsg.DescribeClientQuotasRequest {
	req := at(kmsg.NewPtrDescribeClientQuotasRequest(), version)
	req.Strict, req.Components = strict, components
	return req
}

// component asks for a name, for "<default>" or, as "<any>", for whatever is there.
func component(kind, name string) kmsg.DescribeClientQuotasRequestComponent {
	c := kmsg.NewDescribeClientQuotasRequestComponent()
	c.EntityType = kind
	switch name {
	case "<default>":
		c.MatchType = kmsg.QuotasMatchTypeDefault
	case "<any>":
		c.MatchType = kmsg.QuotasMatchTypeAny
	default:
		c.Match = &name
	}
	return c
}

// quotas are the entities of an answer with their quotas.
func quotas(resp *kmsg.DescribeClientQuotasResponse) map[string]map[string]float64 {
	out := map[string]map[string]float64{}
	for _, e := range resp.Entries {
		var parts []string
		for _, p := range e.Entity {
			name := "<default>"
			if p.Name != nil {
				name = *p.Name
			}
			parts = append(parts, p.Type+"="+name)
		}
		values := map[string]float64{}
		for _, v := range e.Values {
			values[v.Key] = v.Value
		}
		out[strings.Join(parts, " ")] = values
	}
	return out
}

func (s *served) quotasOf(t *testing.T, version int16, strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) map[string]map[string]float64 {
	t.Helper()
	resp := do[*kmsg.DescribeClientQuotasResponse](s.conn, describeQuotas(version, strict, components...))
	code(t, "describe quotas", resp.ErrorCode, nil)
	return quotas(resp)
}

func checkDescribeClientQuotas(t *testing.T, s *served, v int16) {
	all := []string{"user=u", "user=<default>", "client-id=c/d", "client-id=<default>", "user=u client-id=c/d", "user=u client-id=<default>", "user=<default> client-id=<default>"}
	for i, e := range all {
		s.quota(quotaEntity(strings.Fields(e)...), "request_percentage", float64(i+1))
		defer s.quota(quotaEntity(strings.Fields(e)...), "request_percentage", 0.0)
	}
	for _, q := range []struct {
		what   string
		strict bool
		ask    []kmsg.DescribeClientQuotasRequestComponent
		want   []string
	}{
		{"all", false, nil, all},
		{"nobody, strictly", true, nil, nil},
		{"a user", false, []kmsg.DescribeClientQuotasRequestComponent{component("user", "u")}, []string{all[0], all[4], all[5]}},
		{"a user alone", true, []kmsg.DescribeClientQuotasRequestComponent{component("user", "u")}, []string{all[0]}},
		{"the default user", false, []kmsg.DescribeClientQuotasRequestComponent{component("user", "<default>")}, []string{all[1], all[6]}},
		{"any client", false, []kmsg.DescribeClientQuotasRequestComponent{component("client-id", "<any>")}, []string{all[2], all[3], all[4], all[5], all[6]}},
		{"any client alone", true, []kmsg.DescribeClientQuotasRequestComponent{component("client-id", "<any>")}, []string{all[2], all[3]}},
		{"a client of any user", true, []kmsg.DescribeClientQuotasRequestComponent{component("user", "<any>"), component("client-id", "c/d")}, []string{all[4]}},
		{"somebody else", false, []kmsg.DescribeClientQuotasRequestComponent{component("user", "v")}, nil},
		{"addresses", false, []kmsg.DescribeClientQuotasRequestComponent{component("ip", "<any>")}, nil},
	} {
		got, want := s.quotasOf(t, v, q.strict, q.ask...), map[string]map[string]float64{}
		for i, e := range all {
			for _, w := range q.want {
				if e == w {
					want[e] = map[string]float64{"request_percentage": float64(i + 1)}
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", q.what, diff)
		}
	}
	nameless, named, strange := component("user", ""), component("user", "<any>"), component("user", "u")
	nameless.Match, named.Match, strange.MatchType = nil, kmsg.StringPtr("u"), 7
	for what, q := range map[string]struct {
		ask  []kmsg.DescribeClientQuotasRequestComponent
		want *kerr.Error
	}{
		"no type":       {[]kmsg.DescribeClientQuotasRequestComponent{component("", "u")}, kerr.InvalidRequest},
		"custom type":   {[]kmsg.DescribeClientQuotasRequestComponent{component("team", "u")}, kerr.UnsupportedVersion},
		"twice":         {[]kmsg.DescribeClientQuotasRequestComponent{component("user", "u"), component("user", "v")}, kerr.InvalidRequest},
		"ip and user":   {[]kmsg.DescribeClientQuotasRequestComponent{component("ip", "1.2.3.4"), component("user", "v")}, kerr.InvalidRequest},
		"exact, null":   {[]kmsg.DescribeClientQuotasRequestComponent{nameless}, kerr.InvalidRequest},
		"any, named":    {[]kmsg.DescribeClientQuotasRequestComponent{named}, kerr.InvalidRequest},
		"strange match": {[]kmsg.DescribeClientQuotasRequestComponent{strange}, kerr.InvalidRequest},
	} {
		resp := do[*kmsg.DescribeClientQuotasResponse](s.conn, describeQuotas(v, false, q.ask...))
		code(t, what, resp.ErrorCode, q.want)
		same(t, what+" says why", resp.ErrorMessage != nil, true)
	}
}

func checkAlterClientQuotas(t *testing.T, s *served, v int16) {
	who := quotaEntity("user=alice", "client-id=replay")
	ask := func(validate bool, ops ...any) kmsg.AlterClientQuotasResponseEntry {
		req := alterQuotas(v, who, quotaOps(ops...))
		req.ValidateOnly = validate
		return do[*kmsg.AlterClientQuotasResponse](s.conn, req).Entries[0]
	}
	have := func() map[string]float64 {
		return s.quotasOf(t, 1, true, component("user", "alice"), component("client-id", "replay"))["user=alice client-id=replay"]
	}
	code(t, "validate only", ask(true, "remote_fetch_byte_rate", 5e7).ErrorCode, nil)
	same(t, "after validation", len(have()), 0)
	got := ask(false, "remote_fetch_byte_rate", 5e7, "consumer_byte_rate", 1e6, "producer_byte_rate", 1e6, "request_percentage", 50.5, "controller_mutation_rate", 2.0)
	code(t, "set", got.ErrorCode, nil)
	same(t, "entity", *got.Entity[0].Name+*got.Entity[1].Name, "alicereplay")
	code(t, "change", ask(false, "consumer_byte_rate", 2e6, "producer_byte_rate", 0.0, "request_percentage", 0.0, "controller_mutation_rate", 0.0).ErrorCode, nil)
	if diff := cmp.Diff(map[string]float64{"remote_fetch_byte_rate": 5e7, "consumer_byte_rate": 2e6}, have()); diff != "" {
		t.Errorf("quotas (-want +got):\n%s", diff)
	}
	for what, ops := range map[string][]any{
		"a kind that is not enforced": {"connection_creation_rate", 1.0},
		"an unknown kind":             {"fast", 1.0},
		"not enforced, to remove":     {"fast", 0.0},
		"negative":                    {"consumer_byte_rate", -1.0},
		"not a number":                {"consumer_byte_rate", math.NaN()},
		"endless":                     {"consumer_byte_rate", math.Inf(1)},
		"twice":                       {"consumer_byte_rate", 1.0, "consumer_byte_rate", 2.0},
	} {
		got := ask(false, ops...)
		code(t, what, got.ErrorCode, kerr.InvalidRequest)
		if got.ErrorMessage == nil || !strings.Contains(*got.ErrorMessage, ops[0].(string)) {
			t.Errorf("%s: the message does not name %s", what, ops[0])
		}
	}
	for what, e := range map[string][]kmsg.AlterClientQuotasRequestEntryEntity{
		"nobody": nil, "an address": quotaEntity("ip=1.2.3.4"), "a type there is not": quotaEntity("team=a"),
		"a type twice": quotaEntity("user=a", "user=b"), "no name": quotaEntity("user="), "a long name": quotaEntity("user=" + strings.Repeat("x", 2000)),
	} {
		got := do[*kmsg.AlterClientQuotasResponse](s.conn, alterQuotas(v, e, quotaOps("consumer_byte_rate", 1.0))).Entries[0]
		code(t, what, got.ErrorCode, kerr.InvalidRequest)
		same(t, what+" says why", got.ErrorMessage != nil, true)
	}
	twice := alterQuotas(v, who, quotaOps("consumer_byte_rate", 3e6))
	twice.Entries = append(twice.Entries, twice.Entries[0])
	es := do[*kmsg.AlterClientQuotasResponse](s.conn, twice).Entries
	code(t, "named first", es[0].ErrorCode, nil)
	code(t, "named again", es[1].ErrorCode, kerr.InvalidRequest)
	code(t, "remove", ask(false, "remote_fetch_byte_rate", 0.0, "consumer_byte_rate", 0.0).ErrorCode, nil)
	same(t, "after removal", len(have()), 0)
	code(t, "remove again", ask(false, "consumer_byte_rate", 0.0).ErrorCode, nil)
}
