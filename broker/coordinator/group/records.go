package group

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

// Versions that are written: what Kafka 4.1 and later write. An offset with an
// expiry of its own (OffsetCommit v2–4) needs the only value version that has one.
const (
	offsetKeyVersion      = 1
	groupKeyVersion       = 2
	offsetValueVersion    = 4
	offsetValueWithExpiry = 1
	groupValueVersion     = 3
)

// Versions up to which values are read.
const (
	maxOffsetValueVersion = 4
	maxGroupValueVersion  = 4
)

// errMalformed is a record that does not follow its format.
var errMalformed = errors.New("malformed record")

func offsetKey(group, topic string, partition int32) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: topic, Partition: partition}
	return k.AppendTo(nil)
}

func groupKey(group string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return k.AppendTo(nil)
}

func (o *offset) encode() []byte {
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetValueVersion
	if o.expires >= 0 {
		v.Version = offsetValueWithExpiry
	}
	v.Offset, v.LeaderEpoch, v.Metadata = o.offset, o.leaderEpoch, o.metadata
	v.CommitTimestamp, v.ExpireTimestamp, v.TopicID = o.committed, o.expires, o.topicID
	return v.AppendTo(nil)
}

// encode is the group's GroupMetadata value with these assignments by member.
func (g *classicGroup) encode(assignments map[string][]byte) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation, v.Protocol = g.protocolType, g.generation, g.protocol
	if g.leader != "" {
		v.Leader = &g.leader
	}
	v.CurrentStateTimestamp = g.stateSince
	v.Members = make([]kmsg.GroupMetadataValueMember, len(g.members))
	for i, m := range g.members {
		r := &v.Members[i]
		r.Default()
		r.MemberID, r.InstanceID, r.ClientID, r.ClientHost = m.id, m.instance, m.client, m.host
		r.RebalanceTimeoutMillis = int32(m.rebalanceTimeout.Milliseconds())
		r.SessionTimeoutMillis = int32(m.sessionTimeout.Milliseconds())
		r.Subscription, r.Assignment = m.metadata(deref(g.protocol)), assignments[m.id]
	}
	return v.AppendTo(nil)
}

// recordKey is a decoded record key.
type recordKey struct {
	offset    bool // an OffsetCommitKey, else a GroupMetadataKey
	group     string
	topic     string
	partition int32
}

// decodeKey reads a record's key. Types this version does not know, such as
// those of KIP-848 groups, are coordinator.ErrUnknownRecord.
func decodeKey(b []byte) (recordKey, error) {
	r := reader{b: b}
	version := r.int16()
	var k recordKey
	switch {
	case r.failed:
		return k, fmt.Errorf("%w: key of %d bytes", errMalformed, len(b))
	case version == 0 || version == 1:
		k = recordKey{offset: true, group: r.string(), topic: r.string(), partition: r.int32()}
	case version == 2:
		k = recordKey{group: r.string()}
	default:
		return k, fmt.Errorf("%w: key version %d", coordinator.ErrUnknownRecord, version)
	}
	if r.failed {
		return k, fmt.Errorf("%w: key version %d", errMalformed, version)
	}
	return k, nil
}

func decodeOffset(b []byte) (offset, error) {
	r := reader{b: b}
	version := r.int16()
	if !r.failed && (version < 0 || version > maxOffsetValueVersion) {
		return offset{}, fmt.Errorf("%w: offset commit value version %d", coordinator.ErrUnknownRecord, version)
	}
	r.flexible = version >= 4
	o := offset{expires: -1, leaderEpoch: -1}
	o.offset = r.int64()
	if version >= 3 {
		o.leaderEpoch = r.int32()
	}
	o.metadata = r.string()
	o.committed = r.int64()
	if version == 1 {
		o.expires = r.int64()
	}
	r.tags(func(tag uint64, v []byte) {
		if tag == 0 && len(v) == len(o.topicID) {
			copy(o.topicID[:], v)
		}
	})
	if r.failed {
		return offset{}, fmt.Errorf("%w: offset commit value version %d of %d bytes", errMalformed, version, len(b))
	}
	return o, nil
}

// minMember is the least number of bytes a member takes: four lengths (one byte
// each in flexible versions) and the session timeout.
const minMember = 9

func decodeGroup(b []byte) (*kmsg.GroupMetadataValue, error) {
	r := reader{b: b}
	v := &kmsg.GroupMetadataValue{}
	v.Version = r.int16()
	if !r.failed && (v.Version < 0 || v.Version > maxGroupValueVersion) {
		return nil, fmt.Errorf("%w: group metadata value version %d", coordinator.ErrUnknownRecord, v.Version)
	}
	r.flexible = v.Version >= 4
	v.ProtocolType = r.string()
	v.Generation = r.int32()
	v.Protocol = r.nullableString()
	v.Leader = r.nullableString()
	v.CurrentStateTimestamp = -1
	if v.Version >= 2 {
		v.CurrentStateTimestamp = r.int64()
	}
	n := r.arrayLen(minMember)
	for i := 0; i < n && !r.failed; i++ {
		v.Members = append(v.Members, r.member(v.Version))
	}
	r.tags(nil)
	if r.failed {
		return nil, fmt.Errorf("%w: group metadata value version %d of %d bytes", errMalformed, v.Version, len(b))
	}
	return v, nil
}

func (r *reader) member(version int16) kmsg.GroupMetadataValueMember {
	m := kmsg.NewGroupMetadataValueMember()
	m.MemberID = r.string()
	if version >= 3 {
		m.InstanceID = r.nullableString()
	}
	m.ClientID = r.string()
	m.ClientHost = r.string()
	m.RebalanceTimeoutMillis = -1
	if version >= 1 {
		m.RebalanceTimeoutMillis = r.int32()
	}
	m.SessionTimeoutMillis = r.int32()
	m.Subscription = r.bytes()
	m.Assignment = r.bytes()
	r.tags(nil)
	return m
}

// reader reads Kafka's primitive types from b. After the first that does not
// fit, failed is set and all reads are zero. It allocates no more than b holds.
type reader struct {
	b        []byte
	flexible bool
	failed   bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b) {
		r.failed = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.failed || n <= 0 || v > 1<<32-1 {
		r.failed = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length reads a length; -1 is null.
func (r *reader) length(wide bool) int {
	switch {
	case r.flexible:
		return int(r.uvarint()) - 1
	case wide:
		return int(r.int32())
	default:
		return int(r.int16())
	}
}

func (r *reader) string() string {
	return string(r.take(r.length(false)))
}

func (r *reader) nullableString() *string {
	n := r.length(false)
	if n == -1 {
		return nil
	}
	s := string(r.take(n))
	return &s
}

func (r *reader) bytes() []byte {
	return append([]byte{}, r.take(r.length(true))...)
}

// arrayLen reads the number of elements of at least size bytes each.
func (r *reader) arrayLen(size int) int {
	n := r.length(true)
	if n < 0 || n > len(r.b)/size {
		r.failed = true
		return 0
	}
	return n
}

func (r *reader) tags(fn func(tag uint64, v []byte)) {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.failed; n-- {
		tag := r.uvarint()
		v := r.take(int(r.uvarint()))
		if fn != nil && !r.failed {
			fn(tag, v)
		}
	}
}
