// Package compat meets the broker with other people's clients: kcat and
// confluent-kafka-go (librdkafka), sarama, segmentio/kafka-go and franz-go. It is
// a module of its own, so that librdkafka and cgo stay out of Coldbrook's.
package compat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// rec is a record as every client can show it.
type rec struct {
	Partition        int32
	Offset           int64
	Key, Value       string
	HeaderK, HeaderV string
	codec            string // of the batch, where the client tells
}

// client is somebody's Kafka client.
type client interface {
	// produce sends the records, compressed by the codec, with acks=all.
	produce(ctx context.Context, addr, topic, codec string, recs []rec) error
	// consume reads n records as the only member of a group, commits and leaves.
	consume(ctx context.Context, addr, topic, group string, n int) ([]rec, error)
}

// clients are what meets the broker, by name.
var clients = []struct {
	name string
	client
}{
	{"franz-go", franz{}},
	{"confluent-kafka-go", confluent{}},
	{"sarama", saramaClient{sarama.V3_6_0_0}},
	{"sarama-2.1", saramaClient{sarama.V2_1_0_0}}, // the oldest protocol versions that Kafka 4 still speaks
	{"segmentio", segmentio{}},
	{"kcat", kcat{}},
}

const partitions = 3

// binary is the broker's program: the one the Makefile built, or one built here.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("COLDBROOK_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "coldbrook")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/coldbrook")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build broker: %v\n%s", err, out)
	}
	return path
}

func startBroker(t *testing.T) *cluster.Broker {
	t.Helper()
	store := servers.MinIO(t)
	store.Bucket(t, "compat")
	b, err := cluster.New(cluster.Options{Kind: cluster.Subprocess, Binary: binary(t), Dir: filepath.Join(t.TempDir(), "data"),
		Settings: scenario.Settings(), StoreURL: store.S3URL("compat"), Env: store.Env()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(b.Log())
		}
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func createTopic(t *testing.T, addr, topic string, partitions int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	segment, one := "16384", "1"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), int32(partitions), -1, map[string]*string{"internal.segment.bytes": &segment, "local.retention.bytes": &one}, topic); err != nil {
		t.Fatal(err)
	}
}

// sent makes n records of one codec. Half of each value does not compress, so
// that small segments roll whatever the codec.
func sent(codec string, n int) []rec {
	rng := rand.New(rand.NewPCG(1, uint64(len(codec))))
	list := make([]rec, n)
	for i := range list {
		noise := make([]byte, 60)
		for j := range noise {
			noise[j] = byte(rng.Uint32())
		}
		list[i] = rec{Partition: int32(i % partitions), Key: fmt.Sprintf("%s-%d", codec, i), Value: fmt.Sprintf("%x %0120d", noise, i), HeaderK: "h", HeaderV: fmt.Sprint(i), codec: codec}
	}
	return list
}

func awaitTiered(ctx context.Context, t *testing.T, topic string, brokers ...*cluster.Broker) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		evicted := make(map[int32]bool)
		var list []console.TierPartition
		for _, b := range brokers {
			own, err := b.Tier(ctx)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, own...)
		}
		for _, p := range list {
			if p.Topic == topic && p.PendingSegments == 0 && p.RemoteSegments > 0 && p.LocalLogStartOffset == p.HighestRemoteOffset+1 {
				evicted[p.Partition] = true
			}
		}
		if len(evicted) == partitions {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not tiered: %+v", list)
		}
	}
}

// codecs by their numbers on the wire.
var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// perCodec is how many records a client writes with each codec.
const perCodec = 600

// write lets a client write with each codec into a topic of its own and waits
// until all but the active segments are in the object store only.
func write(ctx context.Context, t *testing.T, name string, c client, brokers ...*cluster.Broker) (topic string, want []rec) {
	t.Helper()
	topic = "from-" + name
	addr := brokers[0].Kafka()
	createTopic(t, addr, topic, partitions)
	for _, codec := range codecs {
		list := sent(codec, perCodec)
		if name == "kcat" { // cannot give each record its own header
			for i := range list {
				list[i].HeaderK, list[i].HeaderV = "", ""
			}
		}
		if err := c.produce(ctx, addr, topic, codec, list); err != nil {
			t.Fatalf("produce with %s: %v", codec, err)
		}
		want = append(want, list...)
	}
	awaitTiered(ctx, t, topic, brokers...)
	return topic, want
}

// TestClientsReadWhatOthersWrote lets each client write with each codec, waits
// until that is in the object store but for the active segments, and lets every
// client read it in a group of its own: the same records, in order.
func TestClientsReadWhatOthersWrote(t *testing.T) {
	b := startBroker(t)
	meet(t, b)
}

// meet lets each client write and every client read.
func meet(t *testing.T, brokers ...*cluster.Broker) {
	for _, w := range clients {
		t.Run(w.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			topic, want := write(ctx, t, w.name, w, brokers...)
			for _, r := range clients {
				begin := time.Now()
				got, err := r.consume(ctx, brokers[0].Kafka(), topic, "group-"+r.name, len(want))
				if err != nil {
					t.Fatalf("%s reads: %v", r.name, err)
				}
				check(t, r.name, want, got)
				t.Logf("%s read %d records in %s", r.name, len(got), time.Since(begin).Round(time.Millisecond))
			}
		})
	}
}

// TestGroupIsHandedFromClientToClient lets one client after the other go on
// with one group: each reads a part, commits and leaves, and the next starts
// exactly there.
func TestGroupIsHandedFromClientToClient(t *testing.T) {
	b := startBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic, want := write(ctx, t, "franz-go", franz{}, b)
	var got []rec
	for i, r := range clients {
		part := len(want)/len(clients) + 1 // not a border of batches
		if i == len(clients)-1 {
			part = len(want) - len(got)
		}
		list, err := r.consume(ctx, b.Kafka(), topic, "handed", part)
		if err != nil {
			t.Fatalf("%s reads: %v", r.name, err)
		}
		if len(list) != part {
			t.Errorf("%s read %d records, want %d", r.name, len(list), part)
		}
		got = append(got, list...)
	}
	for i := range got {
		got[i].codec = "" // some tell, some do not
	}
	check(t, "all together", want, got)
}

// check compares records by partition, in the order in which they were read.
func check(t *testing.T, reader string, want, got []rec) {
	t.Helper()
	tells := len(got) > 0 && got[0].codec != ""
	per := func(list []rec, n int32) (out []rec) {
		for _, r := range list {
			if r.Partition == n {
				r.Offset = 0
				if !tells {
					r.codec = ""
				}
				out = append(out, r)
			}
		}
		return out
	}
	for n := range int32(partitions) {
		if w, g := per(want, n), per(got, n); !slices.Equal(w, g) {
			t.Errorf("%s: partition %d: %d records, want %d; first %+v, want %+v", reader, n, len(g), len(w), first(g), first(w))
		}
	}
}

func first(list []rec) rec {
	if len(list) == 0 {
		return rec{}
	}
	return list[0]
}
