package scenario

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/console"
)

// Broker is what a scenario needs of the broker it meets; *cluster.Broker is one.
type Broker interface {
	Kafka() string
	HTTP() string
	Tier(ctx context.Context) ([]console.TierPartition, error)
	Kill() error
	Start(ctx context.Context) error
	Log() string
}

// Settings make a broker tier and expire fast enough for a test.
func Settings() map[string]string {
	return map[string]string{
		"log.retention.check.interval.ms":          "200",
		"remote.log.manager.task.interval.ms":      "200",
		"remote.log.manager.task.retry.backoff.ms": "50",
		"group.initial.rebalance.delay.ms":         "0",
		"remote.delete.grace.ms":                   "1000",
		"log.segment.delete.delay.ms":              "100",
	}
}

// partitionCount is the main job's number of partitions.
const partitionCount = 6

// MainJob produces the corpus with kcat into small segments, waits until the
// sealed ones are remote only, and reads everything back, from the beginning
// and by timestamp.
func MainJob(ctx context.Context, t testing.TB, b Broker, c *Corpus, segmentBytes int) {
	const topic = "main-job"
	CreateTopic(ctx, t, b.Kafka(), topic, partitionCount, segmentSetting(segmentBytes), fmt.Sprint(segmentBytes), "local.retention.bytes", "1")
	begin := time.Now()
	produceWithKcat(ctx, t, b.Kafka(), topic, c)
	t.Logf("kcat produced in %s", time.Since(begin).Round(time.Millisecond))
	awaitTiered(ctx, t, b, topic, partitionCount)
	d := newDigests()
	r := readAll(ctx, t, b.Kafka(), topic, d)
	r.checkAgainst(t, c, d)
	r.checkSuffix(ctx, t, b.Kafka(), topic)
	again := readAll(ctx, t, b.Kafka(), topic, d)
	for n := range r.parts {
		if r.parts[n].sum != again.parts[n].sum {
			t.Errorf("partition %d: a second reading differs", n)
		}
	}
}

// produceWithKcat pipes the corpus through kcat, one record a line.
func produceWithKcat(ctx context.Context, t testing.TB, addr, topic string, c *Corpus) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", topic, "-K", "\t",
		"-X", "partitioner=murmur2_random", "-X", "acks=all", "-X", "queue.buffering.max.messages=1000000", "-X", "linger.ms=5")
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("kcat: %v (Debian's package kcat)", err)
	}
	w := bufio.NewWriterSize(in, 1<<20)
	for line, err := range c.Lines() {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", line.Key, line.Value); err != nil {
			t.Fatalf("kcat: %v\n%s", err, errs.String())
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, errs.String())
	}
}
