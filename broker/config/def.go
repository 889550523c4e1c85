package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Type is the type of a setting's value, numbered as in Kafka's DescribeConfigs answer.
type Type int8

// The types of Kafka's ConfigDef that we use.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Password Type = 9
)

// String returns Kafka's name of the type.
func (t Type) String() string {
	switch t {
	case Boolean:
		return "boolean"
	case String:
		return "string"
	case Int:
		return "int"
	case Short:
		return "short"
	case Long:
		return "long"
	case Double:
		return "double"
	case List:
		return "list"
	case Password:
		return "password"
	}
	return "unknown"
}

// Scope says what a setting belongs to.
type Scope int8

// The two kinds of resource that have settings.
const (
	ScopeBroker Scope = iota
	ScopeTopic
)

// String returns "broker" or "topic".
func (s Scope) String() string {
	if s == ScopeTopic {
		return "topic"
	}
	return "broker"
}

// Dynamic says whether and where a broker's setting can be changed while it runs (KIP-226).
type Dynamic int8

// Kafka's update modes.
const (
	ReadOnly    Dynamic = iota // needs a restart
	PerBroker                  // may differ from broker to broker
	ClusterWide                // for one broker or, as a default, for all
)

// String returns Kafka's name of the update mode.
func (d Dynamic) String() string {
	switch d {
	case PerBroker:
		return "per-broker"
	case ClusterWide:
		return "cluster-wide"
	}
	return "read-only"
}

// Unit is what a number counts.
type Unit string

// Units of the table. The empty unit is a plain number or not a number at all.
const (
	Milliseconds Unit = "ms"
	Seconds      Unit = "s"
	Minutes      Unit = "min"
	Hours        Unit = "h"
	Bytes        Unit = "bytes"
	BytesPerSec  Unit = "bytes/s"
)

// Synonym names a setting of lower precedence with the same meaning, and what its value is
// multiplied by to be in the unit of the setting it stands in for.
type Synonym struct {
	Name   string
	Factor int64
}

// Def describes one setting.
type Def struct {
	Name    string
	Type    Type
	Default string // of a topic setting with synonyms: the broker's value
	Unset   bool   // without a value the setting is null
	Doc     string
	Valid   Check
	Scope   Scope
	Dynamic Dynamic // of a broker setting; every topic setting is dynamic
	Unit    Unit
	Flag    string // the flag of `serve` that sets it
	// Synonyms are broker settings that are read, in order, when this one has no value.
	Synonyms  []Synonym
	Sensitive bool // never shown
	Own       bool // Kafka has no such setting
	Internal  bool // for tests: works, but is neither described nor documented
	Inert     bool // accepted, for Kafka's configurations have it, and read by nobody; Doc says why
}

// Check is a rule for the values of a setting: what is allowed in Kafka's words, and a test that
// returns Kafka's complaint or "".
type Check struct {
	Text string
	test func(string) string
}

// Brokers returns the table of broker settings in the order of the manual.
func Brokers() []Def { return slices.Clone(brokerDefs) }

// Topics returns the table of topic settings by name.
func Topics() []Def { return slices.Clone(topicDefs) }

// Find returns the definition of a setting.
func Find(scope Scope, name string) (Def, bool) {
	d, ok := find(scope, name)
	if !ok {
		return Def{}, false
	}
	return *d, true
}

func find(scope Scope, name string) (*Def, bool) {
	index := brokerIndex
	if scope == ScopeTopic {
		index = topicIndex
	}
	d, ok := index[name]
	return d, ok
}

func indexOf(defs []Def) map[string]*Def {
	m := make(map[string]*Def, len(defs))
	for i := range defs {
		m[defs[i].Name] = &defs[i]
	}
	return m
}

// DefaultValue returns what the setting is when nobody sets anything, in its own unit; ok is false for
// null. The default of a topic's setting is that of the broker's setting behind it.
func (d Def) DefaultValue() (value string, ok bool) {
	if d.Scope == ScopeTopic {
		for _, syn := range d.Synonyms {
			if b, found := find(ScopeBroker, syn.Name); found && !b.Unset {
				return scale(b.Default, syn.Factor), true
			}
		}
	}
	return d.Default, !d.Unset
}

