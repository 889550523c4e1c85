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
