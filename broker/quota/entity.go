package quota

import (
	"errors"
	"fmt"
	"math"
)

// Name is the user or the client id that a quota is for.
type Name struct {
	kind  uint8 // 0: the quota does not ask
	value string
}

const (
	named   = 1
	isOther = 2
)

// Named is one user or client id.
func Named(value string) Name { return Name{kind: named, value: value} }

// Default is every user or client id that has no quota of its own; Kafka writes it <default>.
func Default() Name { return Name{kind: isOther} }

// IsSet tells whether the quota asks for this name at all.
func (n Name) IsSet() bool { return n.kind != 0 }

// IsDefault tells whether the name is Kafka's <default>.
func (n Name) IsDefault() bool { return n.kind == isOther }

// Value is the user or client id of a Named name.
func (n Name) Value() string { return n.value }

// String is the name as Kafka's tools write it.
func (n Name) String() string {
	switch n.kind {
	case named:
		return n.value
	case isOther:
		return other
	}
	return ""
}

// Entity is whom a quota is for: a user, a client id, or a client id of a user. The zero Name leaves a part out.
type Entity struct{ User, ClientID Name }

// String is the entity as a path of Kafka's configuration: /users/alice/clients/<default>.
func (e Entity) String() string {
	s := ""
	if e.User.IsSet() {
		s += "/users/" + e.User.String()
	}
	if e.ClientID.IsSet() {
		s += "/clients/" + e.ClientID.String()
	}
	return s
}

// Rule is one configured quota.
type Rule struct {
	Entity Entity
	Kind   Kind
	// Value is in bytes a second, percent, or mutations a second: see Kind.
	Value float64
}

// ErrInvalid is wrapped by errors about rules that make no sense.
var ErrInvalid = errors.New("invalid quota")

// Validate refuses a rule that makes no sense, with ErrInvalid.
func (r Rule) Validate() error {
	if err := r.Entity.Validate(); err != nil {
		return err
	}
	if r.Kind >= kinds {
		return fmt.Errorf("%w: kind %d", ErrInvalid, r.Kind)
	}
	if !(r.Value > 0) || math.IsInf(r.Value, 1) {
		return fmt.Errorf("%w: %s %s %g, want more than 0", ErrInvalid, r.Entity, r.Kind, r.Value)
	}
	return nil
}

// shape says which parts an entity has, most specific first: the order in which ClientQuotaManager looks.
type shape uint8

const shapes = 8

// entityOf is the entity of a shape that covers a client.
func entityOf(s shape, user, clientID string) Entity {
	switch s {
	case 0:
		return Entity{Named(user), Named(clientID)}
	case 1:
		return Entity{Named(user), Default()}
	case 2:
		return Entity{Named(user), Name{}}
	case 3:
		return Entity{Default(), Named(clientID)}
	case 4:
		return Entity{Default(), Default()}
	case 5:
		return Entity{Default(), Name{}}
	case 6:
		return Entity{Name{}, Named(clientID)}
	}
	return Entity{Name{}, Default()}
}

// shape returns the shape of an entity that has at least one part.
func (e Entity) shape() shape {
	for s := range shape(shapes) {
		if e == entityOf(s, e.User.value, e.ClientID.value) {
			return s
		}
	}
	return shapes - 1
}
