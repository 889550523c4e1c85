package auth

import (
	"context"
	"slices"
	"sync/atomic"
)

// Options of an Authorizer.
type Options struct {
	// Enabled says that rules are enforced from the start, also while there are none. Without it everything is
	// allowed until SetRules is called.
	Enabled bool
	// SuperUsers are allowed everything (super.users).
	SuperUsers []Principal
	// AllowIfNoRule allows what is done to a resource that no rule is about (allow.everyone.if.no.acl.found).
	AllowIfNoRule bool
}

// Authorizer decides what principals may do. It is safe for concurrent use and takes no lock.
type Authorizer struct {
	super         map[Principal]struct{}
	allowIfNoRule bool
	rules         atomic.Pointer[index] // nil: nothing is configured, everything is allowed
}

// New returns an authorizer without rules.
func New(o Options) *Authorizer {
	a := &Authorizer{super: make(map[Principal]struct{}, len(o.SuperUsers)), allowIfNoRule: o.AllowIfNoRule}
	for _, p := range o.SuperUsers {
		a.super[p] = struct{}{}
	}
	if o.Enabled {
		a.rules.Store(newIndex(nil))
	}
	return a
}

// SetRules makes these rules the only ones, and rules enforced.
func (a *Authorizer) SetRules(rules []Rule) { a.rules.Store(newIndex(rules)) }

// Rules returns a copy of the rules.
func (a *Authorizer) Rules() []Rule {
	if x := a.rules.Load(); x != nil {
		return slices.Clone(x.all)
	}
	return nil
}

// Enabled tells whether rules are enforced.
func (a *Authorizer) Enabled() bool { return a.rules.Load() != nil }

// Authorize tells whether a principal on a host may do op to a resource. ctx is for authorizers that ask elsewhere;
// this one answers from memory.
func (a *Authorizer) Authorize(_ context.Context, p Principal, host string, op Operation, r Resource) bool {
	x := a.rules.Load()
	if x == nil {
		return true
	}
	if _, ok := a.super[p]; ok {
		return true
	}
	switch x.decide(p, host, op, r) {
	case Allowed:
		return true
	case NoRule:
		return a.allowIfNoRule
	}
	return false
}

// AuthorizedOperations returns what a principal may do to a resource, as the bits that Kafka's describe APIs use.
func (a *Authorizer) AuthorizedOperations(ctx context.Context, p Principal, host string, r Resource) int32 {
	var bits int32
	for _, op := range AuthorizedOperations(r.Type) {
		if a.Authorize(ctx, p, host, op, r) {
			bits |= 1 << op
		}
	}
	return bits
}

// AuthorizeAny tells whether a principal may do op to some resource of a type, whichever: what a producer needs to be
// given an id (KIP-679). A rule that allows counts unless what it covers is denied as a whole: by the same or a
// shorter prefix, by the literal name itself, or by the wildcard.
func (a *Authorizer) AuthorizeAny(_ context.Context, p Principal, host string, op Operation, t ResourceType) bool {
	x := a.rules.Load()
	if x == nil {
		return true
	}
	if _, ok := a.super[p]; ok || a.allowIfNoRule && !x.deniesAll(p, host, op, t) {
		return true
	}
	for i := range x.all {
		r := &x.all[i]
		if r.Resource.Type == t && r.Permission == Allow && r.matchesSubject(p, host) && r.grants(op) && !x.covered(r, p, host, op) {
			return true
		}
	}
	return false
}

// covered tells whether everything that an allowing rule is about is denied.
func (x *index) covered(allow *Rule, p Principal, host string, op Operation) bool {
	if x.deniesAll(p, host, op, allow.Resource.Type) {
		return true
	}
	everything := allow.Pattern == Literal && allow.Resource.Name == Wildcard
	t := &x.types[allow.Resource.Type]
	if allow.Pattern == Literal && !everything && denies(t.literal[allow.Resource.Name], p, host, op) {
		return true
	}
	if everything {
		return false
	}
	for _, n := range t.lengths {
		if n <= len(allow.Resource.Name) && denies(t.prefixed[allow.Resource.Name[:n]], p, host, op) {
			return true
		}
	}
	return false
}

// deniesAll tells whether op is denied on every resource of a type.
func (x *index) deniesAll(p Principal, host string, op Operation, t ResourceType) bool {
	return t >= 0 && t < resourceTypes && denies(x.types[t].literal[Wildcard], p, host, op)
}

func denies(rules []Rule, p Principal, host string, op Operation) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Permission == Deny && (r.Operation == op || r.Operation == All) && r.matchesSubject(p, host)
	})
}
