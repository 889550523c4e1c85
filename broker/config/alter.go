package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// OpKind is what a change does, numbered as in Kafka's IncrementalAlterConfigs.
type OpKind int8

// Kafka's AlterConfigOp.OpType.
const (
	OpSet      OpKind = 0
	OpDelete   OpKind = 1
	OpAppend   OpKind = 2
	OpSubtract OpKind = 3
)

// Op is one change of one setting.
type Op struct {
	Name  string
	Kind  OpKind
	Value *string
}

// AlterTopic applies changes to a topic's overrides and returns the new overrides, validated. current
// is not changed. Errors have ErrInvalid or ErrInvalidRequest in their chain and Kafka's message.
func (s *Settings) AlterTopic(current map[string]string, ops []Op) (map[string]string, error) {
	next, err := apply(ScopeTopic, current, ops)
	if err != nil {
		return nil, err
	}
	if next, err = checkTopicValues(current, next); err != nil {
		return nil, err
	}
	return next, s.validateAlteration(current, next)
}

// CreateTopic validates the overrides of a new topic and returns them with their values in their
// canonical spelling.
func (s *Settings) CreateTopic(overrides map[string]string) (map[string]string, error) {
	out, err := checkTopicValues(nil, overrides)
	if err != nil {
		return nil, err
	}
	return out, s.validateTopic(out)
}

// ReplaceTopic validates a whole new set of overrides of a topic that exists (AlterConfigs) and returns
// it with its values in their canonical spelling. Who writes back what DescribeConfigs answered has not
// asked for a value of remote.storage.enable: it goes on following the broker and the cleanup policy.
func (s *Settings) ReplaceTopic(current, next map[string]string) (map[string]string, error) {
	out, err := checkTopicValues(current, next)
	if err != nil {
		return nil, err
	}
	if v, given := out[remoteEnable]; given && v == s.withoutOwn(current) && v == s.withoutOwn(out) {
		if _, own := current[remoteEnable]; !own {
			delete(out, remoteEnable)
		}
	}
	return out, s.validateAlteration(current, out)
}

// remoteEnable is the setting whose default depends on others.
const remoteEnable = "remote.storage.enable"

// withoutOwn is the value of remote.storage.enable that follows from the other overrides.
func (s *Settings) withoutOwn(overrides map[string]string) string {
	return strconv.FormatBool(s.remoteByDefault(overrides))
}

func (s *Settings) validateAlteration(current, next map[string]string) error {
	if err := s.validateUntiering(current, next); err != nil {
		return err
	}
	return s.validateTopic(next)
}

// checkTopicValues checks what is given, but for what is stored already: that may be a newer version's.
func checkTopicValues(current, given map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(given))
	for _, name := range sortedKeys(given) {
		if old, ok := current[name]; ok && old == given[name] {
			out[name] = old
			continue
		}
		v, err := checkTopicValue(name, given[name])
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// AlterBroker applies changes to dynamic broker settings: those of one broker, or with perBroker
// false the cluster-wide ones. It returns the new whole state. Neither s nor current is changed.
func (s *Settings) AlterBroker(current map[string]string, perBroker bool, ops []Op) (map[string]string, error) {
	next, err := apply(ScopeBroker, current, ops)
	if err != nil {
		return nil, err
	}
	return s.ReplaceBroker(current, next, perBroker)
}

// ReplaceBroker is AlterBroker for AlterConfigs, which sends the whole new state. What did not change
// is not looked at again.
func (s *Settings) ReplaceBroker(current, next map[string]string, perBroker bool) (map[string]string, error) {
	out := make(map[string]string, len(next))
	for _, name := range sortedKeys(next) {
		if old, ok := current[name]; ok && old == next[name] {
			out[name] = old
			continue
		}
		v, err := checkDynamic(name, next[name], perBroker)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	cluster, broker := out, s.broker
	if perBroker {
		cluster, broker = s.cluster, out
	}
	if _, err := newSettings(s.static, cluster, broker); err != nil {
		return nil, err
	}
	return out, nil
}

// apply works changes into a copy of current. Kafka refuses a request that names a setting twice.
func apply(scope Scope, current map[string]string, ops []Op) (map[string]string, error) {
	next := maps.Clone(current)
	if next == nil {
		next = map[string]string{}
	}
	seen := map[string]bool{}
	for _, op := range ops {
		if seen[op.Name] {
			return nil, fmt.Errorf("%w: Error due to duplicate config keys: %s", ErrInvalidRequest, op.Name)
		}
		seen[op.Name] = true
		d, known := find(scope, op.Name)
		if op.Kind == OpDelete {
			delete(next, op.Name) // what is not known here may still be removed: it may be a newer version's
			continue
		}
		if !known {
			return nil, unknown(scope, op.Name)
		}
		if op.Value == nil {
			return nil, fmt.Errorf("%w: Null value not supported for : %s", ErrInvalidRequest, op.Name)
		}
		switch op.Kind {
		case OpSet:
			next[op.Name] = *op.Value
		case OpAppend, OpSubtract:
			if d.Type != List {
				verb := "append"
				if op.Kind == OpSubtract {
					verb = "subtract"
				}
				return nil, fmt.Errorf("%w: Config value %s is not allowed for config key: %s, its type is not a list", ErrInvalid, verb, op.Name)
			}
			next[op.Name] = alterList(d, next, op)
		default:
			return nil, fmt.Errorf("%w: Unknown operation type %d", ErrInvalidRequest, op.Kind)
		}
	}
	return next, nil
}

// alterList adds to or takes from a list; one that was not set starts from its default.
func alterList(d *Def, current map[string]string, op Op) string {
	old, ok := current[d.Name]
	if !ok {
		old = d.Default
		if len(d.Synonyms) > 0 {
			if b, found := find(ScopeBroker, d.Synonyms[0].Name); found {
				old = b.Default
			}
		}
	}
	parts := splitList(old)
	for _, p := range splitList(*op.Value) {
		at := slices.Index(parts, p)
		switch {
		case op.Kind == OpAppend && at < 0:
			parts = append(parts, p)
		case op.Kind == OpSubtract && at >= 0:
			parts = slices.Delete(parts, at, at+1)
		}
	}
	return strings.Join(parts, ",")
}

// splitSemicolons splits super.users.
func splitSemicolons(v string) []string {
	var out []string
	for p := range strings.SplitSeq(v, ";") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}
