package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Unknown holds the members of a JSON object that this release has no field for, as they were read: `"a":1,"b":[2]`.
// Whoever rewrites the object writes them again. A release that adds a member without a new version of the format counts
// on that, and on older releases being able to go on without it. A struct keeps them in a field of this name and type.
//
// They are text, so that structs that are compared stay comparable and one that has none costs nothing more.
type Unknown string

const (
	unknownField = "Unknown"
	// maxUnknown bounds the members kept of one object.
	maxUnknown = 64
)

var unknownType = reflect.TypeFor[Unknown]()

// decode reads a JSON object without its first brace into v, and what v has no fields for into the Unknown of each object.
func decode(body []byte, v any) error {
	if decodeAll(body, v, true) == nil {
		return nil
	}
	reflect.ValueOf(v).Elem().SetZero()
	if err := decodeAll(body, v, false); err != nil {
		return err
	}
	return keep(append([]byte{'{'}, body...), reflect.ValueOf(v))
}

func decodeAll(body []byte, v any, strict bool) error {
	d := json.NewDecoder(io.MultiReader(strings.NewReader("{"), bytes.NewReader(body)))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("bytes after its end")
	}
	return nil
}

// keeper says whether values of a type have an Unknown in them, themselves or below.
func keeper(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return keeper(t.Elem())
	case reflect.Struct:
		f, ok := t.FieldByName(unknownField)
		return ok && f.Type == unknownType
	default:
		return false
	}
}

// keep goes through JSON and the value that was decoded from it side by side.
func keep(raw []byte, v reflect.Value) error {
	if !keeper(v.Type()) {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return keep(raw, v.Elem())
	case reflect.Slice:
		return keepItems(raw, v)
	default:
		return keepMembers(raw, v)
	}
}

func keepItems(raw []byte, v reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return err
	}
	for i := 0; i < v.Len() && d.More(); i++ {
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return err
		}
		if err := keep(item, v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func keepMembers(raw []byte, v reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return err
	}
	var unknown []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var member json.RawMessage
		if err := d.Decode(&member); err != nil {
			return err
		}
		if i := fieldOf(v.Type(), name.(string)); i >= 0 { // a member's name is a string
			if err := keep(member, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		if len(unknown) == maxUnknown {
			return fmt.Errorf("more than %d unknown fields in one object", maxUnknown)
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		unknown = append(unknown, string(key)+":"+string(member))
	}
	v.FieldByName(unknownField).SetString(strings.Join(unknown, ","))
	return nil
}

// fieldOf returns the field that encoding/json decodes a member into, -1 for none.
func fieldOf(t reflect.Type, member string) int {
	for i := range t.NumField() {
		if name, _ := memberOf(t.Field(i)); name != "" && strings.EqualFold(name, member) {
			return i
		}
	}
	return -1
}

// memberOf returns the name of a field's member, "" for a field that has none.
func memberOf(f reflect.StructField) (name string, omitEmpty bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || name == "-" {
		return "", false
	}
	if name == "" {
		name = f.Name
	}
	return name, options == "omitempty"
}

// encode is json.Marshal with the unknown members of each object behind the others.
func encode(v any) ([]byte, error) {
	if !hasUnknown(reflect.ValueOf(v)) {
		return json.Marshal(v)
	}
	return appendValue(nil, reflect.ValueOf(v))
}

func hasUnknown(v reflect.Value) bool {
	if !keeper(v.Type()) {
		return false
	}
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && hasUnknown(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if hasUnknown(v.Index(i)) {
				return true
			}
		}
		return false
	default:
		for i := range v.NumField() {
			if f := v.Field(i); f.Type() == unknownType && f.Len() > 0 || hasUnknown(f) {
				return true
			}
		}
		return false
	}
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	switch k := v.Kind(); {
	case !keeper(v.Type()), k != reflect.Struct && v.IsNil():
		text, err := json.Marshal(v.Interface())
		return append(b, text...), err
	case k == reflect.Pointer:
		return appendValue(b, v.Elem())
	case k == reflect.Slice:
		return appendItems(b, v)
	default:
		return appendMembers(b, v)
	}
}

func appendItems(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMembers(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	first := len(b)
	for i := range v.NumField() {
		name, omitEmpty := memberOf(v.Type().Field(i))
		f := v.Field(i)
		if name == "" || omitEmpty && isEmpty(f) {
			continue
		}
		if len(b) > first {
			b = append(b, ',')
		}
		b = append(b, `"`+name+`":`...)
		if b, err = appendValue(b, f); err != nil {
			return nil, err
		}
	}
	if u := v.FieldByName(unknownField).String(); u != "" {
		if len(b) > first {
			b = append(b, ',')
		}
		b = append(b, u...)
	}
	return append(b, '}'), nil
}

// isEmpty is encoding/json's rule for omitempty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}
