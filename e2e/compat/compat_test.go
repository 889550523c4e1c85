// Package compat meets the broker with other people's clients: kcat and
// confluent-kafka-go (librdkafka), sarama, segmentio/kafka-go and franz-go. It is
// a module of its own, so that librdkafka and cgo stay out of Coldbrook's.
package compat

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

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
}

// client is somebody's Kafka client.
type client interface {
	// produce sends the records, compressed by the codec, with acks=all.
	produce(ctx context.Context, addr, topic, codec string, recs []rec) error
	// consume reads n records as the only member of a group, commits and leaves.
	consume(ctx context.Context, addr, topic, group string, n int) ([]rec, error)
}

var clients = map[string]client{
	"franz-go":           franz{},
	"confluent-kafka-go": confluent{},
	"sarama":             saramaClient{},
	"segmentio":          segmentio{},
	"kcat":               kcat{},
}

const partitions = 3

func startBroker(t *testing.T) *cluster.Broker {
	t.Helper()
	binary := os.Getenv("COLDBROOK_BINARY")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "coldbrook")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/coldbrook")
		cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build broker: %v\n%s", err, out)
		}
	}
	store := servers.MinIO(t)
	store.Bucket(t, "compat")
	b, err := cluster.New(cluster.Options{Kind: cluster.Subprocess, Binary: binary, Dir: filepath.Join(t.TempDir(), "data"),
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

func createTopic(t *testing.T, addr, topic string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	segment, one := "16384", "1"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, map[string]*string{"segment.bytes": &segment, "local.retention.bytes": &one}, topic); err != nil {
		t.Fatal(err)
	}
}

func sent(n int) []rec {
	list := make([]rec, n)
	for i := range list {
		list[i] = rec{Partition: int32(i % partitions), Key: fmt.Sprintf("key-%d", i), Value: fmt.Sprintf("value-%d %0200d", i, i), HeaderK: "h", HeaderV: fmt.Sprint(i)}
	}
	return list
}

func awaitTiered(t *testing.T, b *cluster.Broker, topic string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := b.Tier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		evicted := 0
		for _, p := range list {
			if p.Topic == topic && p.PendingSegments == 0 && p.RemoteSegments > 0 && p.LocalLogStartOffset == p.HighestRemoteOffset+1 {
				evicted++
			}
		}
		if evicted == partitions {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("not tiered: %+v", list)
		}
	}
}

func byPlace(a, b rec) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}

// TestClientsReadWhatOthersWrote lets each client write with each codec, waits
// until that is in the object store only, and lets every client read it in a
// group of its own: the same records, in order.
func TestClientsReadWhatOthersWrote(t *testing.T) {
	b := startBroker(t)
	const n = 600
	for writer, w := range clients {
		for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			t.Run(writer+"/"+codec, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				topic := "from-" + writer + "-" + codec
				createTopic(t, b.Kafka(), topic)
				want := sent(n)
				if writer == "kcat" { // cannot give each record its own header
					for i := range want {
						want[i].HeaderK, want[i].HeaderV = "", ""
					}
				}
				if err := w.produce(ctx, b.Kafka(), topic, codec, want); err != nil {
					t.Fatalf("produce: %v", err)
				}
				if codec == "none" { // compressed batches may all fit the active segment
					awaitTiered(t, b, topic)
				}
				for reader, r := range clients {
					if codec != "none" && reader != "franz-go" && reader != writer {
						continue
					}
					got, err := r.consume(ctx, b.Kafka(), topic, "group-"+reader, n)
					if err != nil {
						t.Fatalf("%s reads: %v", reader, err)
					}
					check(t, reader, want, got)
				}
			})
		}
	}
}

// check compares records by partition, in order.
func check(t *testing.T, reader string, want, got []rec) {
	t.Helper()
	slices.SortStableFunc(got, byPlace)
	per := func(list []rec, n int32) (out []rec) {
		for _, r := range list {
			if r.Partition == n {
				r.Offset = 0
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
