package group

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/coordinator"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes below follow Kafka's OffsetCommitKey/Value.json and
// GroupMetadataKey/Value.json, field by field.
const (
	goldenOffsetKey = `0001 0001 67 0002 7431 00000007` // g, t1, 7
	goldenGroupKey  = `0002 0001 67`
	goldenOffsetV0  = `0000 000000000000002a 0002 6d64 0000000000000064`
	goldenOffsetV1  = `0001 000000000000002a 0002 6d64 0000000000000064 00000000000000c8`
	goldenOffsetV2  = `0002 000000000000002a 0002 6d64 0000000000000064`
	goldenOffsetV3  = `0003 000000000000002a 00000005 0002 6d64 0000000000000064`
	goldenOffsetV4  = `0004 000000000000002a 00000005 03 6d64 0000000000000064 00`
	goldenOffsetID  = `0004 000000000000002a 00000005 03 6d64 0000000000000064 01 00 10 0102030405060708090a0b0c0d0e0f10`
	goldenOffsetTag = `0004 000000000000002a 00000005 03 6d64 0000000000000064 01 09 02 ffff` // a tag of the future
	goldenGroupV3   = `0003 0008 636f6e73756d6572 00000003 0005 72616e6765 0003 6d2d31 0000000000000064 00000001
		0003 6d2d31 0002 6931 0001 63 000a 2f31302e302e302e3120 0000ea60 00002710 00000002 0a0b 00000001 0c`
	goldenGroupV0 = `0000 0008 636f6e73756d6572 00000003 0005 72616e6765 0003 6d2d31 00000001
		0003 6d2d31 0001 63 000a 2f31302e302e302e3120 00002710 00000002 0a0b 00000001 0c`
	goldenGroupV4 = `0004 09 636f6e73756d6572 00000003 06 72616e6765 04 6d2d31 0000000000000064 02
		04 6d2d31 03 6931 02 63 0b 2f31302e302e302e3120 0000ea60 00002710 03 0a0b 02 0c 00 00`
	goldenGroupEmpty = `0003 0008 636f6e73756d6572 00000004 ffff ffff 0000000000000064 00000000`
)

