package api_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

// TestMetadataDoesNotWaitForThoseWhoWait has many clients wait for etcd, which does not
// answer, with requests whose answers may be large, and then one ask for all topics.
func TestMetadataDoesNotWaitForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var away atomic.Bool
		c.onKV = func(ctx context.Context, call kv.Call) error {
			if away.Load() && call.Kind == kv.CallTxn && !call.After {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		c.start(nil)
		s := c.dial()
		s.topic("t", 1)
		away.Store(true)

		const clients, patience = 10, 20_000
		create := at(kmsg.NewPtrCreateTopicsRequest(), 7)
		create.TimeoutMillis = patience
		q := kmsg.NewCreateTopicsRequestTopic()
		q.Topic, q.NumPartitions, q.ReplicationFactor = "new", 1, 1
		create.Topics = append(create.Topics, q)
		names := at(kmsg.NewPtrMetadataRequest(), 9)
		names.AllowAutoTopicCreation = true
		for i := range 1001 {
			name := text("new-%d", i)
			names.Topics = append(names.Topics, kmsg.MetadataRequestTopic{Topic: &name})
		}
		find := at(kmsg.NewPtrFindCoordinatorRequest(), 4)
		for i := range 100 {
			find.CoordinatorKeys = append(find.CoordinatorKeys, text("%d%s", i, strings.Repeat("x", 1000)))
		}
		for range clients {
			for _, req := range []kmsg.Request{create, names, find} {
				c.dial().send(req)
			}
		}
		synctest.Wait()
		began := time.Now()
		all := do[*kmsg.MetadataResponse](s, at(kmsg.NewPtrMetadataRequest(), 0))
		if waited := time.Since(began); waited > time.Second || len(all.Topics) != 1 {
			t.Errorf("%d topics after %v", len(all.Topics), waited)
		}
	})
}
