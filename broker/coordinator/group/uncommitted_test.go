package group

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitOne commits an offset of partition 0 of topic t, of no member.
func (b *bench) commitOne(group string, offset int64) int16 {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 7, group, -1
	rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	rt.Topic, rp.Offset = "t", offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return b.c.OffsetCommit(b.t.Context(), Client{}, req).Topics[0].Partitions[0].ErrorCode
}

// fetchOne fetches it, and returns the code where the version has it.
func (b *bench) fetchOne(version int16, group string) int16 {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group = version, group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{0}
	req.Topics = append(req.Topics, rt)
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	req.Groups = append(req.Groups, rg)
	resp := b.c.OffsetFetch(b.t.Context(), Client{}, req)
	switch {
	case version >= 8:
		return resp.Groups[0].ErrorCode
	case version == 1:
		return resp.Topics[0].Partitions[0].ErrorCode
	}
	return resp.ErrorCode
}

func (b *bench) wantCode(what string, got int16, want *kerr.Error) {
	b.t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		b.t.Errorf("%s: %s, want %s", what, codeName(got), codeName(code))
	}
}

// TestConsumersOfAnyAgeAskAgainForOffsetsThatAreNotCommitted has a commit that no
// replica takes: OffsetFetch waits, and then answers what all consumers know. Those
// before Kafka 3.9 take COORDINATOR_NOT_AVAILABLE there for fatal.
func TestConsumersOfAnyAgeAskAgainForOffsetsThatAreNotCommitted(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		b.log.Hold(true)
		b.wantCode("commit", b.commitOne("g", 5), kerr.CoordinatorNotAvailable)
		for version := int16(1); version <= 9; version++ {
			b.wantCode("fetch", b.fetchOne(version, "g"), kerr.NotCoordinator)
		}
		b.log.Hold(false)
		b.log.Commit(0)
		synctest.Wait()
		b.wantCode("fetch of what is committed", b.fetchOne(7, "g"), nil)
	})
}

// TestWhatChangesNothingTellsOnlyWhatIsCommitted deletes a group twice while no
// replica takes the first: that it is gone is not so before that is committed, since
// another coordinator may bring it back.
func TestWhatChangesNothingTellsOnlyWhatIsCommitted(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		b.wantCode("commit", b.commitOne("g", 5), nil)
		drop := func() int16 {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{"g"}
			return b.c.DeleteGroups(t.Context(), Client{}, req).Groups[0].ErrorCode
		}
		b.log.Hold(true)
		b.wantCode("delete", drop(), kerr.CoordinatorNotAvailable)
		b.wantCode("delete again, uncommitted", drop(), kerr.CoordinatorNotAvailable)
		b.log.Hold(false)
		b.log.Commit(0)
		synctest.Wait()
		b.wantCode("delete again, committed", drop(), kerr.GroupIDNotFound)
	})
}

// TestAProtocolNamedTwiceIsOne joins with one protocol, twice: it is what the group
// then speaks.
func TestAProtocolNamedTwiceIsOne(t *testing.T) {
	config := testConfig()
	config.InitialRebalanceDelay = 0
	bubble(t, config, func(t *testing.T, b *bench) {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.ProtocolType = 2, "g", "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
		p := kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: subscription("t")}
		req.Protocols = append(req.Protocols, p, p)
		resp := b.c.JoinGroup(t.Context(), Client{ID: "a"}, req)
		b.wantCode("join", resp.ErrorCode, nil)
		if deref(resp.Protocol) != "range" {
			t.Errorf("protocol %q, want range", deref(resp.Protocol))
		}
	})
}
