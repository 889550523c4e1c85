package api_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// ghost is a broker that is registered and nothing else: others see it in the
// metadata, and nobody answers at its address.
type ghost struct{ *metadata.Session }

func (c *cluster) ghost(r metadata.Registration) ghost {
	c.t.Helper()
	store, err := metadata.Open(c.t.Context(), metadata.Options{KV: c.kv.Client(nil)})
	if err != nil {
		c.t.Fatal(err)
	}
	r.Incarnation, r.DirectoryID = time.Now().String(), text("directory of %d", r.ID)
	if r.Listeners == nil {
		r.Listeners = []metadata.Listener{{Name: "PLAINTEXT", Host: text("broker-%d", r.ID), Port: 9092, Protocol: "PLAINTEXT"}}
	}
	s, err := store.RegisterBroker(c.t.Context(), r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Abandon)
	c.until("broker is registered", func(k *conn) bool {
		req := at(kmsg.NewPtrDescribeClusterRequest(), 2)
		req.IncludeFencedBrokers = true
		// One without the client's listener is not shown: its registration is awaited by the next step.
		return r.Listeners[0].Name != "PLAINTEXT" || slices.ContainsFunc(do[*kmsg.DescribeClusterResponse](k, req).Brokers, func(b kmsg.DescribeClusterResponseBroker) bool {
			return b.NodeID == int32(r.ID) && !b.IsFenced
		})
	})
	return ghost{s}
}

// leave ends the ghost's registration and waits until the broker knows.
func (c *cluster) leave(g ghost) {
	c.t.Helper()
	if err := g.Close(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.until("broker is gone", func(k *conn) bool {
		return !slices.ContainsFunc(do[*kmsg.MetadataResponse](k, askTopic(12, "t", false)).Brokers, func(b kmsg.MetadataResponseBroker) bool {
			return b.NodeID == int32(g.Broker().ID)
		})
	})
}

// until asks again and again, for half a minute.
func (c *cluster) until(what string, holds func(k *conn) bool) {
	c.t.Helper()
	k := c.dial()
	for began := time.Now(); !holds(k); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			c.t.Fatalf("never: %s\n%s", what, c.log.String())
		}
	}
}

// assigned creates a topic with the replicas of each partition.
func (k *conn) assigned(name string, replicas ...[]int32) kmsg.CreateTopicsResponseTopic {
	k.t.Helper()
	q := createTopic(name, -1)
	q.ReplicationFactor = -1
	for n, ids := range replicas {
		as := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		as.Partition, as.Replicas = int32(n), ids
		q.ReplicaAssignment = append(q.ReplicaAssignment, as)
	}
	req := at(kmsg.NewPtrCreateTopicsRequest(), 7)
	req.Topics = append(req.Topics, q)
	return do[*kmsg.CreateTopicsResponse](k, req).Topics[0]
}

func (k *conn) metadataOf(topic string) (*kmsg.MetadataResponse, kmsg.MetadataResponseTopic) {
	k.t.Helper()
	resp := do[*kmsg.MetadataResponse](k, askTopic(12, topic, false))
	return resp, resp.Topics[0]
}

