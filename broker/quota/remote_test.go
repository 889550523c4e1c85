package quota

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestEntitiesComeBackFromTheirKeys(t *testing.T) {
	for key, e := range map[string]Entity{
		"users/alice":                        {User: Named("alice")},
		"clients/<default>":                  {ClientID: Default()},
		"clients/%3Cdefault%3E":              {ClientID: Named("<default>")},
		"users/a%2Fb%25/clients/<default>":   {Named("a/b%"), Default()},
		"users/<default>/clients/c d":        {}, // not as it is written
		"users/<default>/clients/c%20d":      {Default(), Named("c d")},
		"clients/c/users/u":                  {},
		"users/":                             {},
		"users/a/users/b":                    {},
		"users/%zz":                          {},
		"ips/1.2.3.4":                        {},
		"users":                              {},
		"":                                   {},
		"users/" + strings.Repeat("x", 1025): {},
	} {
		got, err := ParseEntity(key)
		switch {
		case e == (Entity{}) && !errors.Is(err, ErrInvalid):
			t.Errorf("%q: %v, %v; want %v", key, got, err, ErrInvalid)
		case e != (Entity{}) && (err != nil || got != e || e.Key() != key):
			t.Errorf("%q: %v, %v; want %v, whose key is %q", key, got, err, e, e.Key())
		}
	}
}

// What is reserved is gone for others until it is settled, and only what was used
// stays gone.
func TestReservedBytesAreNobodyElses(t *testing.T) {
	m := New(Options{})
	set(t, m, Entity{ClientID: Named("c")}, RemoteFetch, 1000)
	one, other := m.Remote("", "c", epoch), m.Remote("", "c", epoch)
	if n, wait := one.Reserve(5000, epoch); n != 1000 || wait != 0 {
		t.Errorf("reserved %d, %v; want a second's worth", n, wait)
	}
	if n, wait := other.Reserve(5000, epoch); n != 0 || wait != 125*time.Millisecond {
		t.Errorf("reserved %d, %v; want nothing for an eighth of a second", n, wait)
	}
	one.Settle(400, epoch)
	if n, _ := other.Reserve(5000, epoch); n != 600 {
		t.Errorf("reserved %d, want the 600 that the other left", n)
	}
	other.Settle(2600, epoch) // one large batch
	if wait := one.Wait(1, epoch); wait != time.Second {
		t.Errorf("come back after %v, want a second at most", wait)
	}
	now := epoch.Add(2001 * time.Millisecond)
	if n, _ := one.Reserve(1, now); n != 1 {
		t.Error("a debt of 2000 is not paid after 2 s")
	}
	one.Settle(0, now)
	one.Undo(now) // 400
	if n, _ := one.Reserve(5000, now); n != 401 {
		t.Errorf("reserved %d, want the 401 there are with what was not handed out", n)
	}
	if (*Remote)(nil).Wait(1, epoch) != 0 || m.Remote("", "x", epoch) != nil {
		t.Error("a client without a quota has a limit")
	}
}

// A client that owes can be refused what it would get.
func TestWhoOwesCanSpendNothing(t *testing.T) {
	m := New(Options{Samples: 2})
	set(t, m, Entity{User: Default()}, Fetch, 1000)
	if d, ok := m.Spend(Fetch, "u", "", 3000, epoch); !ok || d != 2*time.Second {
		t.Errorf("first: %v, %t", d, ok)
	}
	if d, ok := m.Spend(Fetch, "u", "", 3000, epoch.Add(time.Second)); ok || d != time.Second {
		t.Errorf("while it owes: %v, %t; want no, for another second", d, ok)
	}
	if d, ok := m.Spend(Fetch, "u", "", 500, epoch.Add(2*time.Second)); !ok || d != 500*time.Millisecond {
		t.Errorf("when it has paid: %v, %t", d, ok)
	}
	if got, want := m.Throttled(Fetch), (Count{Times: 3, For: 3500 * time.Millisecond}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if n, ok := m.Burst(Fetch, "u", ""); !ok || n != 1000 {
		t.Errorf("burst %g, %t", n, ok)
	}
}
