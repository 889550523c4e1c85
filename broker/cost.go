package broker

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/cost"
)

// topicName is the name of a topic that there is.
func (b *Broker) topicName(id metadata.TopicID) (string, bool) {
	t, ok := b.metadata.Image().TopicByID(id)
	if !ok {
		return "", false
	}
	return t.Name, true
}

// prices are remote.price.* as they are now.
func (b *Broker) prices() cost.Prices {
	p := b.settings.Load().Broker().Remote.Price
	return cost.Prices{PutPer1000: p.PutPer1000, GetPer1000: p.GetPer1000, GBMonth: p.GBMonth, EgressGB: p.EgressGB}
}

// viewCosts is `tier cost`: what this broker counted, and unless local what the other live ones did.
func (b *Broker) viewCosts(ctx context.Context, local bool) (console.TierCosts, error) {
	now, p := time.Now(), b.prices()
	rows, since := b.tier.Costs(now, p)
	out := console.TierCosts{
		ClusterID: b.addresses.ClusterID, Broker: int32(b.self()), Counted: []int32{int32(b.self())}, Missing: []console.BrokerGap{},
		Since: since, Currency: b.settings.Load().Broker().Remote.Price.Currency,
		Prices: console.TierPrices{PutPer1000: p.PutPer1000, GetPer1000: p.GetPer1000, GBMonth: p.GBMonth, EgressGB: p.EgressGB},
		Topics: []console.TierCost{},
	}
	for _, r := range rows {
		u := r.Used
		out.Topics = append(out.Topics, console.TierCost{
			Topic: r.Topic, RemoteBytes: r.RemoteBytes, RemoteSegments: r.Segments,
			Put: u.Put, Get: u.Get, Head: u.Head, List: u.List, Delete: u.Delete, BytesIn: u.BytesIn, BytesOut: u.BytesOut,
			CacheHits: u.CacheHits, CacheMisses: u.CacheMisses, CacheHitBytes: u.CacheHitBytes, CacheMissBytes: u.CacheMissBytes,
			CostPerDay: r.PerDay,
		})
	}
	if !local {
		b.addCosts(ctx, &out)
	}
	out.WindowMs = max(now.Sub(out.Since).Milliseconds(), 0)
	return out, nil
}

// addCosts asks the other brokers at once and adds what they say.
func (b *Broker) addCosts(ctx context.Context, sum *console.TierCosts) {
	at := make(map[string]int, len(sum.Topics))
	for i, t := range sum.Topics {
		at[t.Topic] = i
	}
	var mu sync.Mutex // guards sum and at
	var asked sync.WaitGroup
	for _, peer := range b.metadata.Image().Brokers() {
		if peer.ID == b.self() {
			continue
		}
		asked.Go(func() {
			var one console.TierCosts
			err := b.askPeer(ctx, peer, "/api/v1/tier/cost", url.Values{"local": {"true"}}, &one)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				sum.Missing = append(sum.Missing, console.BrokerGap{Broker: int32(peer.ID), Reason: err.Error()})
				return
			}
			mergeCosts(sum, at, one)
		})
	}
	asked.Wait()
	slices.Sort(sum.Counted)
	slices.SortFunc(sum.Missing, func(a, b console.BrokerGap) int { return cmp.Compare(a.Broker, b.Broker) })
	slices.SortFunc(sum.Topics, func(a, b console.TierCost) int {
		// The rows that are no topic's have names in brackets, and come last.
		return cmp.Or(cmp.Compare(strings.Count(a.Topic, "("), strings.Count(b.Topic, "(")), strings.Compare(a.Topic, b.Topic))
	})
}

// mergeCosts adds one broker's answer; at says where the topics are in sum.
func mergeCosts(sum *console.TierCosts, at map[string]int, one console.TierCosts) {
	sum.Counted = append(sum.Counted, one.Broker)
	if one.Since.After(sum.Since) {
		sum.Since = one.Since
	}
	for _, t := range one.Topics {
		i, ok := at[t.Topic]
		if !ok {
			at[t.Topic] = len(sum.Topics)
			sum.Topics = append(sum.Topics, t)
			continue
		}
		sum.Topics[i].Add(t)
	}
}