// TestClientsFindTheirWayInACluster has five brokers: this one, one that leads, a
// replay broker, and one that clients cannot reach.
func TestClientsFindTheirWayInACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"broker.rack": "r1"})
		k := c.dial()
		leader := c.ghost(metadata.Registration{ID: 2, Rack: "r2"})
		c.ghost(metadata.Registration{ID: 3, Rack: "r3", Role: metadata.RoleReplay})
		c.ghost(metadata.Registration{ID: 4, Rack: "r4", Listeners: []metadata.Listener{{Name: "INTERNAL", Host: "broker-4", Port: 1, Protocol: "PLAINTEXT"}}})
		c.until("the unreachable broker may hold partitions", func(k *conn) bool { return k.assigned("probe", []int32{4}).ErrorCode == 0 })

		topic := k.assigned("t", []int32{2}, []int32{1}, []int32{4})
		code(t, "create", topic.ErrorCode, nil)
		code(t, "create", k.assigned("both", []int32{1, 2}).ErrorCode, nil)
		resp, rt := k.metadataOf("t")
		var brokers []string
		for _, b := range resp.Brokers {
			brokers = append(brokers, text("%d %s:%d %s", b.NodeID, b.Host, b.Port, *b.Rack))
		}
		same(t, "brokers, the replay broker too", text("%v", brokers), "[1 broker-1:9092 r1 2 broker-2:9092 r2 3 broker-3:9092 r3]")
		same(t, "controller", resp.ControllerID, 1)
		for n, want := range []struct {
			leader int32
			err    *kerr.Error
		}{{2, nil}, {1, nil}, {-1, kerr.ListenerNotFound}} {
			same(t, text("leader of %d", n), rt.Partitions[n].Leader, want.leader)
			code(t, text("partition %d", n), rt.Partitions[n].ErrorCode, want.err)
		}

		code(t, "replicas on a replay broker", k.assigned("u", []int32{1, 3}).ErrorCode, kerr.InvalidReplicaAssignment)
		code(t, "replicas on nobody", k.assigned("u", []int32{9}).ErrorCode, kerr.InvalidReplicaAssignment)
		wide := at(kmsg.NewPtrCreateTopicsRequest(), 7)
		q := createTopic("u", 1)
		q.ReplicationFactor = 4
		wide.Topics = append(wide.Topics, q)
		code(t, "more replicas than brokers that hold any", do[*kmsg.CreateTopicsResponse](k, wide).Topics[0].ErrorCode, kerr.InvalidReplicationFactor)
		wide.Topics[0].ReplicationFactor = 3
		code(t, "as many", do[*kmsg.CreateTopicsResponse](k, wide).Topics[0].ErrorCode, nil)
		_, rt = k.metadataOf("u")
		if len(rt.Partitions) != 1 {
			t.Fatalf("topic u: %+v", rt)
		}
		same(t, "the replay broker holds nothing", slices.Contains(rt.Partitions[0].Replicas, 3), false)

		code(t, "produce", produced(do[*kmsg.ProduceResponse](k, produceRequest("t", 0, batch("x")))).ErrorCode, kerr.NotLeaderForPartition)
		code(t, "list offsets", k.listOffset("t", 0, -1).ErrorCode, kerr.NotLeaderForPartition)
		fetch := at(kmsg.NewPtrFetchRequest(), 16)
		fetch.MaxBytes, fetch.SessionEpoch, fetch.ReplicaState.ID = 1000, -1, -1
		addFetch(fetch, "", topic.TopicID, 0, 0)
		fetched := do[*kmsg.FetchResponse](k, fetch)
		p := fetched.Topics[0].Partitions[0]
		code(t, "fetch", p.ErrorCode, kerr.NotLeaderForPartition)
		same(t, "leader hint", p.CurrentLeader.LeaderID, 2)
		same(t, "its address", text("%d %s:%d %s", fetched.Brokers[0].NodeID, fetched.Brokers[0].Host, fetched.Brokers[0].Port, *fetched.Brokers[0].Rack), "2 broker-2:9092 r2")

		c.leave(leader)
		_, rt = k.metadataOf("t")
		code(t, "nobody leads", rt.Partitions[0].ErrorCode, kerr.LeaderNotAvailable)
		same(t, "leader", rt.Partitions[0].Leader, -1)
		_, rt = k.metadataOf("both")
		same(t, "the other replica leads", rt.Partitions[0].Leader, 1)
		same(t, "offline", text("%v", rt.Partitions[0].OfflineReplicas), "[2]")
	})
}

