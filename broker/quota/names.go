package quota

import (
	"fmt"
	"net/url"
	"strings"
)

// other is how Default is written; escaped names have no "<".
const other = "<default>"

// maxName bounds the name of a user or a client id that has a quota.
const maxName = 1024

// Key names the entity in the metadata store: users/alice/clients/<default>. Names are escaped as in a path.
func (e Entity) Key() string {
	part := func(n Name) string {
		if n.IsDefault() {
			return other
		}
		return url.PathEscape(n.value)
	}
	var parts []string
	if e.User.IsSet() {
		parts = append(parts, "users", part(e.User))
	}
	if e.ClientID.IsSet() {
		parts = append(parts, "clients", part(e.ClientID))
	}
	return strings.Join(parts, "/")
}

// ParseEntity reads a Key. It returns an error that wraps ErrInvalid for what Key does not write.
func ParseEntity(key string) (Entity, error) {
	var e Entity
	parts := strings.Split(key, "/")
	if len(parts) != 2 && len(parts) != 4 {
		return e, fmt.Errorf("%w: entity %q", ErrInvalid, key)
	}
	for i := 0; i < len(parts); i += 2 {
		name := Default()
		if parts[i+1] != other {
			text, err := url.PathUnescape(parts[i+1])
			if err != nil {
				return e, fmt.Errorf("%w: entity %q: %w", ErrInvalid, key, err)
			}
			name = Named(text)
		}
		switch parts[i] {
		case "users":
			e.User = name
		case "clients":
			e.ClientID = name
		}
	}
	if e.Key() != key || e.Validate() != nil {
		return Entity{}, fmt.Errorf("%w: entity %q", ErrInvalid, key)
	}
	return e, nil
}

// Validate refuses, with ErrInvalid, an entity that no client can be, or whose name is too long to keep.
func (e Entity) Validate() error {
	if !e.User.IsSet() && !e.ClientID.IsSet() {
		return fmt.Errorf("%w: neither user nor client id", ErrInvalid)
	}
	for _, n := range []Name{e.User, e.ClientID} {
		if n.kind == named && (n.value == "" || len(n.value) > maxName) {
			return fmt.Errorf("%w: a name of %d bytes, want 1 to %d", ErrInvalid, len(n.value), maxName)
		}
	}
	return nil
}