// check returns the trimmed value, or an error with the message Kafka's ConfigDef gives.
func (d *Def) check(raw string) (string, error) {
	v := raw
	if d.Type != Password {
		v = strings.TrimSpace(raw)
	}
	var complaint string
	switch d.Type {
	case Boolean:
		v = strings.ToLower(v)
		if v != "true" && v != "false" {
			complaint = "Expected value to be either true or false"
		}
	case Int, Short, Long:
		n, err := strconv.ParseInt(v, 10, bits(d.Type))
		if err != nil {
			complaint = "Not a number of type " + strings.ToUpper(d.Type.String())
			break
		}
		v = strconv.FormatInt(n, 10)
	case Double:
		if f, err := strconv.ParseFloat(v, 64); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			complaint = "Not a number of type DOUBLE"
		}
	case List:
		v = strings.Join(splitList(v), ",")
	}
	if complaint == "" && d.Valid.test != nil {
		complaint = d.Valid.test(v)
	}
	if complaint != "" {
		shown := v
		if d.Sensitive {
			shown = "[hidden]"
		}
		return "", &SettingError{Name: d.Name, Value: shown, Reason: complaint}
	}
	return v, nil
}

func bits(t Type) int {
	switch t {
	case Int:
		return 32
	case Short:
		return 16
	}
	return 64
}

func splitList(v string) []string {
	var out []string
	for p := range strings.SplitSeq(v, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// The checks below speak as Kafka's ConfigDef validators do, so that scripts which read the messages
// keep working.

func atLeast(minimum int64) Check {
	return Check{
		Text: fmt.Sprintf("[%d,...]", minimum),
		test: func(v string) string {
			if n, err := strconv.ParseInt(v, 10, 64); err == nil && n < minimum {
				return fmt.Sprintf("Value must be at least %d", minimum)
			}
			return ""
		},
	}
}

func between(low, high float64) Check {
	return Check{
		Text: fmt.Sprintf("[%s,...,%s]", number(low), number(high)),
		test: func(v string) string {
			f, err := strconv.ParseFloat(v, 64)
			switch {
			case err != nil:
				return ""
			case f < low:
				return "Value must be at least " + number(low)
			case f > high:
				return "Value must be no more than " + number(high)
			}
			return ""
		},
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// positiveOrUnlimited is the rule of log.retention.ms and its coarser synonyms.
func positiveOrUnlimited() Check {
	return Check{
		Text: "-1 (unlimited) or [1,...]",
		test: func(v string) string {
			if n, err := strconv.ParseInt(v, 10, 64); err == nil && (n < -1 || n == 0) {
				return "Value must be unlimited (-1) or, equal or greater than 1"
			}
			return ""
		},
	}
}

func oneOf(words ...string) Check {
	text := "[" + strings.Join(words, ", ") + "]"
	return Check{
		Text: text,
		test: func(v string) string {
			if !slices.Contains(words, v) {
				return "String must be one of: " + strings.Join(words, ", ")
			}
			return ""
		},
	}
}

func eachOf(words ...string) Check {
	return Check{
		Text: "[" + strings.Join(words, ", ") + "]",
		test: func(v string) string {
			seen := map[string]bool{}
			for _, p := range splitList(v) {
				if !slices.Contains(words, p) {
					return "String must be one of: " + strings.Join(words, ", ")
				}
				if seen[p] {
					return "Configuration has duplicate values"
				}
				seen[p] = true
			}
			return ""
		},
	}
}

func nonEmpty() Check {
	return Check{Text: "non-empty string", test: func(v string) string {
		if v == "" {
			return "String must be non-empty"
		}
		return ""
	}}
}

func words(text string, test func(string) error) Check {
	return Check{Text: text, test: func(v string) string {
		if err := test(v); err != nil {
			return err.Error()
		}
		return ""
	}}
}

// milliseconds turns Kafka's number into a duration: negative stays negative (unlimited or "use the
// other one"), and what does not fit into a duration is the longest one there is (292 years).
func milliseconds(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case n > most:
		return math.MaxInt64
	case n < 0:
		return -time.Millisecond
	}
	return time.Duration(n) * time.Millisecond
}
