package manifest

import (
	"fmt"
	"strconv"

	"github.com/coldbrook/coldbrook/metadata"
)

// Bounds of the manifest. They are part of the format: a decoder refuses what exceeds them.
const (
	TailEntries   = 100     // entries that a root keeps inline
	LeafEntries   = 1000    // entries of a sealed leaf
	nodeRefs      = 50      // references of a node above the leaves
	maxLevel      = 8       // leafEntries × nodeRefs^7: more than there are segments in the world
	maxRefs       = 2048    // references in a root: 2×nodeRefs per level and nodes unpacked by retention
	maxEpochs     = 1 << 16 // lineage of one root or entry
	maxGarbage    = 512     // items of the garbage list
	MaxDeadNames  = 4096    // names in the whole garbage list
	MaxRootBytes  = 8 << 20
	maxNodeBytes  = 4 << 20
	MaxIndexBytes = 1 << 28 // a segment's .idx
	MaxEntryBytes = 1 << 31 // a segment's .log: Kafka's positions are 32 bits
)

// CRC is a CRC32C, eight hex digits in JSON.
type CRC uint32

// MarshalText implements encoding.TextMarshaler.
func (c CRC) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(c)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *CRC) UnmarshalText(b []byte) error {
	if len(b) != 8 {
		return fmt.Errorf("checksum of %d digits: want 8", len(b))
	}
	v, err := strconv.ParseUint(string(b), 16, 32)
	if err != nil {
		return err
	}
	*c = CRC(v)
	return nil
}

// Entry describes one remote log segment (RemoteLogSegmentMetadata). Times are Unix milliseconds.
type Entry struct {
	BaseOffset         int64   `json:"base"`
	LastOffset         int64   `json:"last"`          // inclusive
	MaxTimestamp       int64   `json:"max_ts"`        // as in the records: below 0 where they have none, or one before 1970
	MaxTimestampOffset int64   `json:"max_ts_offset"` // of the first record that has it
	Bytes              int64   `json:"bytes"`         // of the .log object
	CRC32C             CRC     `json:"crc32c"`        // of the .log object
	IndexBytes         int64   `json:"idx_bytes"`
	IndexHead          int64   `json:"idx_head"` // first bytes of the .idx object: all that a cold read needs
	IndexCRC32C        CRC     `json:"idx_crc32c"`
	Epochs             Lineage `json:"epochs"`            // of its batches; the first starts at BaseOffset
	Aborted            bool    `json:"aborted,omitempty"` // its transaction index is not empty
	// What of the transaction index decides whether a reader needs it; both 0 in manifests from before they existed.
	AbortedFrom   int64 `json:"aborted_from,omitempty"`   // lowest first offset of its aborted transactions
	AbortedStable int64 `json:"aborted_stable,omitempty"` // no transaction in later segments began below
	Created       int64 `json:"created"`                  // when its records were first copied; 0: unknown
	// Object is the name of both objects without suffix: bare in the partition's own folder, or a path below
	// the cluster's prefix for an object that belongs to another topic.
	Object  string  `json:"object"`
	Unknown Unknown `json:"-"`
}

// Ref stands for a sealed node of the manifest and all entries below it.
type Ref struct {
	Level        int     `json:"level"` // 1: a leaf of entries; n: a node of references to level n-1
	Object       string  `json:"object"`
	Size         int64   `json:"size"`   // of the node's object
	CRC32C       CRC     `json:"crc32c"` // of the node's object, as in its header
	BaseOffset   int64   `json:"base"`
	LastOffset   int64   `json:"last"`
	MaxTimestamp int64   `json:"max_ts"`
	Bytes        int64   `json:"bytes"`
	Segments     int64   `json:"segments"`
	Aborted      bool    `json:"aborted,omitempty"`
	Unknown      Unknown `json:"-"`
}

// Garbage is one pending deletion; exactly one of the lists is set.
type Garbage struct {
	NotBefore int64      `json:"not_before"`
	Segments  []string   `json:"segments,omitempty"` // stems of entries that left the tail
	Nodes     []string   `json:"nodes,omitempty"`    // node objects whose entries live on
	Leaf      *DeadRange `json:"leaf,omitempty"`
	Roots     *DeadRoots `json:"roots,omitempty"`
	Unknown   Unknown    `json:"-"`
}

