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
	"github.com/coldbrook/coldbrook/metadata"
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

// TestTopicWithoutSettingsOfItsOwnDoesNotLeaveTheTierInPassing: its records in the object store would be out of reach.
func TestTopicWithoutSettingsOfItsOwnDoesNotLeaveTheTierInPassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).start(nil)
		k := c.dial()
		k.topic("bare", 1)
		k.topic("set", 1, "retention.ms=-1")
		for change, word := range map[string]string{"cleanup.policy=compact": "cleanup.policy", "remote.storage.enable=false": "remote.storage.enable"} {
			bare, set := k.set("bare", change), k.set("set", change)
			code(t, change, bare.ErrorCode, kerr.InvalidConfig)
			code(t, change, set.ErrorCode, kerr.InvalidConfig)
			if bare.ErrorMessage == nil || set.ErrorMessage == nil || *bare.ErrorMessage != *set.ErrorMessage || !strings.Contains(*bare.ErrorMessage, word) {
				t.Errorf("%s: %v and %v", change, bare.ErrorMessage, set.ErrorMessage)
			}
			for _, validate := range []bool{true, false} {
				code(t, "whole: "+change, k.replace(kmsg.ConfigResourceTypeTopic, "bare", validate, change).ErrorCode, kerr.InvalidConfig)
			}
			k.topic("new-"+word, 1, change) // nothing is in the tier yet
		}
		code(t, "by default", k.replace(kmsg.ConfigResourceTypeBroker, "", false, "log.cleanup.policy=compact").ErrorCode, kerr.InvalidConfig)
		code(t, "by this broker", k.replace(kmsg.ConfigResourceTypeBroker, "1", true, "log.cleanup.policy=compact").ErrorCode, kerr.InvalidConfig)
		code(t, "another default", k.replace(kmsg.ConfigResourceTypeBroker, "", false, "log.retention.ms=5").ErrorCode, nil)
	})
}

// replace sends the whole configuration of a resource, as AlterConfigs does.
func (k *conn) replace(kind kmsg.ConfigResourceType, name string, validate bool, configs ...string) kmsg.AlterConfigsResponseResource {
	k.t.Helper()
	req := at(kmsg.NewPtrAlterConfigsRequest(), 2)
	req.ValidateOnly = validate
	q := kmsg.NewAlterConfigsRequestResource()
	q.ResourceType, q.ResourceName = kind, name
	for _, c := range configs {
		kv := kmsg.NewAlterConfigsRequestResourceConfig()
		setting, value, _ := strings.Cut(c, "=")
		kv.Name, kv.Value = setting, &value
		q.Configs = append(q.Configs, kv)
	}
	req.Resources = append(req.Resources, q)
	return do[*kmsg.AlterConfigsResponse](k, req).Resources[0]
}

// TestStartDoesNotRaiseLogStart: whatever takes the topic off the tier while the broker is down (another default in its
// file, what an older version stored, a value nobody can read), its records stay where they are.
func TestStartDoesNotRaiseLogStart(t *testing.T) {
	for _, x := range []struct{ name, stored, flag string }{
		{"another default", "", "compact"},
		{"stored by an older version", "cleanup.policy=compact", "delete"},
		{"stored without the word to delete", "remote.storage.enable=false", "delete"},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t).start(nil)
				k := c.dial()
				k.topic("t", 1, tiered...)
				k.fill("t", 0, 60)
				k.evicted("t", 0, 40)
				before := k.readAll("t", 0, 0, 60, 1<<20)
				c.stop()
				if x.stored != "" {
					c.store("t", x.stored)
				}
				c = c.start(map[string]string{"log.cleanup.policy": x.flag})
				k = c.dial()
				same(t, "log start", k.listOffset("t", 0, -2).Offset, 0)
				if got := k.readAll("t", 0, 0, 60, 1<<20); !bytes.Equal(got, before) {
					t.Errorf("%d bytes, %d before", len(got), len(before))
				}
				if !strings.Contains(c.log.String(), "it stays tiered") {
					t.Error("not a word about it")
				}
			})
		})
	}
}

// store writes a setting of a topic as a broker that checks nothing would have.
func (c *cluster) store(topic, setting string) {
	c.t.Helper()
	s, err := metadata.Open(c.t.Context(), metadata.Options{KV: c.kv.Client(nil)})
	if err != nil {
		c.t.Fatal(err)
	}
	name, value, _ := strings.Cut(setting, "=")
	if err := s.AlterConfigs(c.t.Context(), metadata.Resource{Kind: metadata.TopicResource, Name: topic}, map[string]string{name: value}, nil, false); err != nil {
		c.t.Fatal(err)
	}
}