// moves lists the reassignments in progress as topic-partition: replicas, adding,
// removing.
func (k *conn) moves(topics ...string) []string {
	k.t.Helper()
	req := at(kmsg.NewPtrListPartitionReassignmentsRequest(), 0)
	for _, name := range topics {
		rt := kmsg.NewListPartitionReassignmentsRequestTopic()
		rt.Topic, rt.Partitions = name, []int32{0, 0, 7}
		req.Topics = append(req.Topics, rt)
	}
	resp := do[*kmsg.ListPartitionReassignmentsResponse](k, req)
	code(k.t, "list reassignments", resp.ErrorCode, nil)
	var out []string
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			out = append(out, text("%s-%d: %v %v %v", rt.Topic, p.Partition, p.Replicas, p.AddingReplicas, p.RemovingReplicas))
		}
	}
	return out
}

// TestReassignmentsBeginAndAreCancelled moves partitions to a broker that never
// copies anything.
func TestReassignmentsBeginAndAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		k := c.dial()
		c.ghost(metadata.Registration{ID: 2})
		c.ghost(metadata.Registration{ID: 3, Role: metadata.RoleReplay})
		code(t, "create", k.assigned("t", []int32{1}, []int32{1}).ErrorCode, nil)
		code(t, "create", k.assigned("u", []int32{1}).ErrorCode, nil)

		begin := reassignRequest(1, "t", 0, []int32{2})
		begin.Topics = append(begin.Topics, reassignRequest(1, "u", 0, []int32{1, 2}).Topics[0], reassignRequest(1, "t", 1, []int32{1, 3}).Topics[0])
		resp := do[*kmsg.AlterPartitionAssignmentsResponse](k, begin)
		for i, want := range []*kerr.Error{nil, nil, kerr.InvalidReplicaAssignment} {
			code(t, text("move %d", i), resp.Topics[i].Partitions[0].ErrorCode, want)
		}
		same(t, "moves", text("%q", k.moves()), `["t-0: [2 1] [2] [1]" "u-0: [1 2] [2] []"]`)
		same(t, "of named topics", text("%q", k.moves("u", "u", "nowhere")), `["u-0: [1 2] [2] []"]`)
		same(t, "served meanwhile", k.produce("t", 0, "x"), 0)

		narrow := reassignRequest(1, "u", 0, []int32{2})
		narrow.AllowReplicationFactorChange = false
		code(t, "another number of replicas than the move is to leave", k.reassign(narrow).ErrorCode, kerr.InvalidReplicationFactor)
		for _, topic := range []string{"t", "u"} {
			code(t, "cancel", k.reassign(reassignRequest(0, topic, 0, nil)).ErrorCode, nil)
			code(t, "cancel again", k.reassign(reassignRequest(0, topic, 0, nil)).ErrorCode, kerr.NoReassignmentInProgress)
		}
		same(t, "moves after the cancellation", len(k.moves()), 0)
		_, rt := k.metadataOf("t")
		same(t, "replicas", text("%v", rt.Partitions[0].Replicas), "[1]")
	})
}

// TestElectionsAreMadeWhereTheyCan elects a preferred leader that came back and
// one that did not catch up.
func TestElectionsAreMadeWhereTheyCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"auto.leader.rebalance.enable": "false"})
		k := c.dial()
		preferred := c.ghost(metadata.Registration{ID: 2})
		code(t, "create", k.assigned("t", []int32{2, 1}, []int32{1, 2}).ErrorCode, nil)
		code(t, "create", k.assigned("alone", []int32{2}).ErrorCode, nil)
		c.leave(preferred)
		c.until("this broker leads what it can", func(k *conn) bool {
			_, rt := k.metadataOf("t")
			return rt.Partitions[0].Leader == 1 && rt.Partitions[1].Leader == 1
		})
		resp := do[*kmsg.ElectLeadersResponse](k, electRequest(2, 0, "t", 0, 1))
		for i, want := range []*kerr.Error{kerr.PreferredLeaderNotAvailable, kerr.ElectionNotNeeded} {
			code(t, text("partition %d", i), resp.Topics[0].Partitions[i].ErrorCode, want)
		}
		all := do[*kmsg.ElectLeadersResponse](k, electRequest(2, 0, ""))
		if len(all.Topics) != 2 || all.Topics[0].Topic != "alone" || len(all.Topics[1].Partitions) != 1 {
			t.Errorf("all that needs an election: %+v", all.Topics)
		}
		code(t, "unclean, and nobody lives", do[*kmsg.ElectLeadersResponse](k, electRequest(2, 1, "alone", 0)).Topics[0].Partitions[0].ErrorCode, kerr.EligibleLeadersNotAvailable)
	})
}

