package group

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// TestNamesThatNoRecordCanHoldAreRefused: a name that is longer than records have
// lengths for would be read back as another, or as none, and the partition would never
// load again. A member's id is longer than the name it is made of.
func TestNamesThatNoRecordCanHoldAreRefused(t *testing.T) {
	config := testConfig()
	config.InitialRebalanceDelay = 0
	most := strings.Repeat("x", 1<<15-1)
	for _, c := range []struct {
		name            string
		client, group   string
		instance, proto string
		want            *kerr.Error
	}{
		{name: "the longest group", client: "c", group: most, proto: "range"},
		{name: "the longest client", client: most[37:], group: "g", proto: "range"},
		{name: "the longest instance", client: "c", group: "g", instance: most[37:], proto: "range"},
		{name: "a longer group", client: "c", group: most + "x", proto: "range", want: kerr.InvalidRequest},
		{name: "a longer client", client: most[36:], group: "g", proto: "range", want: kerr.InvalidRequest},
		{name: "a longer instance", client: "c", group: "g", instance: most[36:], proto: "range", want: kerr.InvalidRequest},
		{name: "a longer protocol", client: "c", group: "g", proto: most + "x", want: kerr.InvalidRequest},
	} {
		bubble(t, config, func(t *testing.T, b *bench) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.ProtocolType = 3, c.group, "consumer"
			if c.instance != "" {
				req.InstanceID = &c.instance
			}
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: c.proto, Metadata: subscription("t")})
			joined := b.c.JoinGroup(t.Context(), Client{ID: c.client}, req)
			b.wantCode(c.name, joined.ErrorCode, c.want)
			if joined.ErrorCode == 0 {
				synced := kmsg.NewPtrSyncGroupRequest()
				synced.Version, synced.Group, synced.MemberID, synced.Generation = 3, c.group, joined.MemberID, joined.Generation
				b.wantCode(c.name, b.c.SyncGroup(t.Context(), Client{ID: c.client}, synced).ErrorCode, nil)
			}
			b.crash()
			time.Sleep(time.Second)
			_, err := coordinator.Peek(t.Context(), b.c.rt, 0, func(s *shard) (struct{}, error) { return struct{}{}, nil })
			if err != nil {
				t.Errorf("%s: the partition does not load again: %v", c.name, err)
			}
		})
	}
}
