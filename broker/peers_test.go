package broker

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// pair is a cluster of two brokers in this process.
type pair struct {
	t  *testing.T
	at [2]Addresses
	b  [2]*Broker
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t}
	etcd, objects := kv.NewMem(), object.NewMem()
	for n := range p.b {
		settings, err := config.Load("", nil, map[string]string{
			"node.id": []string{"1", "2"}[n], "data.dir": "/data", "listeners": "PLAINTEXT://127.0.0.1:0", "http.listen": "127.0.0.1:0",
			"log.segment.bytes": "1048576", "log.retention.check.interval.ms": "100", "log.local.retention.ms": "1", "group.initial.rebalance.delay.ms": "0",
		})
		if err != nil {
			t.Fatal(err)
		}
		if p.b[n], err = New(Options{Settings: settings, FS: vfs.NewMem(), KV: etcd, Objects: objects}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ready, ended := make(chan Addresses, 1), make(chan error, 1)
		go func() { ended <- p.b[n].Run(ctx, func(at Addresses) { ready <- at }) }()
		select {
		case p.at[n] = <-ready:
			t.Cleanup(func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		case err := <-ended:
			stop()
			t.Fatal(err)
		}
	}
	return p
}

// get asks broker n over HTTP.
func (p *pair) get(n int, path string, into any) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.at[n].HTTP+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s %s, %v", path, resp.Status, body, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		p.t.Fatal(err)
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestAnyBrokerTellsCostAndLagOfTheWholeCluster(t *testing.T) {
	p := startPair(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.at[0].Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(50_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	const records = 300
	for n := range 2 * records {
		cl.Produce(t.Context(), &kgo.Record{Topic: "t", Partition: int32(n % 2), Value: make([]byte, 10_000)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	topic, _ := p.b[0].metadata.Image().Topic("t")
	if topic.Partitions[0].Leader == topic.Partitions[1].Leader {
		t.Fatalf("one broker leads both: %+v", topic.Partitions)
	}
	for n := range p.b {
		var lags console.Lags
		eventually(t, "old records of both are in the tier only", func() bool {
			p.get(n, "/api/v1/lag?at=t:0:10&at=t:1:290&at=t:0:300&at=t:7:0", &lags)
			return min(lags.Partitions[0].LocalLogStartOffset, lags.Partitions[1].LocalLogStartOffset) > 10
		})
		l := lags.Partitions
		if l[0].Records != records-10 || l[0].Bytes < (records-10)*10_000 || l[0].ColdRecords != l[0].LocalLogStartOffset-10 ||
			l[0].ColdBytes < l[0].ColdRecords*10_000-100_000 || l[0].Ms <= 0 || l[0].ColdMs < 0 || l[0].Error != "" {
			t.Errorf("broker %d, partition 0: %+v", n+1, l[0])
		}
		if l[1].Records != 10 || l[1].Bytes < 100_000 || l[1].Bytes > 200_000 || l[1].ColdRecords != 0 || l[1].ColdBytes != 0 || l[1].Error != "" {
			t.Errorf("broker %d, partition 1: %+v", n+1, l[1])
		}
		if l[2].Records != 0 || l[2].Bytes != 0 || l[2].Ms != 0 || l[3].Error == "" {
			t.Errorf("broker %d: at the end %+v, without partition %+v", n+1, l[2], l[3])
		}
		least := p.putByEach()
		var sum console.TierCosts
		p.get(n, "/api/v1/tier/cost?topic=t", &sum)
		if !slices.Equal(sum.Counted, []int32{1, 2}) || len(sum.Missing) != 0 || len(sum.Topics) != 1 || sum.Currency != "USD" {
			t.Fatalf("broker %d: %+v", n+1, sum)
		}
		// Copies may go on beside it.
		if got, most := sum.Topics[0], p.putByEach(); got.Put < least || got.Put > most || got.CostPerDay <= 0 {
			t.Errorf("broker %d: %+v, all put %d before and %d after", n+1, got, least, most)
		}
	}
}

// putByEach sums up what each broker alone says it has put of the topic.
func (p *pair) putByEach() (sum int64) {
	p.t.Helper()
	for n := range p.b {
		var own console.TierCosts
		p.get(n, "/api/v1/tier/cost?topic=t&local=true", &own)
		if len(own.Topics) != 1 || own.Topics[0].Put == 0 || own.Topics[0].RemoteBytes == 0 || len(own.Counted) != 1 {
			p.t.Fatalf("broker %d alone: %+v", n+1, own)
		}
		sum += own.Topics[0].Put
	}
	return sum
}

// On another machine, an address of the loopback is somebody else's.
func TestABrokerThatIsNotTheOneAskedIsNotCounted(t *testing.T) {
	p := startPair(t)
	wrong := metadata.Broker{ID: 2, HTTP: p.at[0].HTTP}
	var c console.TierCosts
	err := p.b[0].askPeer(t.Context(), wrong, "/api/v1/tier/cost", nil, &c)
	if err == nil || !strings.Contains(err.Error(), "http.listen") {
		t.Errorf("%v", err)
	}
	if err := p.b[0].askPeer(t.Context(), metadata.Broker{ID: 2}, "/api/v1/tier/cost", nil, &c); err == nil {
		t.Error("a broker without HTTP answered")
	}
}

func TestBrokersAreToldAnAddressTheyCanReach(t *testing.T) {
	kafka := []metadata.Listener{{Host: "b1.example.com", Port: 9092}}
	for bound, want := range map[string]string{
		"127.0.0.1:9644": "127.0.0.1:9644", "[::]:9644": "b1.example.com:9644", "0.0.0.0:9644": "b1.example.com:9644", "10.0.0.7:80": "10.0.0.7:80", "": "",
	} {
		if got := tellHTTP(bound, kafka); got != want {
			t.Errorf("bound to %q: told %q, want %q", bound, got, want)
		}
	}
}
