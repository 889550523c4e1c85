package group

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

// onWire encodes a response as its version has it and reads it again.
func onWire[R kmsg.Response](t *testing.T, resp R, version int16) R {
	t.Helper()
	if got := resp.GetVersion(); got != version {
		t.Errorf("%T has version %d, want %d", resp, got, version)
	}
	again := kmsg.ResponseForKey(resp.Key()).(R)
	again.SetVersion(version)
	if err := again.ReadFrom(resp.AppendTo(nil)); err != nil {
		t.Fatalf("%T version %d: %v", resp, version, err)
	}
	return again
}

func TestEveryVersionOfTheMembershipRequests(t *testing.T) {
	for version := int16(0); version <= 9; version++ {
		config := testConfig()
		config.InitialRebalanceDelay = 0
		bubble(t, config, func(t *testing.T, b *bench) {
			ctx, client := t.Context(), Client{ID: "a", Host: "10.0.0.1"}
			join := kmsg.NewPtrJoinGroupRequest()
			join.Version, join.Group, join.ProtocolType = version, "g", "consumer"
			join.SessionTimeoutMillis = 10000
			if version > 0 {
				join.RebalanceTimeoutMillis = 20000
			}
			join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range", Metadata: subscription("t")})
			joined := onWire(t, b.c.JoinGroup(ctx, client, join), version)
			if version >= 4 {
				if joined.ErrorCode != kerr.MemberIDRequired.Code {
					t.Fatalf("join v%d: %s, want MEMBER_ID_REQUIRED", version, codeName(joined.ErrorCode))
				}
				join.MemberID = joined.MemberID
				joined = onWire(t, b.c.JoinGroup(ctx, client, join), version)
			}
			if joined.ErrorCode != 0 || joined.Generation != 1 || len(joined.Members) != 1 || deref(joined.Protocol) != "range" {
				t.Fatalf("join v%d: %+v", version, joined)
			}
			if got, want := deref(joined.ProtocolType), map[bool]string{true: "consumer"}[version >= 7]; got != want {
				t.Errorf("join v%d: protocol type %q, want %q", version, got, want)
			}

			sync := kmsg.NewPtrSyncGroupRequest()
			sync.Version, sync.Group, sync.Generation, sync.MemberID = min(version, 5), "g", 1, joined.MemberID
			sync.GroupAssignment = append(sync.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: joined.MemberID, MemberAssignment: []byte("x")})
			if synced := onWire(t, b.c.SyncGroup(ctx, client, sync), sync.Version); synced.ErrorCode != 0 || string(synced.MemberAssignment) != "x" {
				t.Fatalf("sync v%d: %+v", sync.Version, synced)
			}

			beat := kmsg.NewPtrHeartbeatRequest()
			beat.Version, beat.Group, beat.Generation, beat.MemberID = min(version, 4), "g", 1, joined.MemberID
			if got := onWire(t, b.c.Heartbeat(ctx, client, beat), beat.Version); got.ErrorCode != 0 {
				t.Errorf("heartbeat v%d: %s", beat.Version, codeName(got.ErrorCode))
			}

			describe := kmsg.NewPtrDescribeGroupsRequest()
			describe.Version, describe.Groups = min(version, 6), []string{"g", "none"}
			groups := onWire(t, b.c.DescribeGroups(ctx, client, describe), describe.Version).Groups
			if groups[0].State != "Stable" || groups[0].Members[0].ClientHost != "/10.0.0.1" || string(groups[0].Members[0].MemberAssignment) != "x" {
				t.Errorf("describe v%d: %+v", describe.Version, groups[0])
			}
			want := int16(0)
			if version >= 6 {
				want = kerr.GroupIDNotFound.Code
			}
			if groups[1].State != "Dead" || groups[1].ErrorCode != want {
				t.Errorf("describe v%d of no group: %+v", describe.Version, groups[1])
			}

			list := kmsg.NewPtrListGroupsRequest()
			list.Version = min(version, 5)
			if got := onWire(t, b.c.ListGroups(ctx, client, list), list.Version); len(got.Groups) != 1 || got.Groups[0].ProtocolType != "consumer" {
				t.Errorf("list v%d: %+v", list.Version, got)
			}

			leave := kmsg.NewPtrLeaveGroupRequest()
			leave.Version, leave.Group, leave.MemberID = min(version, 5), "g", "stranger"
			if version >= 3 {
				leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: "stranger"}, {MemberID: joined.MemberID}}
			}
			left := onWire(t, b.c.LeaveGroup(ctx, client, leave), leave.Version)
			switch {
			case version < 3 && left.ErrorCode != kerr.UnknownMemberID.Code:
				t.Errorf("leave v%d of a stranger: %s", version, codeName(left.ErrorCode))
			case version >= 3 && (left.ErrorCode != 0 || left.Members[0].ErrorCode != kerr.UnknownMemberID.Code || left.Members[1].ErrorCode != 0):
				t.Errorf("leave v%d: %+v", leave.Version, left)
			}

			remove := kmsg.NewPtrDeleteGroupsRequest()
			remove.Version, remove.Groups = min(version, 2), []string{"none"}
			if got := onWire(t, b.c.DeleteGroups(ctx, client, remove), remove.Version); got.Groups[0].ErrorCode != kerr.GroupIDNotFound.Code {
				t.Errorf("delete v%d: %+v", remove.Version, got)
			}
		})
	}
}

