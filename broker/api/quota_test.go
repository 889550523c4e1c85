package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/segment/record"
)

const (
	coldBatch = 20_000 // bytes of a batch of cold topics, about
	perSecond = 200_000
)

// coldTopic makes a topic of n batches per partition and waits until all but the
// last few are in the bucket only.
func (k *conn) coldTopic(name string, partitions int32, n int) {
	k.t.Helper()
	k.topic(name, partitions, "internal.segment.bytes=40000", "local.retention.bytes=1")
	value := strings.Repeat("x", coldBatch-80)
	for p := range partitions {
		for range n {
			k.produce(name, p, value)
		}
	}
	for p := range partitions {
		k.evicted(name, p, int64(n-20))
	}
}

// replayed is what a client got out of the tier.
type replayed struct {
	bytes    int64
	requests int
	throttle time.Duration // the longest that it was told
	began    time.Time
	first    time.Duration // until the first bytes
}

// rate is bytes a second, without what a fresh quota gives at once.
func (r *replayed) rate(free int64) float64 {
	return float64(r.bytes-free) / time.Since(r.began).Seconds()
}

// replay reads partitions of a topic that are cold, as a consumer does, for some
// time.
func (k *conn) replay(topic string, partitions int32, last int64, d time.Duration) *replayed {
	k.t.Helper()
	r := &replayed{began: time.Now()}
	at := make([]int64, partitions)
	for time.Since(r.began) < d {
		req := fetchRequest(topic, 0, at[0])
		for p := int32(1); p < partitions; p++ {
			// Consumers do not always begin with the same.
			addFetch(req, topic, req.Topics[0].TopicID, p, at[p])
		}
		rotate(req.Topics[0].Partitions, r.requests)
		req.MaxWaitMillis, req.MaxBytes = 500, 1<<20
		resp := do[*kmsg.FetchResponse](k, req)
		r.requests++
		time.Sleep(time.Millisecond) // nothing else takes time here
		r.throttle = max(r.throttle, time.Duration(resp.ThrottleMillis)*time.Millisecond)
		for _, p := range resp.Topics[0].Partitions {
			code(k.t, "replay", p.ErrorCode, nil)
			if r.bytes == 0 && len(p.RecordBatches) > 0 {
				r.first = time.Since(r.began)
			}
			r.bytes += int64(len(p.RecordBatches))
			for b := p.RecordBatches; len(b) > 0; {
				one, rest, err := record.Next(b)
				if err != nil {
					k.t.Fatal(err)
				}
				at[p.Partition], b = one.NextOffset(), rest
			}
			if at[p.Partition] > last {
				at[p.Partition] = 0
			}
		}
	}
	return r
}

func rotate[T any](list []T, n int) {
	n %= len(list)
	copy(list, append(append([]T(nil), list[n:]...), list[:n]...))
}

// within fails unless got is within a tenth of want.
func within(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got < 0.9*want || got > 1.1*want {
		t.Errorf("%s: %.0f bytes a second, want %.0f", what, got, want)
	}
}

// A client gets its remote_fetch_byte_rate, whether it comes by one connection or
// by eight, in answers that are neither tiny nor a second apart.
func TestColdReadsAreHeldToTheRateOfTheirClient(t *testing.T) {
	for _, connections := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).start(nil)
			s := c.dial()
			s.coldTopic("t", 1, 300)
			s.quota(quotaEntity("client-id=replay"), "remote_fetch_byte_rate", float64(perSecond))
			synctest.Wait()
			var sum, requests atomic.Int64
			began := time.Now()
			var wg sync.WaitGroup
			for range connections {
				k := c.dialAs("replay")
				wg.Go(func() {
					r := k.replay("t", 1, 270, 20*time.Second)
					sum.Add(r.bytes)
					requests.Add(int64(r.requests))
					if r.throttle == 0 || r.throttle > time.Second {
						t.Errorf("told to come back after %v", r.throttle)
					}
				})
			}
			wg.Wait()
			within(t, fmt.Sprintf("%d connections", connections), float64(sum.Load()-perSecond)/time.Since(began).Seconds(), perSecond)
			if n := requests.Load() / int64(connections); n < 20 || n > 400 {
				t.Errorf("%d requests in 20 s", n)
			}
		})
	}
}

