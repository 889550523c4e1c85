package metadata

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore opens a Store; with run it also keeps its image until the test ends.
func openStore(t *testing.T, k kv.KV, run bool) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{KV: k})
	if err != nil {
		t.Fatal(err)
	}
	if run {
		runStore(t, s)
	}
	return s
}

func runStore(t *testing.T, s *Store) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func register(t *testing.T, s *Store, id BrokerID) *Session {
	t.Helper()
	session, err := s.RegisterBroker(t.Context(), Registration{
		ID: id, DirectoryID: fmt.Sprintf("dir-%d", id), Incarnation: fmt.Sprintf("run-%d", id),
		Listeners: []Listener{{Name: "PLAINTEXT", Host: "host", Port: 9000 + int32(id), Protocol: "PLAINTEXT"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Abandon)
	return session
}

func assign(partitions int, replicas ...BrokerID) [][]BrokerID {
	out := make([][]BrokerID, partitions)
	for i := range out {
		out[i] = replicas
	}
	return out
}

func createTopic(t *testing.T, s *Store, name string, partitions int) *Topic {
	t.Helper()
	topic, err := s.CreateTopic(t.Context(), TopicSpec{Name: name, Assignments: assign(partitions, 1, 2)})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// sameImage compares what readers see.
func sameImage(t *testing.T, want, got *Image) {
	t.Helper()
	type view struct {
		Brokers    []Broker
		Topics     []*Topic
		Tombstones []Tombstone
		Configs    map[string]map[string]string
		Remote     map[TopicIDPartition]RemotePointer
	}
	look := func(im *Image) view {
		v := view{im.Brokers(), im.Topics(), im.Tombstones(), map[string]map[string]string{}, map[TopicIDPartition]RemotePointer{}}
		for name, s := range im.topicConfigs.all() {
			v.Configs[name] = s.values
		}
		for tip, p := range im.remote.all() {
			v.Remote[tip] = p
		}
		return v
	}
	if diff := cmp.Diff(look(want), look(got), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("images differ (-want +got):\n%s", diff)
	}
}
