package metadata

import (
	"context"
	"fmt"
	"maps"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// ResourceKind is what a configuration belongs to.
type ResourceKind uint8

// The kinds of Resource.
const (
	TopicResource ResourceKind = iota
	BrokerResource
)

// Resource names a configuration: of a topic, of one broker (its id in decimal),
// or, with an empty name, of all brokers.
type Resource struct {
	Kind ResourceKind
	Name string
}

// String names the resource for messages.
func (r Resource) String() string {
	switch {
	case r.Kind == TopicResource:
		return fmt.Sprintf("topic %q", r.Name)
	case r.Name == "":
		return "all brokers"
	}
	return "broker " + r.Name
}

func (s *Store) configKey(r Resource) (string, error) {
	switch {
	case r.Kind == TopicResource:
		return s.keys.topicConfig(r.Name), ValidTopicName(r.Name)
	case r.Name == "":
		return s.keys.brokerConfig(defaultBroker), nil
	}
	_, err := parseBroker(r.Name)
	return s.keys.brokerConfig(r.Name), err
}

// AlterConfigs changes the overrides of one resource: it sets, then deletes.
// With replaceAll what is not in set goes. Values are not checked here.
// Errors: ErrUnknownTopic.
func (s *Store) AlterConfigs(ctx context.Context, r Resource, set map[string]string, del []string, replaceAll bool) error {
	return s.ChangeConfigs(ctx, r, func(have map[string]string) (map[string]string, error) {
		next := map[string]string{}
		if !replaceAll {
			maps.Copy(next, have)
		}
		maps.Copy(next, set)
		for _, name := range del {
			delete(next, name)
		}
		return next, nil
	})
}

// ChangeConfigs replaces the overrides of one resource by what change makes of
// those that are stored, which it must not write to. It is called again when
// another change comes in between, so that what it checks is what is in force.
// Its error is the answer, unchanged and with nothing stored.
// Errors: ErrUnknownTopic.
func (s *Store) ChangeConfigs(ctx context.Context, r Resource, change func(have map[string]string) (map[string]string, error)) error {
	key, err := s.configKey(r)
	var refused error
	if err == nil {
		err = s.alterConfigs(ctx, r, key, func(have map[string]string) (next map[string]string, err error) {
			next, refused = change(have)
			return next, refused
		})
	}
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("alter configuration of %s: %w", r, err)
	}
	return nil
}

func (s *Store) alterConfigs(ctx context.Context, r Resource, key string, change func(map[string]string) (map[string]string, error)) error {
	// One read tells the values and that the topic is there.
	look := []kv.Op{kv.Get(key, "")}
	if r.Kind == TopicResource {
		look = append(look, kv.Get(s.keys.topic(r.Name), ""))
	}
	resp, err := s.txn(ctx, "read-configs", kv.Txn{Then: look})
	for {
		if err != nil {
			return err
		}
		t := kv.Txn{If: []kv.Cmp{kv.Absent(key)}, Else: look}
		if r.Kind == TopicResource {
			if len(resp.Gets[1]) == 0 {
				return ErrUnknownTopic
			}
			// Not of a topic that was created anew under the name.
			t.If = append(t.If, kv.CreatedAt(s.keys.topic(r.Name), resp.Gets[1][0].CreateRevision))
		}
		var have map[string]string
		if len(resp.Gets[0]) > 0 {
			t.If[0] = kv.Unchanged(key, resp.Gets[0][0].ModRevision)
			if have, err = decode[map[string]string](kv.Event{KV: resp.Gets[0][0]}); err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
		}
		next, err := change(have)
		if err != nil {
			return err
		}
		if maps.Equal(have, next) {
			return nil
		}
		t.Then = []kv.Op{kv.Put(key, encode(next), 0)}
		if len(next) == 0 {
			t.Then = []kv.Op{kv.Delete(key, "")}
		}
		if resp, err = s.txn(ctx, "alter-configs", t); err == nil && resp.Succeeded {
			s.settle(ctx, resp.Revision)
			return nil
		}
	}
}