func TestOffsetRecordsAreKafkas(t *testing.T) {
	id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	for _, c := range []struct {
		name, bytes string
		want        offset
		written     bool // is what we write
	}{
		{"v0", goldenOffsetV0, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: -1}, false},
		{"v1", goldenOffsetV1, offset{offset: 42, metadata: "md", committed: 100, expires: 200, leaderEpoch: -1}, true},
		{"v2", goldenOffsetV2, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: -1}, false},
		{"v3", goldenOffsetV3, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: 5}, false},
		{"v4", goldenOffsetV4, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: 5}, true},
		{"v4 with topic id", goldenOffsetID, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: 5, topicID: id}, true},
		{"v4 with unknown tag", goldenOffsetTag, offset{offset: 42, metadata: "md", committed: 100, expires: -1, leaderEpoch: 5}, false},
	} {
		raw := unhex(t, c.bytes)
		got, err := decodeOffset(raw)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(offset{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if wrote := c.want.encode(); c.written && !bytes.Equal(wrote, raw) {
			t.Errorf("%s: written as\n%x, want\n%x", c.name, wrote, raw)
		}
	}
}

func TestGroupRecordsAreKafkas(t *testing.T) {
	instance := "i1"
	for name, text := range map[string]string{"v0": goldenGroupV0, "v3": goldenGroupV3, "v4": goldenGroupV4, "empty": goldenGroupEmpty} {
		raw := unhex(t, text)
		got, err := decodeGroup(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// kmsg is a second opinion.
		var want kmsg.GroupMetadataValue
		if err := want.ReadFrom(raw); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *got, cmp.AllowUnexported(kmsg.Tags{})); diff != "" {
			t.Errorf("%s (-kmsg +ours):\n%s", name, diff)
		}
	}
	protocol := "range"
	g := newGroup("g", testTime)
	g.generation, g.protocol, g.stateSince = 3, &protocol, 100
	m := &member{id: "m-1", instance: &instance, client: "c", host: "/10.0.0.1 ", rebalanceTimeout: millis(60000), sessionTimeout: millis(10000)}
	m.protocols = []kmsg.JoinGroupRequestProtocol{{Name: "sticky", Metadata: []byte{1}}, {Name: "range", Metadata: []byte{10, 11}}}
	g.add(m, "consumer")
	if got, want := g.encode(map[string][]byte{"m-1": {12}}), unhex(t, goldenGroupV3); !bytes.Equal(got, want) {
		t.Errorf("group written as\n%x, want\n%x", got, want)
	}
	g.remove("m-1")
	g.generation, g.protocol = 4, nil
	if got, want := g.encode(nil), unhex(t, goldenGroupEmpty); !bytes.Equal(got, want) {
		t.Errorf("empty group written as\n%x, want\n%x", got, want)
	}
}

func TestKeysAreKafkas(t *testing.T) {
	if got, want := offsetKey("g", "t1", 7), unhex(t, goldenOffsetKey); !bytes.Equal(got, want) {
		t.Errorf("offset key %x, want %x", got, want)
	}
	if got, want := groupKey("g"), unhex(t, goldenGroupKey); !bytes.Equal(got, want) {
		t.Errorf("group key %x, want %x", got, want)
	}
	for _, version := range []string{"0000", "0001"} { // v0 is of Kafka 0.8
		got, err := decodeKey(unhex(t, version+goldenOffsetKey[4:]))
		if want := (recordKey{offset: true, group: "g", topic: "t1", partition: 7}); err != nil || got != want {
			t.Errorf("key = %+v, %v; want %+v", got, err, want)
		}
	}
	// ConsumerGroupMetadataKey and the others of KIP-848.
	for _, text := range []string{"0003 0001 67", "0005 0001 67 0001 6d", "ffff"} {
		if _, err := decodeKey(unhex(t, text)); !errors.Is(err, coordinator.ErrUnknownRecord) {
			t.Errorf("key %s: %v, want ErrUnknownRecord", text, err)
		}
	}
	for _, text := range []string{"0009 00", "7fff"} {
		if _, err := decodeOffset(unhex(t, text)); !errors.Is(err, coordinator.ErrUnknownRecord) {
			t.Errorf("offset value %s: %v, want ErrUnknownRecord", text, err)
		}
		if _, err := decodeGroup(unhex(t, text)); !errors.Is(err, coordinator.ErrUnknownRecord) {
			t.Errorf("group value %s: %v, want ErrUnknownRecord", text, err)
		}
	}
}

// Kafka: Utils.abs("...".hashCode()) % 50, the hash codes from Java.
func TestGroupsAreInTheSamePartitionsAsInKafka(t *testing.T) {
	for group, want := range map[string]int32{
		"":                   0,
		"a":                  97 % 50,
		"test":               3556498 % 50,
		"hello world":        1794106052 % 50,
		"console-consumer-1": 0, // replaced below
		"polygenelubricants": 0, // Integer.MIN_VALUE has no absolute value
		"grüße":              0, // replaced below
		"😀":                  1772899 % 50,
	} {
		if group == "console-consumer-1" || group == "grüße" {
			want = javaReference(group)
		}
		if got := partitionOf(group, 50); got != want {
			t.Errorf("partition of %q = %d, want %d", group, got, want)
		}
	}
}

// javaReference is s[0]*31^(n-1) + … of a string in the basic plane.
func javaReference(s string) int32 {
	var h int64
	for _, r := range s {
		h = int64(int32(31*h + int64(r)))
	}
	if h < 0 {
		h = -h
	}
	return int32(h % 50)
}

// allocated returns the bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzRecords(f *testing.F) {
	for _, text := range []string{goldenOffsetKey, goldenGroupKey, goldenOffsetV0, goldenOffsetV1, goldenOffsetV3, goldenOffsetID,
		goldenOffsetTag, goldenGroupV0, goldenGroupV3, goldenGroupV4, goldenGroupEmpty,
		`0003 0000 00000000 ffff ffff 0000000000000000 7fffffff`,        // two billion members
		`0004 000000000000002a 00000005 01 0000000000000064 ffffffff0f`, // four billion tags
		`0004 01 00000003 00 00 0000000000000064 ffffffff0f`, `0002 ffff`} {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o offset
		var offsetErr error
		used := allocated(func() {
			decodeKey(b)
			o, offsetErr = decodeOffset(b)
			decodeGroup(b)
			subscriptionsOf(b)
		})
		// A member of 9 bytes is a struct of about 200, in a slice that doubles.
		if limit := uint64(16<<10 + 128*len(b)); used > limit {
			t.Errorf("decoding %d bytes allocated %d, want at most %d", len(b), used, limit)
		}
		if offsetErr != nil {
			return
		}
		again, err := decodeOffset(o.encode())
		if o.expires < 0 {
			o.expires = -1
		} else {
			o.leaderEpoch, o.topicID = -1, [16]byte{} // the version with an expiry has neither
		}
		if err != nil || again != o {
			t.Errorf("offset %+v written and read is %+v, %v", o, again, err)
		}
	})
}

func subscriptionsOf(metadata []byte) map[string]struct{} {
	protocol := "p"
	g := newGroup("g", testTime)
	g.protocol = &protocol
	g.add(&member{id: "m", protocols: []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: metadata}}}, consumerProtocol)
	return g.readSubscriptions()
}
