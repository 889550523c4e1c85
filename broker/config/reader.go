package config

import (
	"errors"
	"strconv"
	"time"
)

// reader turns the texts of checked settings into typed values. The first error sticks; there is none
// unless the table and a typed struct disagree, which a test excludes.
type reader struct {
	get func(name string) (string, bool)
	err error
}

func (r *reader) text(name string) string {
	v, _ := r.get(name)
	return v
}

func (r *reader) flag(name string) bool { return r.text(name) == "true" }

func (r *reader) list(name string) []string { return splitList(r.text(name)) }

func (r *reader) long(name string) int64 { return r.integer(name, 64) }

func (r *reader) int(name string) int32 { return int32(r.integer(name, 32)) }

func (r *reader) integer(name string, size int) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, size)
	if err != nil {
		r.err = errors.Join(r.err, complain(name, "%s is not a number: %q", name, r.text(name)))
	}
	return n
}

func (r *reader) double(name string) float64 {
	f, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		r.err = errors.Join(r.err, complain(name, "%s is not a number: %q", name, r.text(name)))
	}
	return f
}

func (r *reader) ms(name string) time.Duration { return milliseconds(r.long(name)) }