func commitRequest(version int16, group, topic string, id [16]byte, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = version, group
	t, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	t.Topic, t.TopicID, p.Partition, p.Offset, p.LeaderEpoch = topic, id, partition, offset, 4
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func fetchRequest(version int16, group, topic string, id [16]byte, partitions ...int32) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = version
	if version < 8 {
		req.Group = group
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: partitions}}
		return req
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, TopicID: id, Partitions: partitions}}
	req.Groups = append(req.Groups, g)
	return req
}

// fetched is the offset of the first partition of a response, or its error.
func fetched(resp *kmsg.OffsetFetchResponse) (int64, int16) {
	if resp.Version < 8 {
		if resp.ErrorCode != 0 {
			return -1, resp.ErrorCode
		}
		return resp.Topics[0].Partitions[0].Offset, resp.Topics[0].Partitions[0].ErrorCode
	}
	if g := resp.Groups[0]; g.ErrorCode != 0 || len(g.Topics) == 0 {
		return -1, g.ErrorCode
	}
	p := resp.Groups[0].Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

func TestEveryVersionOfTheOffsetRequests(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		id := [16]byte{1}
		b.topics["t"] = id
		ctx := t.Context()
		for version := int16(2); version <= 10; version++ {
			req := commitRequest(version, "g", "t", id, int32(version), int64(version))
			resp := onWire(t, b.c.OffsetCommit(ctx, Client{}, req), version)
			if got := resp.Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Partition != int32(version) {
				t.Errorf("commit v%d: %+v", version, got)
			}
		}
		for version := int16(1); version <= 10; version++ {
			resp := onWire(t, b.c.OffsetFetch(ctx, Client{}, fetchRequest(version, "g", "t", id, 10, 99)), version)
			if offset, code := fetched(resp); offset != 10 || code != 0 {
				t.Errorf("fetch v%d: offset %d, %s; want 10", version, offset, codeName(code))
			}
			all := fetchRequest(version, "g", "t", id)
			if all.Topics = nil; version >= 8 {
				all.Groups[0].Topics = nil
			}
			if version < 2 {
				continue // null topics are not in its schema
			}
			if offset, code := fetched(onWire(t, b.c.OffsetFetch(ctx, Client{}, all), version)); offset != 2 || code != 0 {
				t.Errorf("fetch of all v%d: offset %d, %s; want 2", version, offset, codeName(code))
			}
		}
		b.c.Unload(0, b.epoch)
		for version := int16(1); version <= 10; version++ {
			resp := onWire(t, b.c.OffsetFetch(ctx, Client{}, fetchRequest(version, "g", "t", id, 10)), version)
			if _, code := fetched(resp); code != kerr.NotCoordinator.Code {
				t.Errorf("fetch v%d elsewhere: %s, want NOT_COORDINATOR", version, codeName(code))
			}
		}
	})
}

