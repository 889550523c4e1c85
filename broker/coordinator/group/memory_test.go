package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMembersTakeBoundedMemory has one member of good faith, and then strangers that
// ask for ids in groups with long names, or come with large subscriptions: together
// they take no more than there is for them, the member goes on, and everything is
// given back when sessions end.
func TestMembersTakeBoundedMemory(t *testing.T) {
	config := testConfig()
	config.InitialRebalanceDelay, config.MemberBytes = 0, 1<<20
	bubble(t, config, func(t *testing.T, b *bench) {
		join := func(version int16, group, member string, metadata int) *kmsg.JoinGroupResponse {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.MemberID, req.ProtocolType = version, group, member, "consumer"
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(config.MaxSessionTimeout.Milliseconds()), 1000
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: make([]byte, metadata)})
			return b.c.JoinGroup(t.Context(), Client{ID: "a"}, req)
		}
		first := join(3, "g", "", 100)
		b.wantCode("the first member", first.ErrorCode, nil)
		b.wantCode("a subscription larger than a share", join(3, "large", "", 1<<18).ErrorCode, kerr.CoordinatorNotAvailable)

		long, admitted := strings.Repeat("x", 30_000), 0
		for i := range 100 {
			resp := join(4, fmt.Sprint(long, i), "", 100)
			if resp.ErrorCode == kerr.CoordinatorNotAvailable.Code {
				break
			}
			b.wantCode("a stranger", resp.ErrorCode, kerr.MemberIDRequired)
			admitted++
		}
		if used := b.c.memory.used.Load(); used > config.MemberBytes || admitted < 20 || admitted > 40 {
			t.Errorf("%d strangers and one member take %d bytes of %d", admitted, used, config.MemberBytes)
		}
		b.wantCode("another stranger", join(4, long, "", 100).ErrorCode, kerr.CoordinatorNotAvailable)
		b.wantCode("the first member, again", join(3, "g", first.MemberID, 100).ErrorCode, nil)

		time.Sleep(config.MaxSessionTimeout + time.Minute)
		if used := b.c.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes are not given back when all sessions have ended", used)
		}
		b.wantCode("a stranger, when there is room", join(4, long, "", 100).ErrorCode, kerr.MemberIDRequired)
		b.c.Unload(0, b.epoch)
		time.Sleep(time.Second)
		if used := b.c.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes are not given back with the partition", used)
		}
	})
}

// TestAssignmentsTakeBoundedMemory has leaders of many groups assign much to themselves.
func TestAssignmentsTakeBoundedMemory(t *testing.T) {
	config := testConfig()
	config.InitialRebalanceDelay, config.MemberBytes = 0, 1<<20
	bubble(t, config, func(t *testing.T, b *bench) {
		assign := func(group string, size int) int16 {
			join := kmsg.NewPtrJoinGroupRequest()
			join.Version, join.Group, join.ProtocolType = 3, group, "consumer"
			join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 10_000, 10_000
			join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: subscription("t")})
			joined := b.c.JoinGroup(t.Context(), Client{ID: "a"}, join)
			b.wantCode("join", joined.ErrorCode, nil)
			sync := kmsg.NewPtrSyncGroupRequest()
			sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, group, joined.MemberID, joined.Generation
			sync.GroupAssignment = append(sync.GroupAssignment,
				kmsg.SyncGroupRequestGroupAssignment{MemberID: joined.MemberID, MemberAssignment: make([]byte, size)})
			return b.c.SyncGroup(t.Context(), Client{ID: "a"}, sync).ErrorCode
		}
		b.wantCode("an assignment larger than a share", assign("large", 1<<18), kerr.CoordinatorNotAvailable)
		admitted := 0
		for ; admitted < 100; admitted++ {
			if code := assign(fmt.Sprint("g", admitted), 100_000); code != 0 {
				b.wantCode("assignments in all there is", code, kerr.CoordinatorNotAvailable)
				break
			}
		}
		if used := b.c.memory.used.Load(); used > config.MemberBytes || admitted < 8 || admitted > 10 {
			t.Errorf("%d assignments take %d bytes of %d", admitted, used, config.MemberBytes)
		}
		time.Sleep(time.Minute)
		if used := b.c.memory.used.Load(); used != 0 {
			t.Errorf("%d bytes are not given back when all sessions have ended", used)
		}
		b.wantCode("when there is room", assign("g", 100_000), nil)
		b.crash()
		if used := b.c.memory.used.Load(); used < 100_000 {
			t.Errorf("%d bytes are claimed when the partition is loaded again", used)
		}
	})
}
