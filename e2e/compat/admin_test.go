package compat

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

var admins = []struct {
	name string
	open func(addr string) (admin, error)
}{
	{"franz-go", newFranzAdmin},
	{"confluent-kafka-go", newConfluentAdmin},
	{"sarama", newSaramaAdmin(sarama.V3_6_0_0)},
	{"sarama-2.1", newSaramaAdmin(sarama.V2_1_0_0)},
	{"segmentio", newSegmentioAdmin},
}

// TestOperatorsClientsManageTopicsAndGroups takes a topic and a group through
// their lives with each client.
func TestOperatorsClientsManageTopicsAndGroups(t *testing.T) {
	b := startBroker(t)
	for _, c := range admins {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a, err := c.open(b.Kafka())
			if err != nil {
				t.Fatal(err)
			}
			defer a.close()
			topic, group := "managed-by-"+c.name, "managed-by-"+c.name
			ok := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			ok("create topic", a.create(ctx, topic, 2, "3600000"))
			wantConfig(ctx, t, a, topic, "3600000")
			ok("alter topic", a.alter(ctx, topic, "7200000"))
			wantConfig(ctx, t, a, topic, "7200000")
			ok("add a partition", a.grow(ctx, topic, partitions))
			wantPartitions(ctx, t, a, topic, partitions)

			const n, cut = 90, 7
			ok("produce", franz{}.produce(ctx, b.Kafka(), topic, "none", sent("none", n)))
			wantOffsets(ctx, t, a, topic, 0, n/partitions)
			left := n
			switch err := a.truncate(ctx, topic, cut); {
			case err == nil:
				left -= cut
				wantOffsets(ctx, t, a, topic, cut, n/partitions)
			case !errors.Is(err, errNotOffered):
				t.Fatalf("delete records: %v", err)
			}
			_, err = franz{}.consume(ctx, b.Kafka(), topic, group, left)
			ok("consume", err)
			state, committed, err := a.group(ctx, group, topic)
			ok("describe group", err)
			if state != "Empty" || committed != n/partitions {
				t.Errorf("group is %s at offset %d, want Empty at %d", state, committed, n/partitions)
			}
			ok("delete group", a.deleteGroup(ctx, group))
			if state, _, err := a.group(ctx, group, topic); err == nil && state != "Dead" {
				t.Errorf("deleted group is %s, want Dead", state)
			}
			ok("delete topic", a.deleteTopic(ctx, topic))
			wantPartitions(ctx, t, a, topic, 0)
		})
	}
}

func wantConfig(ctx context.Context, t *testing.T, a admin, topic, want string) {
	t.Helper()
	if got, err := a.config(ctx, topic); err != nil || got != want {
		t.Errorf("%s is %q, want %q (%v)", retention, got, want, err)
	}
}

func wantOffsets(ctx context.Context, t *testing.T, a admin, topic string, start, end int64) {
	t.Helper()
	if s, e, err := a.offsets(ctx, topic); err != nil || s != start || e != end {
		t.Errorf("offsets are %d to %d, want %d to %d (%v)", s, e, start, end, err)
	}
}

// wantPartitions waits for a client that remembers what it asked before.
func wantPartitions(ctx context.Context, t *testing.T, a admin, topic string, want int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := a.partitions(ctx, topic)
		if err == nil && got == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d partitions, want %d (%v)", got, want, err)
		}
	}
}
