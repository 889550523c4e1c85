package config

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
)

// Kind is the layer a value is from.
type Kind int8

// The layers, the weakest first.
const (
	FromDefault Kind = iota
	FromFile
	FromEnv
	FromFlag
	FromCluster // cluster-wide dynamic
	FromBroker  // per-broker dynamic
	FromTopic   // the topic's own
)

// Origin says where a value is from, for people: "default", "flag --listen",
// "environment COLDBROOK_NODE_ID", "coldbrook.properties:12".
type Origin struct {
	Kind  Kind
	Where string
}

// String returns the place.
func (o Origin) String() string {
	switch o.Kind {
	case FromDefault:
		return "default"
	case FromCluster:
		return "dynamic, cluster-wide"
	case FromBroker:
		return "dynamic, this broker"
	case FromTopic:
		return "topic"
	}
	return o.Where
}

// static is a value given at start-up.
type static struct {
	value  string
	origin Origin
}

// Settings is what a broker is configured with. It never changes: With returns another one.
type Settings struct {
	static  map[string]static
	cluster map[string]string
	broker  map[string]string
	typed   Broker
}

// Value is one setting with its value and origin.
type Value struct {
	Def    Def
	Value  *string // nil is null; Sensitive values are not masked
	Origin Origin
}

func newSettings(given map[string]static, cluster, broker map[string]string) (*Settings, error) {
	s := &Settings{static: given, cluster: cluster, broker: broker}
	typed, err := s.resolveBroker()
	if err != nil {
		return nil, err
	}
	s.typed = typed
	if err := s.checkTopicDefaults(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkTopicDefaults refuses defaults under which no topic could be created.
func (s *Settings) checkTopicDefaults() error {
	err := s.validateTopic(nil)
	var e *SettingError
	if !errors.As(err, &e) {
		return err
	}
	if d, ok := find(ScopeTopic, e.Name); ok && len(d.Synonyms) > 0 {
		return s.at(d.Synonyms[0].Name, "%s: the defaults of topics do not go together: %v", d.Synonyms[0].Name, err)
	}
	return err
}

// With returns the settings with other dynamic ones: cluster is what all brokers share, broker is
// this broker's own. Both are the whole state, not a difference. Names that are unknown, read-only
// or have bad values are left out and reported; the result is good in any case, so that one bad entry
// (of a newer version, say) does not take the others away.
func (s *Settings) With(cluster, broker map[string]string) (*Settings, error) {
	var errs []error
	keep := func(in map[string]string, perBroker bool) map[string]string {
		out := make(map[string]string, len(in))
		for _, name := range sortedKeys(in) {
			v, err := checkDynamic(name, in[name], perBroker)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out[name] = v
		}
		return out
	}
	next, err := newSettings(s.static, keep(cluster, false), keep(broker, true))
	if err != nil {
		// Single values are good, together they are not: keep what we have.
		errs = append(errs, err)
		next = s
	}
	return next, errors.Join(errs...)
}

// Broker returns the typed settings, dynamic changes applied.
func (s *Settings) Broker() Broker { return s.typed }

// Get returns the value of one broker setting; ok is false if there is no such setting or it is null.
func (s *Settings) Get(name string) (value string, ok bool) {
	d, found := find(ScopeBroker, name)
	if !found {
		return "", false
	}
	v, _, isSet := s.lookup(d)
	return v, isSet
}

// Values returns every broker setting in the order of the table.
func (s *Settings) Values() []Value {
	out := make([]Value, 0, len(brokerDefs))
	for i := range brokerDefs {
		d := &brokerDefs[i]
		if d.Internal {
			continue
		}
		v, origin, ok := s.lookup(d)
		value := Value{Def: *d, Origin: origin}
		if ok {
			value.Value = &v
		}
		out = append(out, value)
	}
	return out
}

// Inert returns the broker settings that were given a value and have no effect.
func (s *Settings) Inert() []Value {
	return slices.DeleteFunc(s.Values(), func(v Value) bool { return !v.Def.Inert || v.Origin.Kind == FromDefault })
}

// lookup returns the value of a broker setting under its own name, without its synonyms.
func (s *Settings) lookup(d *Def) (string, Origin, bool) {
	if v, ok := s.broker[d.Name]; ok {
		return v, Origin{Kind: FromBroker}, true
	}
	if v, ok := s.cluster[d.Name]; ok {
		return v, Origin{Kind: FromCluster}, true
	}
	if v, ok := s.static[d.Name]; ok {
		return v.value, v.origin, true
	}
	return d.Default, Origin{Kind: FromDefault}, !d.Unset
}

// fromSynonyms returns the value of the first synonym that has one, in the unit of d.
func (s *Settings) fromSynonyms(d *Def) (string, bool) {
	for _, syn := range d.Synonyms {
		b, ok := find(ScopeBroker, syn.Name)
		if !ok {
			continue
		}
		if v, _, ok := s.lookup(b); ok {
			return scale(v, syn.Factor), true
		}
	}
	return "", false
}

// scale multiplies a number; -1 stays what it is: unlimited in any unit.
func scale(v string, factor int64) string {
	if factor <= 1 {
		return v
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return v
	}
	return strconv.FormatInt(n*factor, 10) // an int of hours fits into a long of milliseconds
}

func checkDynamic(name, value string, perBroker bool) (string, error) {
	d, ok := find(ScopeBroker, name)
	if !ok {
		return "", unknown(ScopeBroker, name)
	}
	switch {
	case d.Dynamic == ReadOnly:
		return "", complain(name, "Cannot update these configs dynamically: Set(%s)", name)
	case d.Dynamic == PerBroker && !perBroker:
		return "", complain(name, "Cannot update these configs at default cluster level, broker configs must be used: Set(%s)", name)
	}
	return d.check(value)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
