package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	alice  = User("alice")
	bob    = User("bob")
	orders = Resource{Topic, "orders"}
)

// rule is an entry for any host.
func rule(perm Permission, p Principal, op Operation, pattern PatternType, kind ResourceType, name string) Rule {
	return Rule{Resource: Resource{kind, name}, Pattern: pattern, Principal: p, Host: Wildcard, Operation: op, Permission: perm}
}

func TestAuthorize(t *testing.T) {
	everyone := User(Wildcard)
	local := rule(Allow, alice, Read, Literal, Topic, "orders")
	local.Host = "10.0.0.1"
	for _, tt := range []struct {
		name  string
		rules []Rule
		p     Principal
		op    Operation
		r     Resource
		want  bool
	}{
		{"no rule at all", nil, alice, Read, orders, false},
		{"literal", []Rule{rule(Allow, alice, Read, Literal, Topic, "orders")}, alice, Read, orders, true},
		{"of another principal", []Rule{rule(Allow, alice, Read, Literal, Topic, "orders")}, bob, Read, orders, false},
		{"of another type", []Rule{rule(Allow, alice, Read, Literal, Group, "orders")}, alice, Read, orders, false},
		{"of another topic", []Rule{rule(Allow, alice, Read, Literal, Topic, "order")}, alice, Read, orders, false},
		{"another operation", []Rule{rule(Allow, alice, Read, Literal, Topic, "orders")}, alice, Write, orders, false},
		{"all operations", []Rule{rule(Allow, alice, All, Literal, Topic, "orders")}, alice, Delete, orders, true},
		{"every principal", []Rule{rule(Allow, everyone, Read, Literal, Topic, "orders")}, bob, Read, orders, true},
		{"every principal of another type", []Rule{rule(Allow, Principal{"Group", Wildcard}, Read, Literal, Topic, "orders")}, bob, Read, orders, false},
		{"every topic", []Rule{rule(Allow, alice, Read, Literal, Topic, Wildcard)}, alice, Read, orders, true},
		{"prefix", []Rule{rule(Allow, alice, Read, Prefixed, Topic, "ord")}, alice, Read, orders, true},
		{"prefix that is the name", []Rule{rule(Allow, alice, Read, Prefixed, Topic, "orders")}, alice, Read, orders, true},
		{"longer prefix", []Rule{rule(Allow, alice, Read, Prefixed, Topic, "orders-")}, alice, Read, orders, false},
		{"star as prefix is a name", []Rule{rule(Allow, alice, Read, Prefixed, Topic, Wildcard)}, alice, Read, orders, false},
		{"from another host", []Rule{local}, alice, Read, orders, false},
		{"denied after allowed", []Rule{rule(Allow, alice, All, Literal, Topic, "orders"), rule(Deny, everyone, Read, Prefixed, Topic, "o")}, alice, Read, orders, false},
		{"denied before allowed", []Rule{rule(Deny, everyone, All, Literal, Topic, Wildcard), rule(Allow, alice, Read, Literal, Topic, "orders")}, alice, Read, orders, false},
		{"reading implies describing", []Rule{rule(Allow, alice, Read, Literal, Topic, "orders")}, alice, Describe, orders, true},
		{"altering configs implies describing them", []Rule{rule(Allow, alice, AlterConfigs, Literal, Topic, "orders")}, alice, DescribeConfigs, orders, true},
		{"denied reading does not deny describing", []Rule{rule(Allow, alice, Describe, Literal, Topic, "orders"), rule(Deny, alice, Read, Literal, Topic, "orders")}, alice, Describe, orders, true},
		{"denied describing holds against reading", []Rule{rule(Allow, alice, Read, Literal, Topic, "orders"), rule(Deny, alice, Describe, Literal, Topic, "orders")}, alice, Describe, orders, false},
		{"super user", []Rule{rule(Deny, everyone, All, Literal, Topic, Wildcard)}, User("root"), Write, orders, true},
	} {
		a := New(Options{Enabled: true, SuperUsers: []Principal{User("root")}})
		a.SetRules(tt.rules)
		if got := a.Authorize(t.Context(), tt.p, "10.0.0.2", tt.op, tt.r); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestEverythingIsAllowedUntilRulesAreConfigured(t *testing.T) {
	a := New(Options{})
	if !a.Authorize(t.Context(), Anonymous, "", Delete, orders) || a.Enabled() {
		t.Error("refused without rules")
	}
	a.SetRules(nil)
	if a.Authorize(t.Context(), Anonymous, "", Delete, orders) || !a.Enabled() {
		t.Error("allowed by no rule")
	}
}

func TestAllowIfNoRuleIsAboutTheResource(t *testing.T) {
	a := New(Options{Enabled: true, AllowIfNoRule: true})
	a.SetRules([]Rule{rule(Allow, bob, Write, Literal, Topic, "orders")})
	if a.Authorize(t.Context(), alice, "", Read, orders) {
		t.Error("a topic that has a rule is open to everyone")
	}
	if !a.Authorize(t.Context(), alice, "", Read, Resource{Topic, "other"}) {
		t.Error("a topic without a rule is closed")
	}
}

func TestAuthorizedOperationsAreBits(t *testing.T) {
	a := New(Options{})
	a.SetRules([]Rule{rule(Allow, alice, Read, Literal, Topic, "orders")})
	if got, want := a.AuthorizedOperations(t.Context(), alice, "", orders), int32(1<<Read|1<<Describe); got != want {
		t.Errorf("got %b, want %b", got, want)
	}
}

func TestAuthorizeAnyFindsAReachableResource(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []Rule
		want  bool
	}{
		{"nothing", nil, false},
		{"one topic", []Rule{rule(Allow, alice, Write, Literal, Topic, "orders")}, true},
		{"that is denied", []Rule{rule(Allow, alice, Write, Literal, Topic, "orders"), rule(Deny, alice, Write, Literal, Topic, "orders")}, false},
		{"denied by prefix", []Rule{rule(Allow, alice, All, Literal, Topic, "orders"), rule(Deny, alice, All, Prefixed, Topic, "ord")}, false},
		{"prefix reaches beyond a denied literal", []Rule{rule(Allow, alice, Write, Prefixed, Topic, "ord"), rule(Deny, alice, Write, Literal, Topic, "ord")}, true},
		{"shorter prefix than the denied one", []Rule{rule(Allow, alice, Write, Prefixed, Topic, "o"), rule(Deny, alice, Write, Prefixed, Topic, "or")}, true},
		{"every topic, one denied", []Rule{rule(Allow, alice, Write, Literal, Topic, Wildcard), rule(Deny, alice, Write, Literal, Topic, "orders")}, true},
		{"every topic denied", []Rule{rule(Allow, alice, Write, Literal, Topic, Wildcard), rule(Deny, alice, All, Literal, Topic, Wildcard)}, false},
		{"of somebody else", []Rule{rule(Allow, bob, Write, Literal, Topic, "orders")}, false},
	} {
		a := New(Options{})
		a.SetRules(tt.rules)
		if got := a.AuthorizeAny(t.Context(), alice, "h", Write, Topic); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

// randomRules are rules over few names, so that they meet.
func randomRules(rng *rand.Rand, n int) []Rule {
	names := []string{"a", "ab", "abc", "b", Wildcard, "orders"}
	var all []Rule
	for range n {
		all = append(all, Rule{
			Resource:   Resource{Topic + ResourceType(rng.IntN(2)), names[rng.IntN(len(names))]},
			Pattern:    Literal + PatternType(rng.IntN(2)),
			Principal:  []Principal{alice, bob, User(Wildcard)}[rng.IntN(3)],
			Host:       []string{"h1", "h2", Wildcard}[rng.IntN(3)],
			Operation:  All + Operation(rng.IntN(int(operations-All))),
			Permission: Deny + Permission(rng.IntN(2)),
		})
	}
	return all
}

func TestIndexDecidesAsTheListDoes(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 300 {
		rules := randomRules(rng, rng.IntN(30))
		x := newIndex(rules)
		shuffled := slices.Clone(rules)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, name := range []string{"", "a", "abcd", "b", "*", "orders", "orders2"} {
			op := All + Operation(rng.IntN(int(operations-All)))
			r := Resource{Topic, name}
			want := Decide(rules, alice, "h1", op, r)
			if got := x.decide(alice, "h1", op, r); got != want {
				t.Fatalf("round %d (seed %d): %s %s: index says %d, list %d: %+v", round, seed, op, r, got, want, rules)
			}
			if got := Decide(shuffled, alice, "h1", op, r); got != want {
				t.Fatalf("round %d (seed %d): %s %s: order matters: %d and %d: %+v", round, seed, op, r, got, want, rules)
			}
		}
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	good := rule(Allow, alice, Read, Literal, Topic, "orders")
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Rule){
		"resource type":        func(r *Rule) { r.Resource.Type = AnyResource },
		"unknown type":         func(r *Rule) { r.Resource.Type = resourceTypes },
		"resource name":        func(r *Rule) { r.Resource.Name = "" },
		"cluster name":         func(r *Rule) { r.Resource = Resource{Cluster, "mine"}; r.Operation = Alter },
		"pattern":              func(r *Rule) { r.Pattern = MatchPattern },
		"operation":            func(r *Rule) { r.Operation = AnyOperation },
		"operation of another": func(r *Rule) { r.Operation = ClusterAction },
		"permission":           func(r *Rule) { r.Permission = AnyPermission },
		"principal":            func(r *Rule) { r.Principal = Principal{} },
		"host":                 func(r *Rule) { r.Host = "" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestParsePrincipals(t *testing.T) {
	got, err := ParsePrincipals("User:alice; User:CN=bob,O=x:y ;")
	if diff := cmp.Diff([]Principal{alice, User("CN=bob,O=x:y")}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"alice", ":alice"} {
		if _, err := ParsePrincipals(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	a := New(Options{})
	var rules []Rule
	for i := range 10_000 {
		rules = append(rules, rule(Allow, User(fmt.Sprint("u", i)), All, Prefixed, Topic, fmt.Sprintf("team-%d-", i)))
	}
	a.SetRules(rules)
	p, r := User("u77"), Resource{Topic, "team-77-orders"}
	b.ReportAllocs()
	for b.Loop() {
		if !a.Authorize(b.Context(), p, "h", Write, r) {
			b.Fatal("refused")
		}
	}
}
