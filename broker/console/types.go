package console

// Reason is one thing that is wrong.
type Reason struct {
	Component string `json:"component"` // "etcd", "log directory /data", "object store"
	Reason    string `json:"reason"`
}

// Version says what runs.
type Version struct {
	Version   string `json:"version"`
	Commit    string `json:"commit,omitempty"`
	Built     string `json:"built,omitempty"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
	ClusterID string `json:"cluster_id,omitempty"`
	NodeID    int32  `json:"node_id"`
}

// Cluster is the cluster as this broker sees it.
type Cluster struct {
	ClusterID  string   `json:"cluster_id"`
	Controller int32    `json:"controller"` // -1: none
	Brokers    []Broker `json:"brokers"`
}

// States of a broker.
const (
	StateLive     = "live"
	StateStopping = "stopping" // it gives its leaderships away first
	StateAway     = "away"     // it registered once, and is not there
)

// Broker is one registered broker.
type Broker struct {
	ID         int32      `json:"id"`
	Rack       string     `json:"rack,omitempty"`
	Role       string     `json:"role,omitempty"`  // replay, or empty: it holds partitions
	State      string     `json:"state,omitempty"` // empty is StateLive
	Epoch      int64      `json:"epoch"`
	Listeners  []Listener `json:"listeners"`
	HTTP       string     `json:"http,omitempty"` // where other brokers look for its HTTP
	Leaders    int        `json:"leaders"`        // partitions it leads
	Partitions int        `json:"partitions"`     // partitions it has a replica of
}

// Listener is an address clients are told.
type Listener struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port int32  `json:"port"`
}

// Topic is one topic.
type Topic struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Internal   bool              `json:"internal"`
	Configs    map[string]string `json:"configs,omitempty"` // overrides
	Partitions []Partition       `json:"partitions"`
}

// Partition is one partition of a topic.
type Partition struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"` // -1: none
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Adding      []int32 `json:"adding,omitempty"`   // of a reassignment in progress, among Replicas
	Removing    []int32 `json:"removing,omitempty"` // of a reassignment in progress, among Replicas
}

// TierPartition is the state of one partition's tier. The names are a promise to scripts.
type TierPartition struct {
	Topic                 string `json:"topic"`
	Partition             int32  `json:"partition"`
	LogStartOffset        int64  `json:"log_start_offset"`
	LocalLogStartOffset   int64  `json:"local_log_start_offset"`
	HighestRemoteOffset   int64  `json:"highest_remote_offset"` // -1: nothing
	HighWatermark         int64  `json:"high_watermark"`
	LogEndOffset          int64  `json:"log_end_offset"`
	LocalBytes            int64  `json:"local_bytes"`
	RemoteBytes           int64  `json:"remote_bytes"`
	RemoteSegments        int64  `json:"remote_segments"`
	PendingSegments       int64  `json:"pending_segments"`         // sealed and not uploaded
	OldestUnuploadedAgeMs int64  `json:"oldest_unuploaded_age_ms"` // since the oldest pending segment was sealed; 0: none
	// Held says why nothing is copied or deleted before an operator decides; empty: it is.
	Held string `json:"held,omitempty"`
}

// SegmentQuery asks for remote segments of one partition, oldest first, from the one that holds From or
// the first one after it.
type SegmentQuery struct {
	Topic     string
	Partition int32
	From      int64
	Limit     int
}

// TierSegment is one remote segment.
type TierSegment struct {
	BaseOffset   int64        `json:"base_offset"`
	LastOffset   int64        `json:"last_offset"` // inclusive
	MaxTimestamp int64        `json:"max_timestamp_ms"`
	Bytes        int64        `json:"bytes"`
	IndexBytes   int64        `json:"index_bytes"`
	CRC32C       string       `json:"crc32c"`
	LeaderEpochs []EpochStart `json:"leader_epochs"`
	Created      int64        `json:"created_ms"`
	Object       string       `json:"object"` // key of the .log object below the store's prefix
}

// EpochStart is where a leader epoch begins.
type EpochStart struct {
	Epoch       int32 `json:"epoch"`
	StartOffset int64 `json:"start_offset"`
}

// Setting is one setting, its value and where that came from.
type Setting struct {
	Name    string  `json:"name"`
	Value   *string `json:"value"` // null: not set, or secret
	Source  string  `json:"source"`
	Secret  bool    `json:"secret,omitempty"`
	Default *string `json:"default"`
	Type    string  `json:"type"`
	Unit    string  `json:"unit,omitempty"`
	Valid   string  `json:"valid,omitempty"`
	Dynamic string  `json:"dynamic,omitempty"` // read-only, per-broker or cluster-wide
	Doc     string  `json:"doc"`
}