func TestOffsetsOfAFormerTopicOfTheNameAreNotServed(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		former, current := [16]byte{1}, [16]byte{2}
		b.topics["t"] = former
		commit := func(req *kmsg.OffsetCommitRequest) int16 {
			return b.c.OffsetCommit(t.Context(), Client{}, req).Topics[0].Partitions[0].ErrorCode
		}
		if code := commit(commitRequest(10, "g", "", former, 0, 5)); code != 0 {
			t.Fatal(codeName(code))
		}
		b.topics["t"] = current
		if code := commit(commitRequest(10, "g", "", former, 1, 5)); code != kerr.UnknownTopicID.Code {
			t.Errorf("commit by an unknown id: %s", codeName(code))
		}
		if offset, code := fetched(b.c.OffsetFetch(t.Context(), Client{}, fetchRequest(10, "g", "", current, 0))); offset != -1 || code != 0 {
			t.Errorf("offset %d, %s; want none", offset, codeName(code))
		}
		if _, code := fetched(b.c.OffsetFetch(t.Context(), Client{}, fetchRequest(10, "g", "", former, 0))); code != kerr.UnknownTopicID.Code {
			t.Errorf("fetch by an unknown id: %s", codeName(code))
		}
		// The deletion of the former topic comes late: it must not hit offsets of the current one.
		if code := commit(commitRequest(10, "g", "", current, 2, 7)); code != 0 {
			t.Fatal(codeName(code))
		}
		if err := b.c.OnTopicsDeleted(t.Context(), []DeletedTopic{{Name: "t", ID: former}}); err != nil {
			t.Fatal(err)
		}
		all, _ := b.c.Summaries(t.Context())
		want := []Committed{{Topic: "t", Partition: 2, Offset: 7, Time: time.Now()}}
		if diff := cmp.Diff(want, all[0].Offsets, cmp.Comparer(func(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() })); diff != "" {
			t.Errorf("offsets (-want +got):\n%s", diff)
		}
	})
}

func TestDeletedTopicsOffsetsGoEvenIfTheirPartitionIsLoading(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		b.c.OffsetCommit(t.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 0, 5))
		b.log.FailReads(errors.New("slow"))
		b.lead()
		done := make(chan error, 1)
		go func() { done <- b.c.OnTopicsDeleted(t.Context(), []DeletedTopic{{Name: "t"}}) }()
		synctest.Wait()
		b.log.FailReads(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if offset, _ := fetched(b.c.OffsetFetch(t.Context(), Client{}, fetchRequest(9, "g", "t", [16]byte{}, 0))); offset != -1 {
			t.Errorf("offset %d of a deleted topic", offset)
		}
	})
}

func TestCommitWithItsOwnRetentionExpiresByIt(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		req := commitRequest(4, "g", "t", [16]byte{}, 0, 5)
		req.RetentionTimeMillis = time.Hour.Milliseconds()
		b.c.OffsetCommit(t.Context(), Client{}, req)
		b.crash() // the expiry is in the log
		time.Sleep(59 * time.Minute)
		if offset, _ := fetched(b.c.OffsetFetch(t.Context(), Client{}, fetchRequest(9, "g", "t", [16]byte{}, 0))); offset != 5 {
			t.Errorf("offset %d before its expiry, want 5", offset)
		}
		time.Sleep(12 * time.Minute)
		if offset, _ := fetched(b.c.OffsetFetch(t.Context(), Client{}, fetchRequest(9, "g", "t", [16]byte{}, 0))); offset != -1 {
			t.Errorf("offset %d after its expiry, want none", offset)
		}
	})
}

func TestTooLargeCommitIsInvalidCommitOffsetSize(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		b.log.FailAppends(func(int32, record.Batch) error { return record.ErrTooLarge })
		resp := b.c.OffsetCommit(t.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 0, 5))
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidCommitOffsetSize.Code {
			t.Errorf("code %s, want INVALID_COMMIT_OFFSET_SIZE", codeName(code))
		}
	})
}

func TestCommitThatIsNotReplicatedInTimeIsRetriable(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		b.log.Hold(true)
		began := time.Now()
		resp := b.c.OffsetCommit(t.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 0, 5))
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != kerr.CoordinatorNotAvailable.Code || time.Since(began) != 5*time.Second {
			t.Errorf("code %s after %v, want COORDINATOR_NOT_AVAILABLE after 5s", codeName(code), time.Since(began))
		}
	})
}

// txnBatch is a batch of offset commits in a transaction, as TxnOffsetCommit
// writes it.
func txnBatch(producer int64, key []byte, o offset) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: producer, Epoch: 1, BaseSequence: -1}})
	b.Append(1, key, o.encode())
	return b.Build()
}