// DeadRange is what left the manifest from one node: its entries with From ≤ BaseOffset < To. Whole says
// that the node itself, and all below it, goes too.
type DeadRange struct {
	Ref     Ref     `json:"node"`
	From    int64   `json:"from"`
	To      int64   `json:"to"`
	Whole   bool    `json:"whole,omitempty"`
	Unknown Unknown `json:"-"`
}

// DeadRoots are former roots of one leader epoch: sequences From ≤ n < To. Not all need exist.
type DeadRoots struct {
	LeaderEpoch int32   `json:"epoch"`
	From        int64   `json:"from"`
	To          int64   `json:"to"`
	Unknown     Unknown `json:"-"`
}

// Trimmed counts the entries of the first reference that lie before StartOffset and so are no longer there.
type Trimmed struct {
	Segments int64   `json:"segments"`
	Bytes    int64   `json:"bytes"`
	Unknown  Unknown `json:"-"`
}

// Root is the head of a partition's manifest. Immutable once encoded; shared by readers.
type Root struct {
	Topic       string           `json:"topic"`
	TopicID     metadata.TopicID `json:"topic_id"`
	Partition   int32            `json:"partition"`
	LeaderEpoch int32            `json:"leader_epoch"`
	Sequence    int64            `json:"sequence"`
	Previous    string           `json:"previous,omitempty"` // name of the root this one replaced
	Created     int64            `json:"created"`

	StartOffset    int64 `json:"start"`     // base of the first entry
	EndOffset      int64 `json:"end"`       // exclusive
	LogStartOffset int64 `json:"log_start"` // of the log when this was written; may lie inside the first entry
	Bytes          int64 `json:"bytes"`     // of all .log objects
	Segments       int64 `json:"segments"`

	Epochs  Lineage   `json:"epochs"`
	Trimmed Trimmed   `json:"trimmed"`
	Refs    []Ref     `json:"refs,omitempty"`
	Tail    []Entry   `json:"tail,omitempty"`
	Garbage []Garbage `json:"garbage,omitempty"`
	Unknown Unknown   `json:"-"`
}

// Node is a sealed part of a manifest: a leaf has Entries, a node above the leaves has Refs.
type Node struct {
	TopicID   metadata.TopicID `json:"topic_id"`
	Partition int32            `json:"partition"`
	Level     int              `json:"level"`
	Entries   []Entry          `json:"entries,omitempty"`
	Refs      []Ref            `json:"refs,omitempty"`
	Unknown   Unknown          `json:"-"`
}

// HighestOffset is the last offset the tier holds, -1 for none ever.
func (r *Root) HighestOffset() int64 { return r.EndOffset - 1 }

// HighestEpoch is the leader epoch of the last batch in the tier, -1 for none.
func (r *Root) HighestEpoch() int32 {
	if len(r.Epochs) == 0 {
		return -1
	}
	return r.Epochs[len(r.Epochs)-1].Epoch
}

// NewRoot is the empty manifest of a partition whose first segment will start at base.
func NewRoot(topic string, tip metadata.TopicIDPartition, base int64) *Root {
	return &Root{Topic: topic, TopicID: tip.Topic, Partition: tip.Partition, StartOffset: base, EndOffset: base, LogStartOffset: base}
}

// IsAt says whether the root is the one of a partition that a pointer names.
func (r *Root) IsAt(tip metadata.TopicIDPartition, p metadata.RemotePointer) bool {
	return r.TopicID == tip.Topic && r.Partition == tip.Partition && r.LeaderEpoch == p.LeaderEpoch &&
		r.Sequence == p.Sequence && r.StartOffset == p.StartOffset && r.EndOffset == p.EndOffset
}

// NewestTimestamp is the highest timestamp of all records, -1 for none.
func (r *Root) NewestTimestamp() int64 {
	newest := int64(-1)
	for i := range r.Refs {
		newest = max(newest, r.Refs[i].MaxTimestamp)
	}
	for i := range r.Tail {
		newest = max(newest, r.Tail[i].MaxTimestamp)
	}
	return newest
}