// The most specific quota counts for cold reads too; clients that a default
// covers do not share it, and who has none is not held.
func TestDefaultsAndPrecedenceOfColdQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s := c.dial()
		s.coldTopic("t", 1, 200)
		free := c.dialAs("a").replay("t", 1, 170, 100*time.Millisecond)
		same(t, "throttled without a quota", free.throttle, 0)
		s.quota(quotaEntity("client-id=<default>"), "remote_fetch_byte_rate", float64(perSecond))
		s.quota(quotaEntity("client-id=slow"), "remote_fetch_byte_rate", float64(perSecond)/4)
		s.quota(quotaEntity("user=ANONYMOUS", "client-id=fast"), "remote_fetch_byte_rate", float64(perSecond)*4)
		s.quota(quotaEntity("client-id=fast"), "remote_fetch_byte_rate", 1.0)
		synctest.Wait()
		var wg sync.WaitGroup
		for _, q := range []struct {
			client string
			rate   int64
		}{{"a", perSecond}, {"b", perSecond}, {"slow", perSecond / 4}, {"fast", perSecond * 4}} {
			k := c.dialAs(q.client)
			wg.Go(func() {
				within(t, q.client, k.replay("t", 1, 170, 20*time.Second).rate(q.rate), float64(q.rate))
			})
		}
		wg.Wait()
	})
}

// Producers and readers of new data do not notice a replay that is held back,
// not even one that reads new data in the same fetch.
func TestNobodyElseIsThrottledBesideAReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s := c.dial()
		s.coldTopic("cold", 1, 100)
		s.topic("hot", 1)
		s.quota(quotaEntity("client-id=replay"), "remote_fetch_byte_rate", 20_000.0)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { c.dialAs("replay").replay("cold", 1, 80, 20*time.Second) })
		both, hot, producer := c.dialAs("replay"), c.dialAs("tail"), c.dialAs("producer")
		read := func(k *conn, what string, request func(hotAt int64) *kmsg.FetchRequest) {
			for at, late := int64(0), time.Duration(0); ctx.Err() == nil; {
				resp := do[*kmsg.FetchResponse](k, request(at))
				same(t, what+" told to stay away", resp.ThrottleMillis, 0)
				p := resp.Topics[len(resp.Topics)-1].Partitions[0]
				for _, v := range values(t, p.RecordBatches, at) {
					sent, err := time.Parse(time.RFC3339Nano, v)
					if err != nil {
						t.Error(err)
						return
					}
					at, late = at+1, max(late, time.Since(sent))
				}
				if late > 5*time.Millisecond {
					t.Errorf("%s: a new record came after %v", what, late)
					return
				}
			}
		}
		wg.Go(func() {
			read(hot, "a reader of new data", func(at int64) *kmsg.FetchRequest {
				req := fetchRequest("hot", 0, at)
				req.MaxWaitMillis = 500
				return req
			})
		})
		wg.Go(func() {
			read(both, "a reader of both", func(at int64) *kmsg.FetchRequest { return mixed(500, 1<<20, at, "hot") })
		})
		for ctx.Err() == nil {
			resp := do[*kmsg.ProduceResponse](producer, produceRequest("hot", 0, batch(time.Now().Format(time.RFC3339Nano))))
			same(t, "a producer told to stay away", resp.ThrottleMillis, 0)
			time.Sleep(50 * time.Millisecond)
		}
		wg.Wait()
	})
}

// A reader of old and new data gets its old data at its rate, in the fetches that
// wait for new data.
func TestColdRecordsComeInFetchesThatWaitForNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s, k := c.dial(), c.dialAs("replay")
		s.coldTopic("cold", 1, 100)
		s.topic("hot", 1)
		s.quota(quotaEntity("client-id=replay"), "remote_fetch_byte_rate", float64(perSecond))
		synctest.Wait()
		began, sum := time.Now(), 0
		for time.Since(began) < 20*time.Second {
			resp := do[*kmsg.FetchResponse](k, mixed(500, 1<<20, 0, "hot"))
			sum += len(resp.Topics[0].Partitions[0].RecordBatches)
		}
		within(t, "beside an idle partition", float64(sum-perSecond)/time.Since(began).Seconds(), perSecond)
	})
}

// A quota that is set, changed or removed counts from the next fetch on, and a
// restart knows it.
func TestQuotasChangeAtOnceAndSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		s := c.dial()
		s.coldTopic("t", 1, 200)
		who := quotaEntity("client-id=replay")
		s.quota(who, "remote_fetch_byte_rate", 100.0) // a batch takes minutes
		synctest.Wait()
		c.dialAs("replay").replay("t", 1, 170, 5*time.Second)
		s.quota(who, "remote_fetch_byte_rate", float64(perSecond))
		synctest.Wait()
		if r := c.dialAs("replay").replay("t", 1, 170, 10*time.Second); r.first > 2*time.Second {
			t.Errorf("a quota that was raised let nothing through for %v", r.first)
		}
		c.stop()
		c.start(nil)
		within(t, "after a restart", c.dialAs("replay").replay("t", 1, 170, 20*time.Second).rate(perSecond), perSecond)
		c.dial().quota(who, "remote_fetch_byte_rate", 0.0)
		synctest.Wait()
		same(t, "throttled without a quota", c.dialAs("replay").replay("t", 1, 170, 100*time.Millisecond).throttle, 0)
	})
}

