package metadata

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// A later release adds members to values. Everything that this one writes again
// has them still.
func TestUnknownMembersSurviveEveryRewrite(t *testing.T) {
	mem := kv.NewMem()
	s := openStore(t, mem, true)
	register(t, s, 1).Abandon()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	topic := createTopic(t, s, "t", 1)
	tip := TopicIDPartition{topic.ID, 0}
	_, err := s.SwapRemotePointer(t.Context(), tip, RemotePointer{}, 0, RemotePointer{Manifest: "m"})
	check(err)
	_, err = s.AllocateProducerIDs(t.Context(), 1)
	check(err)

	value := func(key string) string {
		t.Helper()
		resp, err := mem.Range(t.Context(), kv.RangeRequest{Key: key})
		if check(err); len(resp.KVs) == 0 {
			t.Fatalf("no key %s", key)
		}
		return string(resp.KVs[0].Value)
	}
	add := func(keys ...string) {
		t.Helper()
		var ops []kv.Op
		for _, key := range keys {
			ops = append(ops, kv.Put(key, []byte(strings.Replace(value(key), "{", `{"later":{"a":[1,2.50]},"elr":[2],`, 1)), 0))
		}
		resp, err := mem.Txn(t.Context(), kv.Txn{Then: ops})
		check(err)
		check(s.WaitRevision(t.Context(), resp.Revision))
	}
	kept := func(what, key string) {
		t.Helper()
		var got map[string]json.RawMessage
		if check(json.Unmarshal([]byte(value(key)), &got)); string(got["later"]) != `{"a":[1,2.50]}` || string(got["elr"]) != "[2]" {
			t.Errorf("%s: %s is %s", what, key, value(key))
		}
	}

	add(s.keys.partition(tip), s.keys.topic("t"), s.keys.remote(tip), s.keys.producerIDs(), s.keys.node(1))
	p, _ := s.Image().PartitionByID(tip)
	to := p
	to.LeaderEpoch++
	to.Kept = Kept{} // as of who makes a state anew
	check(s.AlterPartitions(t.Context(), []PartitionChange{{TopicIDPartition: tip, From: p, To: to}})[0])
	kept("an election", s.keys.partition(tip))
	check(s.AddPartitions(t.Context(), "t", assign(1, 1)))
	kept("more partitions", s.keys.topic("t"))
	pointer, _, err := s.RemotePointer(t.Context(), tip)
	check(err)
	_, err = s.SwapRemotePointer(t.Context(), tip, pointer, 1, RemotePointer{Manifest: "n"})
	check(err)
	kept("another manifest", s.keys.remote(tip))
	_, err = s.AllocateProducerIDs(t.Context(), 1)
	check(err)
	kept("more producer ids", s.keys.producerIDs())
	_, err = mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(s.keys.broker(1), "")}})
	check(err)
	register(t, s, 1)
	kept("a registration", s.keys.node(1))
	check(s.DeleteTopic(t.Context(), "t"))
	kept("a deletion", s.keys.tombstone(topic.ID))
	_, err = s.UndeleteTopic(t.Context(), topic.ID)
	check(err)
	kept("an undeletion", s.keys.topic("t"))
	kept("an undeletion", s.keys.partition(tip))
	check(s.DeleteTopic(t.Context(), "t"))
	check(s.BeginPurge(t.Context(), s.Image().Tombstones()[0]))
	kept("a purge", s.keys.tombstone(topic.ID))
}

// A value of a newer format is refused by its key and its number, at start and
// while running, and is not taken for damage.
func TestNewerFormatIsRefusedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, false)
		topic := createTopic(t, s, "t", 1)
		ran := make(chan error, 1)
		go func() { ran <- s.Run(t.Context()) }()
		key := s.keys.partition(TopicIDPartition{topic.ID, 0})
		put := func(value string) {
			t.Helper()
			if _, err := mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value), 0)}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "format 2") {
				t.Errorf("%s: %v, want a refusal that names format 2 of %s", what, err, key)
			}
		}
		put(`{"format":1,"replicas":[2],"isr":[2],"leader":2}`)
		if p, _ := s.Image().PartitionByID(TopicIDPartition{topic.ID, 0}); p.Leader != 2 {
			t.Errorf("a value that names the first format is not read: %+v", p)
		}
		before := s.Image()
		put(`{"format":2,"replicas":{"2":"a"},"leader":2}`)
		refused("run", <-ran)
		if s.Image() != before {
			t.Error("the image changed")
		}
		_, err := Open(t.Context(), Options{KV: mem})
		refused("open", err)
	})
}

// Nothing can be understood without the cluster's id and the mark of a restore.
func TestStartIsRefusedWhereAllIsInDoubt(t *testing.T) {
	for _, name := range []string{"cluster", "restore"} {
		mem := kv.NewMem()
		s := openStore(t, mem, false)
		if _, err := mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(string(s.keys)+name, []byte("{"), 0)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Options{KV: mem}); err == nil || !strings.Contains(err.Error(), string(s.keys)+name) {
			t.Errorf("%s: open: %v, want an error that names the key", name, err)
		}
	}
}

// What is kept of a value and what is known of it make one object again.
func TestKeptMembersAreWrittenAsTheyWere(t *testing.T) {
	for in, want := range map[string]string{
		`{"next":3,"x":1}`:      `{"next":3,"x":1}`,
		`{"x":{"next":1}}`:      `{"next":0,"x":{"next":1}}`,
		`{"NEXT":3,"format":1}`: `{"next":3,"format":1}`,
		`null`:                  `{"next":0}`,
	} {
		v, err := decode[producerIDsValue](kv.Event{KV: kv.KeyValue{Value: []byte(in)}})
		if err != nil {
			t.Fatal(in, err)
		}
		if diff := cmp.Diff(want, string(encode(v))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
	for _, in := range []string{`{"next":3} {}`, `{"next":"x"}`, `[]`, ``, `{"format":"new"}`} {
		if _, err := decode[producerIDsValue](kv.Event{KV: kv.KeyValue{Value: []byte(in)}}); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}