// TestBrokersAreForgottenOnRequest follows a broker from live over fenced to unknown.
func TestBrokersAreForgottenOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		k := c.dial()
		g := c.ghost(metadata.Registration{ID: 2, Rack: "r2"})
		code(t, "create", k.assigned("t", []int32{1, 2}).ErrorCode, nil)
		brokers := func(fenced bool) string {
			req := at(kmsg.NewPtrDescribeClusterRequest(), 2)
			req.IncludeFencedBrokers = fenced
			var out []string
			for _, b := range do[*kmsg.DescribeClusterResponse](k, req).Brokers {
				out = append(out, text("%d %s:%d fenced=%v", b.NodeID, b.Host, b.Port, b.IsFenced))
			}
			return text("%v", out)
		}
		unregister := func() int16 {
			req := at(kmsg.NewPtrUnregisterBrokerRequest(), 0)
			req.BrokerID = 2
			return do[*kmsg.UnregisterBrokerResponse](k, req).ErrorCode
		}
		code(t, "live", unregister(), kerr.InvalidRequest)
		c.leave(g)
		same(t, "live brokers", brokers(false), "[1 broker-1:9092 fenced=false]")
		same(t, "all brokers", brokers(true), "[1 broker-1:9092 fenced=false 2 broker-2:9092 fenced=true]")
		code(t, "with replicas", unregister(), kerr.InvalidRequest)
		code(t, "move away", k.reassign(reassignRequest(1, "t", 0, []int32{1})).ErrorCode, nil)
		c.until("nothing is left on it", func(k *conn) bool {
			_, rt := k.metadataOf("t")
			return len(rt.Partitions[0].Replicas) == 1
		})
		code(t, "without", unregister(), nil)
		same(t, "all brokers then", brokers(true), "[1 broker-1:9092 fenced=false]")
		code(t, "again", unregister(), kerr.BrokerIDNotRegistered)
	})
}

// A broker that has given its leaderships away and is about to stop is not told
// of to clients any more: they would go to a port that closes.
func TestStoppingBrokersAreNotRecommended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		g := c.ghost(metadata.Registration{ID: 2})
		shown := func(k *conn) bool {
			return slices.ContainsFunc(do[*kmsg.MetadataResponse](k, askTopic(12, "t", false)).Brokers, func(b kmsg.MetadataResponseBroker) bool {
				return b.NodeID == 2
			})
		}
		c.dial().assigned("led", []int32{2, 1})
		c.until("broker 2 leads", func(k *conn) bool {
			topics := do[*kmsg.MetadataResponse](k, askTopic(12, "led", false)).Topics
			return len(topics) == 1 && len(topics[0].Partitions) == 1 && topics[0].Partitions[0].Leader == 2
		})
		if !shown(c.dial()) {
			t.Fatal("a live broker is not shown")
		}
		if err := g.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.until("broker 2 has gone from the metadata", func(k *conn) bool { return !shown(k) })
		topics := do[*kmsg.MetadataResponse](c.dial(), askTopic(12, "led", false)).Topics
		if got := topics[0].Partitions[0]; got.Leader != 1 || !slices.Contains(got.Replicas, 2) {
			t.Errorf("leader %d, replicas %v: want leader 1, and broker 2 still a replica", got.Leader, got.Replicas)
		}
	})
}
