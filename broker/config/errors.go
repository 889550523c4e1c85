package config

import (
	"errors"
	"fmt"
)

// ErrInvalid is in the chain of every error about a value or a name: Kafka's INVALID_CONFIG.
var ErrInvalid = errors.New("invalid configuration")

// ErrInvalidRequest is in the chain of errors about a change that makes no sense whatever the value
// (the same name twice, APPEND to something that is no list): Kafka's INVALID_REQUEST.
var ErrInvalidRequest = errors.New("invalid configuration change")

// SettingError says what is wrong with one setting. Its message without a place is the one Kafka's
// ConfigException has.
type SettingError struct {
	Place  string // "coldbrook.properties:12", "environment COLDBROOK_NODE_ID", "flag --listen"; empty for a request
	Name   string
	Value  string
	Reason string
	Hint   string // what to do about it
	bare   bool   // the reason says it all
}

// Error returns one line: place, setting, value, reason, hint.
func (e *SettingError) Error() string {
	msg := e.Reason
	if !e.bare {
		msg = fmt.Sprintf("Invalid value %s for configuration %s: %s", e.Value, e.Name, e.Reason)
	}
	if e.Hint != "" {
		msg += "; " + e.Hint
	}
	if e.Place != "" {
		msg = e.Place + ": " + msg
	}
	return msg
}

// Unwrap returns ErrInvalid.
func (e *SettingError) Unwrap() error { return ErrInvalid }

// complain is an error whose text is Kafka's and complete in itself.
func complain(name, format string, args ...any) error {
	return &SettingError{Name: name, Reason: fmt.Sprintf(format, args...), bare: true}
}