func TestOffsetsOfATransactionCountWhenItIsCommitted(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		put := func(producer int64, partition int32, value int64) {
			b.log.Put(0, txnBatch(producer, offsetKey("g", "t", partition), offset{offset: value, expires: -1, committed: time.Now().UnixMilli()}))
		}
		end := func(producer int64, commit bool) {
			b.log.Put(0, record.NewEndTxnBatch(producer, 1, record.EndTxnMarker{Commit: commit}, 1))
		}
		b.c.OffsetCommit(t.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 4, 40))
		put(1, 0, 10) // committed
		put(2, 1, 20) // aborted
		put(3, 2, 30) // open
		put(4, 3, 33) // overtaken by a plain commit
		put(5, 4, 44) // deleted while pending
		end(1, true)
		end(2, false)
		b.c.OffsetCommit(t.Context(), Client{}, commitRequest(9, "g", "t", [16]byte{}, 3, 99))
		end(4, true)
		tomb := record.NewBuilder(record.BuilderOptions{})
		tomb.Append(1, offsetKey("g", "t", 4), nil)
		b.log.Put(0, tomb.Build())
		end(5, true)
		b.crash()

		fetch := func(stable bool) []int64 {
			req := fetchRequest(9, "g", "t", [16]byte{}, 0, 1, 2, 3, 4)
			req.RequireStable = stable
			var out []int64
			for _, p := range b.c.OffsetFetch(t.Context(), Client{}, req).Groups[0].Topics[0].Partitions {
				if p.ErrorCode == kerr.UnstableOffsetCommit.Code {
					p.Offset = -88
				}
				out = append(out, p.Offset)
			}
			return out
		}
		if got, want := fetch(false), []int64{10, -1, -1, 99, -1}; !slices.Equal(got, want) {
			t.Errorf("offsets %v, want %v", got, want)
		}
		if got, want := fetch(true), []int64{10, -1, -88, 99, -1}; !slices.Equal(got, want) {
			t.Errorf("stable offsets %v, want %v", got, want)
		}
		// A deleted group takes what is pending along.
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{"g"}
		if code := b.c.DeleteGroups(t.Context(), Client{}, del).Groups[0].ErrorCode; code != 0 {
			t.Fatal(codeName(code))
		}
		end(3, true)
		b.crash()
		if groups, _ := b.c.Summaries(t.Context()); len(groups) != 0 {
			t.Errorf("groups left: %+v", groups)
		}
	})
}

func TestMemberOfALoadedGroupHasOneSessionToShowUp(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		p := newPeople(b)
		who := p.get("a")
		p.join(who, "g", 3, 10*time.Second, time.Minute, []string{"t"})
		time.Sleep(3 * time.Second)
		p.settle()
		p.sync(who, "g", map[string]string{"a": "x"})
		p.settle()
		before := p.print("g")
		b.crash()
		if after := p.print("g"); after != before {
			t.Errorf("loaded as\n%s\nwas\n%s", after, before)
		}
		time.Sleep(9 * time.Second)
		if got := p.heartbeat(who, "g"); got != "ok" {
			t.Errorf("heartbeat of the loaded generation: %s", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := p.heartbeat(who, "g"); got != "UNKNOWN_MEMBER_ID" {
			t.Errorf("heartbeat after the session: %s", got)
		}
	})
}

func TestLoweredMaxSizeSendsTheLastAway(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, b *bench) {
		p := newPeople(b)
		for _, name := range []string{"a", "b", "c"} {
			p.join(p.get(name), "g", 3, 10*time.Second, time.Minute, []string{"t"})
			synctest.Wait()
		}
		time.Sleep(6 * time.Second)
		p.settle()
		p.sync(p.get("a"), "g", nil)
		p.sync(p.get("b"), "g", nil)
		p.sync(p.get("c"), "g", nil)
		p.settle()
		b.config.MaxSize = 2
		b.crash()
		if got := p.heartbeat(p.get("a"), "g"); got != "REBALANCE_IN_PROGRESS" {
			t.Errorf("heartbeat: %s, want a rebalance", got)
		}
		for _, name := range []string{"a", "b", "c"} {
			p.join(p.get(name), "g", 3, 10*time.Second, time.Minute, []string{"t"})
			synctest.Wait()
		}
		if got, want := p.settle(), "c: join GROUP_MAX_SIZE_REACHED member="; !slices.Contains(strings.Split(got, "\n"), want) {
			t.Errorf("answers:\n%s\nwant %q among them", got, want)
		}
	})
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Partitions = 0 },
		func(c *Config) { c.MaxSize = 0 },
		func(c *Config) { c.MinSessionTimeout = c.MaxSessionTimeout + 1 },
		func(c *Config) { c.ExpiryInterval = 0 },
		func(c *Config) { c.CommitTimeout = 0 },
	} {
		config := DefaultConfig()
		change(&config)
		if _, err := New(Options{Log: memlog.New(), Config: config}); err == nil {
			t.Errorf("New accepted %+v", config)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("New accepted no log")
	}
	if c, err := New(Options{Log: memlog.New()}); err != nil || c.PartitionOf("test") != 3556498%50 {
		t.Errorf("the zero Config is not Kafka's: %v", err)
	}
}

var _ coordinator.Log = (*memlog.Log)(nil)