// Producers and consumers are held to Kafka's quotas, hot or cold; who comes by
// another connection while it owes gets no records before it has paid.
func TestProducersAndConsumersAreHeldToTheirRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"quota.window.num": "2"}) // a second's worth at once
		s := c.dial()
		s.coldTopic("cold", 1, 200)
		s.quota(quotaEntity("user=ANONYMOUS", "client-id=held"), "consumer_byte_rate", float64(perSecond), "producer_byte_rate", float64(perSecond))
		synctest.Wait()
		k := c.dialAs("held")
		within(t, "cold", k.replay("cold", 1, 170, 20*time.Second).rate(perSecond), perSecond)

		k, s = c.dialAs("held"), c.dialAs("other")
		s.topic("hot", 1)
		began, sum := time.Now(), 0
		value := strings.Repeat("x", coldBatch)
		for time.Since(began) < 20*time.Second {
			req := produceRequest("hot", 0, batch(value))
			do[*kmsg.ProduceResponse](k, req)
			sum += coldBatch
		}
		within(t, "produced", float64(sum-perSecond)/time.Since(began).Seconds(), perSecond)

		began, sum = time.Now(), 0
		var withheld atomic.Bool
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 4 {
			k := c.dialAs("held")
			wg.Go(func() {
				for time.Since(began) < 20*time.Second {
					resp := do[*kmsg.FetchResponse](k, fetchRequest("hot", 0, 0))
					p := resp.Topics[0].Partitions[0]
					code(t, "fetch", p.ErrorCode, nil)
					if len(p.RecordBatches) == 0 && resp.ThrottleMillis > 0 {
						withheld.Store(true)
					}
					mu.Lock()
					sum += len(p.RecordBatches)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		within(t, "consumed by four connections", float64(sum-perSecond)/time.Since(began).Seconds(), perSecond)
		same(t, "records were withheld", withheld.Load(), true)
	})
}

// What a broker reads from the store is shared between clients, not between
// partitions or connections: eight readers of one partition and one of eight get
// the same each, within the broker's rate, which can be changed; quotas of
// clients hold beside it.
func TestClientsShareTheRateOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 9
		c := newCluster(t).start(nil)
		s := c.dial()
		s.coldTopic("wide", 8, 100)
		for i := range clients - 1 {
			s.coldTopic(fmt.Sprint("t", i), 1, 400)
		}
		s.quota(quotaEntity("client-id=<default>"), "remote_fetch_byte_rate", float64(perSecond))
		req := at(kmsg.NewPtrIncrementalAlterConfigsRequest(), 1)
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType = kmsg.ConfigResourceTypeBroker
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value = "remote.log.manager.fetch.max.bytes.per.second", kmsg.StringPtr(fmt.Sprint(clients*perSecond/4))
		rr.Configs = append(rr.Configs, rc)
		req.Resources = append(req.Resources, rr)
		code(t, "alter", do[*kmsg.IncrementalAlterConfigsResponse](s, req).Resources[0].ErrorCode, nil)
		synctest.Wait()
		var got [clients]int64
		var wg sync.WaitGroup
		for i := range clients {
			k := c.dialAs(fmt.Sprint("client-", i))
			wg.Go(func() {
				if i == 0 {
					got[i] = k.replay("wide", 8, 75, time.Minute).bytes
				} else {
					got[i] = k.replay(fmt.Sprint("t", i-1), 1, 375, time.Minute).bytes
				}
			})
		}
		wg.Wait()
		sum := int64(0)
		for _, n := range got {
			sum += n
		}
		// A second at once, and the last answers come up to half a second late.
		if most := int64(62 * clients * perSecond / 4); sum > most || sum < most*8/10 {
			t.Errorf("%d bytes in a minute, want at most and about %d", sum, most)
		}
		for i, n := range got {
			if share := sum / clients; n < share*7/10 || n > share*13/10 {
				t.Errorf("client %d got %d bytes, a fair share is %d", i, n, share)
			}
		}
	})
}
