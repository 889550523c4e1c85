package config

import "slices"

// Source is the origin of a value, numbered as in Kafka's DescribeConfigs answer.
type Source int8

// Kafka's ConfigEntry.ConfigSource.
const (
	SourceTopic         Source = 1
	SourceBroker        Source = 2
	SourceDefaultBroker Source = 3
	SourceStaticBroker  Source = 4
	SourceDefault       Source = 5
)

// Entry is one setting as DescribeConfigs shows it.
type Entry struct {
	Name      string
	Value     *string // nil: null, or hidden because Sensitive
	Source    Source
	ReadOnly  bool
	Sensitive bool
	Type      Type
	Doc       string
	Synonyms  []SynonymValue // the strongest first; the first is where Value is from
}

// SynonymValue is one of the places a value could come from.
type SynonymValue struct {
	Name   string
	Value  *string
	Source Source
}

// DescribeTopic returns all settings of a topic with the given overrides, by name.
func (s *Settings) DescribeTopic(overrides map[string]string) []Entry {
	out := make([]Entry, 0, len(topicDefs))
	for i := range topicDefs {
		d := &topicDefs[i]
		own, overridden := overrides[d.Name]
		if d.Internal && !overridden {
			continue
		}
		e := Entry{Name: d.Name, Type: d.Type, Sensitive: d.Sensitive, Doc: d.Doc, Source: SourceDefault}
		if v, ok := s.topicValue(overrides, d.Name); ok {
			e.Value = visible(d, v)
		}
		if overridden {
			e.Synonyms = append(e.Synonyms, SynonymValue{Name: d.Name, Value: visible(d, own), Source: SourceTopic})
		}
		e.Synonyms = append(e.Synonyms, s.chain(d.Synonyms)...)
		if len(d.Synonyms) == 0 && !d.Unset {
			v := d.Default
			if e.Value != nil && !overridden {
				v = *e.Value // remote.storage.enable follows the broker and the cleanup policy
			}
			e.Synonyms = append(e.Synonyms, SynonymValue{Name: d.Name, Value: &v, Source: SourceDefault})
		}
		if len(e.Synonyms) > 0 {
			e.Source = e.Synonyms[0].Source
		}
		out = append(out, e)
	}
	return out
}

// DescribeBroker returns all settings of this broker, by name.
func (s *Settings) DescribeBroker() []Entry {
	out := make([]Entry, 0, len(brokerDefs))
	for i := range brokerDefs {
		d := &brokerDefs[i]
		if d.Internal {
			continue
		}
		e := Entry{Name: d.Name, Type: d.Type, Sensitive: d.Sensitive, Doc: d.Doc, Source: SourceDefault, ReadOnly: d.Dynamic == ReadOnly}
		v, origin, ok := s.lookup(d)
		if ok {
			e.Value, e.Source = visible(d, v), sourceOf(origin.Kind)
		}
		e.Synonyms = s.chain(append([]Synonym{{d.Name, 1}}, d.Synonyms...))
		out = append(out, e)
	}
	slices.SortFunc(out, byName)
	return out
}

// DescribeDefaultBroker returns the cluster-wide dynamic settings, by name: what Kafka answers for
// the broker resource with an empty name.
func (s *Settings) DescribeDefaultBroker() []Entry {
	var out []Entry
	for _, name := range sortedKeys(s.cluster) {
		d, ok := find(ScopeBroker, name)
		if !ok {
			continue
		}
		v := visible(d, s.cluster[name])
		out = append(out, Entry{Name: name, Value: v, Source: SourceDefaultBroker, Sensitive: d.Sensitive, Type: d.Type, Doc: d.Doc,
			Synonyms: []SynonymValue{{Name: name, Value: v, Source: SourceDefaultBroker}}})
	}
	return out
}

// chain lists every value broker settings have: by layer, and in a layer in the order of names
// (Kafka's ConfigHelper.configSynonyms).
func (s *Settings) chain(names []Synonym) []SynonymValue {
	var out []SynonymValue
	add := func(src Source, get func(*Def) (string, bool)) {
		for _, n := range names {
			d, ok := find(ScopeBroker, n.Name)
			if !ok {
				continue
			}
			if v, ok := get(d); ok {
				out = append(out, SynonymValue{Name: d.Name, Value: visible(d, v), Source: src})
			}
		}
	}
	add(SourceBroker, func(d *Def) (string, bool) { v, ok := s.broker[d.Name]; return v, ok })
	add(SourceDefaultBroker, func(d *Def) (string, bool) { v, ok := s.cluster[d.Name]; return v, ok })
	add(SourceStaticBroker, func(d *Def) (string, bool) { v, ok := s.static[d.Name]; return v.value, ok })
	add(SourceDefault, func(d *Def) (string, bool) { return d.Default, !d.Unset })
	return out
}

func sourceOf(k Kind) Source {
	switch k {
	case FromTopic:
		return SourceTopic
	case FromBroker:
		return SourceBroker
	case FromCluster:
		return SourceDefaultBroker
	case FromDefault:
		return SourceDefault
	}
	return SourceStaticBroker
}

func visible(d *Def, v string) *string {
	if d.Sensitive {
		return nil
	}
	return &v
}

func byName(a, b Entry) int {
	switch {
	case a.Name < b.Name:
		return -1
	case a.Name > b.Name:
		return 1
	}
	return 0
}

// String says what the source is, for people.
func (s Source) String() string {
	switch s {
	case SourceTopic:
		return "topic"
	case SourceBroker:
		return "dynamic, this broker"
	case SourceDefaultBroker:
		return "dynamic, cluster-wide"
	case SourceStaticBroker:
		return "configuration"
	}
	return "default"
}
