package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// ErrNewerFormat means that a later release wrote a value in a format that this
// one does not read. Nothing may be concluded from what can be read of it.
var ErrNewerFormat = errors.New("written in a newer format than this release reads: run the release that wrote it")

// format is the newest format of values that this release reads. A value names
// its own in the member "format"; without one it is the first.
const format = 1

// Kept is part of every value that is written again after it was read.
type Kept struct {
	// Unknown are the members of the stored JSON object that this release does
	// not know, as they are between its braces. They are written back with it.
	Unknown string `json:"-"`
}

func (k Kept) unknown() string      { return k.Unknown }
func (k *Kept) keep(members string) { k.Unknown = members }

// encode is for our own values, which always have a JSON form.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("metadata: %T has no JSON: %v", v, err))
	}
	k, ok := v.(interface{ unknown() string })
	if !ok || k.unknown() == "" {
		return b
	}
	b = b[:len(b)-1]
	if len(b) > 1 {
		b = append(b, ',')
	}
	return append(append(b, k.unknown()...), '}')
}

// checked is a value that can refuse itself.
type checked interface{ check() error }

// decode reads a value, and keeps what it does not know of it. Most values have
// nothing of that kind and are read once.
func decode[T any](e kv.Event) (T, error) {
	var v T
	if reflect.TypeFor[T]().Kind() == reflect.Struct {
		if err := strict(e.KV.Value, &v); err != nil {
			v = *new(T)
			if err := lenient(e.KV.Value, &v); err != nil {
				return v, err
			}
		}
	} else if err := json.Unmarshal(e.KV.Value, &v); err != nil {
		return v, err
	}
	if c, ok := any(v).(checked); ok {
		return v, c.check()
	}
	return v, nil
}

// strict reads a value that has no unknown members.
func strict(value []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// lenient reads a value of a later release, or says why it cannot be read.
func lenient[T any](value []byte, v *T) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		return err
	}
	if raw, ok := members["format"]; ok {
		var has int64
		if err := json.Unmarshal(raw, &has); err != nil {
			return fmt.Errorf("format: %w", err)
		}
		if has > format {
			return fmt.Errorf("format %d, up to %d can be read: %w", has, format, ErrNewerFormat)
		}
	}
	if err := json.Unmarshal(value, v); err != nil {
		return err
	}
	k, ok := any(v).(interface{ keep(members string) })
	if !ok {
		return nil
	}
	known := memberNames(reflect.TypeFor[T]())
	maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) // as package json matches them
	})
	if len(members) > 0 {
		all := encode(members)
		k.keep(string(all[1 : len(all)-1]))
	}
	return nil
}

// memberNames are the JSON names of a type's fields.
func memberNames(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
