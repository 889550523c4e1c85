package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// PatternType says how a rule's resource name is meant; the values are Kafka's PatternType codes.
type PatternType int8

// The pattern types. Any and Match occur only in filters.
const (
	UnknownPattern PatternType = iota
	AnyPattern
	MatchPattern
	Literal
	Prefixed
)

// Permission is what a rule says; the values are Kafka's AclPermissionType codes.
type Permission int8

// The permissions. Any occurs only in filters.
const (
	UnknownPermission Permission = iota
	AnyPermission
	Deny
	Allow
)

// Wildcard is the literal name that means every resource, every principal of a type, or every host.
const Wildcard = "*"

// Rule is one access control entry (Kafka's AclBinding).
type Rule struct {
	Resource   Resource // the name is a pattern
	Pattern    PatternType
	Principal  Principal // the name may be Wildcard
	Host       string    // an address or Wildcard
	Operation  Operation
	Permission Permission
}

// ErrInvalid is wrapped by errors about rules that make no sense.
var ErrInvalid = errors.New("invalid access control entry")

// Validate says what is wrong with a rule that is to be stored.
func (r Rule) Validate() error {
	switch {
	case r.Resource.Type <= AnyResource || r.Resource.Type >= resourceTypes:
		return fmt.Errorf("%w: resource type %d", ErrInvalid, r.Resource.Type)
	case r.Resource.Name == "":
		return fmt.Errorf("%w: empty resource name", ErrInvalid)
	case r.Resource.Type == Cluster && r.Resource.Name != ClusterName && r.Resource.Name != Wildcard:
		return fmt.Errorf("%w: the cluster is called %s, not %q", ErrInvalid, ClusterName, r.Resource.Name)
	case r.Pattern != Literal && r.Pattern != Prefixed:
		return fmt.Errorf("%w: pattern type %d", ErrInvalid, r.Pattern)
	case r.Operation <= AnyOperation || r.Operation >= operations:
		return fmt.Errorf("%w: operation %d", ErrInvalid, r.Operation)
	case r.Operation != All && !slices.Contains(AuthorizedOperations(r.Resource.Type), r.Operation):
		return fmt.Errorf("%w: no operation %s on %s", ErrInvalid, r.Operation, r.Resource.Type)
	case r.Permission != Allow && r.Permission != Deny:
		return fmt.Errorf("%w: permission %d", ErrInvalid, r.Permission)
	case r.Principal.Type == "" || r.Principal.Name == "":
		return fmt.Errorf("%w: principal %q", ErrInvalid, r.Principal)
	case r.Host == "":
		return fmt.Errorf("%w: empty host", ErrInvalid)
	}
	return nil
}

// Verdict is what the rules say about one action.
type Verdict int8

// The verdicts.
const (
	NoRule     Verdict = iota // no rule is about the resource at all
	NotAllowed                // rules are about the resource, none allows
	Allowed
	Denied
)

// Decide is the meaning of a list of rules: deny before allow, whatever the order.
func Decide(rules []Rule, p Principal, host string, op Operation, r Resource) Verdict {
	v := NoRule
	for i := range rules {
		if rules[i].matchesResource(r) {
			v = rules[i].weigh(v, p, host, op)
		}
	}
	return v
}

// weigh returns the verdict after one more rule about the resource.
func (r *Rule) weigh(v Verdict, p Principal, host string, op Operation) Verdict {
	v = max(v, NotAllowed)
	if v == Denied || !r.matchesSubject(p, host) {
		return v
	}
	switch {
	case r.Permission == Deny && (r.Operation == op || r.Operation == All):
		return Denied
	case r.Permission == Allow && r.grants(op):
		return Allowed
	}
	return v
}

func (r *Rule) matchesResource(to Resource) bool {
	if r.Resource.Type != to.Type {
		return false
	}
	if r.Pattern == Prefixed {
		return len(to.Name) >= len(r.Resource.Name) && to.Name[:len(r.Resource.Name)] == r.Resource.Name
	}
	return r.Resource.Name == to.Name || r.Resource.Name == Wildcard
}

func (r *Rule) matchesSubject(p Principal, host string) bool {
	if r.Principal.Type != p.Type || r.Principal.Name != p.Name && r.Principal.Name != Wildcard {
		return false
	}
	return r.Host == host || r.Host == Wildcard
}

// grants tells whether allowing the rule's operation allows op: reading, writing, deleting and altering imply
// describing, and altering configurations describing them (StandardAuthorizerData.IMPLIES_DESCRIBE). Denying
// implies nothing.
func (r *Rule) grants(op Operation) bool {
	switch {
	case r.Operation == op || r.Operation == All:
		return true
	case op == Describe:
		return r.Operation == Read || r.Operation == Write || r.Operation == Delete || r.Operation == Alter
	case op == DescribeConfigs:
		return r.Operation == AlterConfigs
	}
	return false
}

// index is a list of rules by what they are about: Decide without a look at each rule.
type index struct {
	all   []Rule
	types [resourceTypes]typeIndex
}

type typeIndex struct {
	literal  map[string][]Rule
	prefixed map[string][]Rule
	lengths  []int // the lengths of the prefixes, ascending
}

func newIndex(all []Rule) *index {
	x := &index{all: slices.Clone(all)}
	for _, r := range x.all {
		t := &x.types[r.Resource.Type]
		if r.Pattern == Prefixed {
			if t.prefixed == nil {
				t.prefixed = make(map[string][]Rule)
			}
			t.prefixed[r.Resource.Name] = append(t.prefixed[r.Resource.Name], r)
			continue
		}
		if t.literal == nil {
			t.literal = make(map[string][]Rule)
		}
		t.literal[r.Resource.Name] = append(t.literal[r.Resource.Name], r)
	}
	for i := range x.types {
		t := &x.types[i]
		lengths := make(map[int]struct{})
		for prefix := range t.prefixed {
			lengths[len(prefix)] = struct{}{}
		}
		t.lengths = slices.Sorted(maps.Keys(lengths))
	}
	return x
}

// decide is Decide.
func (x *index) decide(p Principal, host string, op Operation, r Resource) Verdict {
	if r.Type < 0 || r.Type >= resourceTypes {
		return NoRule
	}
	t := &x.types[r.Type]
	v := NoRule
	weigh := func(rules []Rule) {
		for i := range rules {
			v = rules[i].weigh(v, p, host, op)
		}
	}
	weigh(t.literal[r.Name])
	if r.Name != Wildcard {
		weigh(t.literal[Wildcard])
	}
	for _, n := range t.lengths {
		if n > len(r.Name) {
			break
		}
		weigh(t.prefixed[r.Name[:n]])
	}
	return v
}
