package api_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
)

// set changes settings of a topic, "name=value" each, and returns the answer.
func (k *conn) set(topic string, configs ...string) kmsg.IncrementalAlterConfigsResponseResource {
	k.t.Helper()
	req := at(kmsg.NewPtrIncrementalAlterConfigsRequest(), 1)
	q := kmsg.NewIncrementalAlterConfigsRequestResource()
	q.ResourceType, q.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for _, c := range configs {
		name, value, _ := strings.Cut(c, "=")
		kv := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		kv.Name, kv.Op, kv.Value = name, kmsg.IncrementalAlterConfigOpSet, &value
		q.Configs = append(q.Configs, kv)
	}
	req.Resources = append(req.Resources, q)
	return do[*kmsg.IncrementalAlterConfigsResponse](k, req).Resources[0]
}

// TestTierIsDisabledAndEnabledAgainByIncrementalAlterConfigs is KIP-950 from a client's side.
func TestTierIsDisabledAndEnabledAgainByIncrementalAlterConfigs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"remote.log.manager.task.interval.ms": "1000"})
		k := c.dial()
		k.topic("t", 1, "internal.segment.bytes=2000", "local.retention.bytes=6000")
		k.fill("t", 0, 120)
		k.evicted("t", 0, 60)
		local := k.listOffset("t", 0, -4).Offset
		before := k.readAll("t", 0, 0, 120, 1<<20)

		r := k.set("t", "remote.storage.enable=false")
		code(t, "without the word", r.ErrorCode, kerr.InvalidConfig)
		if r.ErrorMessage == nil || !strings.Contains(*r.ErrorMessage, "remote.log.delete.on.disable=true") {
			t.Errorf("message %v", r.ErrorMessage)
		}
		same(t, "log start", k.listOffset("t", 0, -2).Offset, 0)

		code(t, "disable", k.set("t", "remote.storage.enable=false", "remote.log.delete.on.disable=true").ErrorCode, nil)
		c.until("the log starts where the local log does", func(k *conn) bool { return k.listOffset("t", 0, -2).Offset == local })
		p := do[*kmsg.FetchResponse](k, fetchRequest("t", 0, local-1)).Topics[0].Partitions[0]
		code(t, "fetch below the log start", p.ErrorCode, kerr.OffsetOutOfRange)
		after := k.readAll("t", 0, local, 120, 1<<20)
		if !bytes.HasSuffix(before, after) || len(after) == 0 {
			t.Errorf("%d bytes are left of %d, and others", len(after), len(before))
		}
		same(t, "nothing is in the tier", k.listOffset("t", 0, -5).Offset, -1)
		k.fill("t", 0, 60)
		time.Sleep(time.Minute) // virtual
		same(t, "nothing is copied", k.listOffset("t", 0, -5).Offset, -1)
		same(t, "nothing is evicted", k.listOffset("t", 0, -4).Offset, local)
		whole := k.readAll("t", 0, local, 180, 1<<20)

		code(t, "enable", k.set("t", "remote.storage.enable=true").ErrorCode, nil)
		k.evicted("t", 0, local+60)
		same(t, "log start", k.listOffset("t", 0, -2).Offset, local)
		if got := k.readAll("t", 0, local, 180, 1<<20); !bytes.Equal(got, whole) {
			t.Errorf("%d bytes after, %d before the tier was enabled", len(got), len(whole))
		}
	})
}

// TestCopiesStopAndReadsGoOnWhenCopyingIsDisabled: the tier is read only, and total retention still holds.
func TestCopiesStopAndReadsGoOnWhenCopyingIsDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(map[string]string{"remote.log.manager.task.interval.ms": "1000", "log.retention.check.interval.ms": "1000"})
		k := c.dial()
		k.topic("t", 1, tiered...)
		k.fill("t", 0, 60)
		k.evicted("t", 0, 40)
		code(t, "with less local retention", k.set("t", "remote.log.copy.disable=true").ErrorCode, kerr.InvalidConfig)
		code(t, "disable", k.set("t", "remote.log.copy.disable=true", "local.retention.bytes=-2").ErrorCode, nil)
		time.Sleep(5 * time.Second) // virtual
		tier, local := k.listOffset("t", 0, -5).Offset, k.listOffset("t", 0, -4).Offset
		k.fill("t", 0, 60)
		time.Sleep(2 * time.Hour) // virtual: beyond remote.copy.max.age.ms
		k = c.dial()              // the connection was idle for too long
		same(t, "tier", k.listOffset("t", 0, -5).Offset, tier)
		same(t, "local log start", k.listOffset("t", 0, -4).Offset, local)
		if got := k.readAll("t", 0, 0, 120, 1<<20); len(got) == 0 {
			t.Error("nothing to read")
		}
		code(t, "retention", k.set("t", "retention.bytes=5000").ErrorCode, nil)
		c.until("total retention holds", func(k *conn) bool { return k.listOffset("t", 0, -2).Offset > tier })
	})
}

// TestQuietTopicIsInTheTierAfterMaxAge: a record every now and then.
func TestQuietTopicIsInTheTierAfterMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t).start(nil).dial()
		k.topic("t", 1, "remote.copy.max.age.ms=600000")
		for n := range int64(5) {
			k.produce("t", 0, "x")
			time.Sleep(590 * time.Second) // virtual
			same(t, "in the tier before the age", k.listOffset("t", 0, -5).Offset, n-1)
			time.Sleep(20 * time.Second) // virtual
			same(t, "in the tier after the age", k.listOffset("t", 0, -5).Offset, n)
		}
	})
}

// TestBrokerDoesNotRunWithoutTheTierThatItsTopicsNeed: the log start would move over what is only there.
func TestBrokerDoesNotRunWithoutTheTierThatItsTopicsNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		k := c.dial()
		k.topic("t", 1, tiered...)
		k.fill("t", 0, 60)
		k.evicted("t", 0, 40)
		c.stop()
		s, err := config.Load("", nil, map[string]string{
			"node.id": "1", "data.dir": "/data", "listeners": "PLAINTEXT://" + address, "http.listen": "",
			"remote.store.url": "file:///objects", "remote.log.storage.system.enable": "false",
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := broker.New(broker.Options{
			Settings: s, FS: c.disk, KV: c.kv.Client(nil), Objects: c.objects, Dial: c.network.Dial,
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return c.network.Listen(addr) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Run(ctx, func(broker.Addresses) {}); err == nil || !strings.Contains(err.Error(), "records of 1 partitions") {
			t.Errorf("ran: %v", err)
		}
		c = c.start(nil)
		same(t, "log start", c.dial().listOffset("t", 0, -2).Offset, 0)
	})
}
