package controller

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// failover kills a broker of three that have the given number of partitions with
// three replicas each, and returns how long after the end of its lease all were
// led by others, and all decided, in how many revisions.
func failover(t testing.TB, store kv.KV, partitions int) (led, decided time.Duration, revisions int64) {
	t.Helper()
	s, err := metadata.Open(t.Context(), metadata.Options{KV: store, Cluster: fmt.Sprintf("c%d", time.Now().UnixNano())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sessions := map[metadata.BrokerID]*metadata.Session{}
	for id := range metadata.BrokerID(3) {
		sessions[id+1], err = s.RegisterBroker(ctx, metadata.Registration{ID: id + 1, DirectoryID: fmt.Sprint(id), Incarnation: "run", LeaseTTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctl, err := New(Options{Store: s, Sessions: func() *metadata.Session { return sessions[1] }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- ctl.Run(ctx) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, session := range sessions {
			session.Abandon()
		}
	}()
	for n := range partitions / 10 {
		assignments, err := Place(s.Image().Brokers(), 10, 3, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateTopic(ctx, metadata.TopicSpec{Name: fmt.Sprintf("t%d", n), Assignments: assignments}); err != nil {
			t.Fatal(err)
		}
	}
	wake, stop := s.Watch()
	defer stop()
	for s.Image().Controller() != 1 {
		<-wake
	}
	before := s.Image().Revision()
	if err := sessions[2].Close(ctx); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for {
		leads, follows := false, false
		for _, topic := range s.Image().Topics() {
			for _, p := range topic.Partitions {
				leads = leads || p.Leader == 2 || p.Leader == metadata.NoBroker
				follows = follows || slices.Contains(p.ISR, 2)
			}
		}
		if !leads && led == 0 {
			led = time.Since(start)
		}
		if !leads && !follows {
			return led, time.Since(start), s.Image().Revision() - before
		}
		<-wake
	}
}

// A broker of three dies: its leaderships, a third, are decided first, and
// everything in transactions of as many partitions as the store takes.
func TestFailoverOfAThousandPartitionsTakesFewTransactions(t *testing.T) {
	etcd, err := kv.StartEmbedded(t.Context(), kv.EmbeddedOptions{Dir: filepath.Join(t.TempDir(), "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	}()
	const partitions = 1000
	for name, store := range map[string]kv.KV{"memory": kv.NewMem(), "etcd": etcd.KV(), "etcd as others run it": smallTxns{etcd.KV()}} {
		led, decided, revisions := failover(t, store, partitions)
		t.Logf("%s: %d partitions: leaders moved in %s, all decided in %s, %d revisions", name, partitions, led, decided, revisions)
		// One ends the lease; a comparison in each transaction is the fence.
		if perTxn := int64(store.MaxTxnOps() - 1); revisions > 1+(partitions+perTxn-1)/perTxn {
			t.Errorf("%s: %d revisions for %d partitions at %d a transaction", name, revisions, partitions, perTxn)
		}
	}
}

// smallTxns is an etcd with the limit that it has unless it is told otherwise.
type smallTxns struct{ kv.KV }

func (smallTxns) MaxTxnOps() int { return kv.DefaultMaxTxnOps }

func BenchmarkFailover(b *testing.B) {
	for b.Loop() {
		led, decided, _ := failover(b, kv.NewMem(), 1000)
		b.ReportMetric(float64(led.Microseconds()), "µs/led")
		b.ReportMetric(float64(decided.Microseconds()), "µs/decided")
	}
}

// What the controller does at every change of the brokers.
func BenchmarkPlan(b *testing.B) {
	s, err := metadata.Open(b.Context(), metadata.Options{KV: kv.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	for id := range metadata.BrokerID(3) {
		session, err := s.RegisterBroker(b.Context(), metadata.Registration{ID: id + 1, DirectoryID: fmt.Sprint(id), Incarnation: "run"})
		if err != nil {
			b.Fatal(err)
		}
		defer session.Abandon()
	}
	topics := placedTopics(b, fleet(3, 0), 1000, 10, 3)
	for _, t := range topics {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			leader, _ := s.Image().Broker(p.Leader)
			p.LeaderBrokerEpoch = leader.Epoch
		}
	}
	plan := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Plan(s.Image(), nil, topics...)
		}
	}
	b.Run("nothing", plan)
	for _, t := range topics {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			p.ISR = append(without(p.ISR, nil), 4) // which does not live
		}
	}
	b.Run("a dead replica in each", plan)
}
