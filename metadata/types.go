package metadata

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// BrokerID is Kafka's node.id.
type BrokerID int32

// NoBroker stands for "no leader" and "no controller".
const NoBroker BrokerID = -1

// TopicID identifies a topic for its whole life; a topic that is deleted and
// created again under the same name has another one.
type TopicID [16]byte

// ErrInvalidTopicID is returned for text that is not Kafka's form of a topic id.
var ErrInvalidTopicID = errors.New("invalid topic id")

// topicIDLen is the length of 16 bytes in unpadded base64.
const topicIDLen = 22

// NewTopicID returns a random id. As Kafka's Uuid.randomUuid it is a version 4
// UUID whose text never starts with a dash, so that it can be a command line's
// argument, and so it is never one of the reserved ids.
func NewTopicID() TopicID {
	for {
		var id TopicID
		rand.Read(id[:]) // never fails: crypto/rand ends the process instead
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// ParseTopicID reads the 22 characters that [TopicID.String] writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	if len(s) != topicIDLen {
		return id, fmt.Errorf("%w: %.40q has %d characters, want %d", ErrInvalidTopicID, s, len(s), topicIDLen)
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(s)); err != nil {
		return TopicID{}, fmt.Errorf("%w: %q: %w", ErrInvalidTopicID, s, err)
	}
	return id, nil
}

// String returns Kafka's text of the id: 22 characters of URL-safe base64.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero says whether the id is unset.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// Compare orders ids by their bytes.
func (id TopicID) Compare(other TopicID) int { return slices.Compare(id[:], other[:]) }

// MarshalText writes the id as [TopicID.String] does.
func (id TopicID) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, id[:]), nil
}

// UnmarshalText reads what [TopicID.MarshalText] wrote.
func (id *TopicID) UnmarshalText(b []byte) error {
	parsed, err := ParseTopicID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// TopicPartition names a partition as clients do.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns Kafka's name of the partition and of its directory, "topic-0".
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.FormatInt(int64(tp.Partition), 10)
}

// Compare orders by topic, then by partition number.
func (tp TopicPartition) Compare(other TopicPartition) int {
	return cmp.Or(cmp.Compare(tp.Topic, other.Topic), cmp.Compare(tp.Partition, other.Partition))
}

// TopicIDPartition names a partition for its whole life.
type TopicIDPartition struct {
	Topic     TopicID
	Partition int32
}

// String returns the topic id, a dash and the partition number.
func (tip TopicIDPartition) String() string {
	return tip.Topic.String() + "-" + strconv.FormatInt(int64(tip.Partition), 10)
}

// Compare orders by topic id, then by partition number.
func (tip TopicIDPartition) Compare(other TopicIDPartition) int {
	return cmp.Or(tip.Topic.Compare(other.Topic), cmp.Compare(tip.Partition, other.Partition))
}

// ErrInvalidTopicName is returned by [ValidTopicName].
var ErrInvalidTopicName = errors.New("invalid topic name")

// maxTopicName leaves room for "-<partition>" and a suffix within the 255 bytes
// of a file name (Kafka's Topic.MAX_NAME_LENGTH).
const maxTopicName = 249

// ValidTopicName checks Kafka's rules (org.apache.kafka.common.internals.Topic):
// 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', but neither "." nor "..".
func ValidTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidTopicName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is reserved by file systems", ErrInvalidTopicName, name)
	case len(name) > maxTopicName:
		return fmt.Errorf("%w: %.40q… has %d characters, at most %d are allowed", ErrInvalidTopicName, name, len(name), maxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return fmt.Errorf("%w: %q has characters other than letters, digits, '.', '_' and '-'", ErrInvalidTopicName, name)
		}
	}
	return nil
}

// Listener is an address that a broker advertises.
type Listener struct {
	Name     string `json:"name"` // e.g. "PLAINTEXT", "INTERNAL"
	Host     string `json:"host"`
	Port     int32  `json:"port"`
	Protocol string `json:"protocol"` // Kafka's security protocol: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
}

// Broker is a registered, live broker.
type Broker struct {
	ID          BrokerID   `json:"id"`
	Rack        string     `json:"rack,omitempty"`
	Listeners   []Listener `json:"listeners"`
	Incarnation string     `json:"incarnation"`        // one process run
	DirectoryID string     `json:"directory_id"`       // the data directory it runs on
	Draining    bool       `json:"draining,omitempty"` // asked to give its leaderships away
	Role        string     `json:"role,omitempty"`     // "" holds partitions, or RoleReplay
	HTTP        string     `json:"http,omitempty"`     // HOST:PORT for other brokers; it may be an address that only its machine has
	Epoch       int64      `json:"-"`                  // Kafka's broker epoch: the revision that made this registration
	Kept
}

// RoleReplay is the role of a broker that holds no partitions and is no
// candidate for controller: it serves what is in the tier.
const RoleReplay = "replay"

// Holds says whether partitions may be placed on a broker of this role.
func (b Broker) Holds() bool { return b.Role != RoleReplay }

// Node is a broker that registered once and was not unregistered since, live or
// not. Its DirectoryID is how a broker that comes back without its data is told
// from one that has it.
type Node struct {
	ID          BrokerID `json:"id"`
	DirectoryID string   `json:"directory_id"`
	Host        string   `json:"host,omitempty"` // of its first listener
	Port        int32    `json:"port,omitempty"`
	Rack        string   `json:"rack,omitempty"`
	Role        string   `json:"role,omitempty"`
	// Since is when the directory was first registered: what the broker held
	// before that, if it was here before, is gone.
	Since time.Time `json:"since"`
	Epoch int64     `json:"-"` // of its last registration
	Kept
}

// Topic is one topic as all brokers see it. It is immutable.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions []Partition // the index is the partition's number
	Created    time.Time
	// ModRevision is the last change of the topic itself, not of its partitions.
	ModRevision int64
	Kept
}

// Partition is the decided state of one partition. Its slices must not be changed.
type Partition struct {
	Replicas    []BrokerID `json:"replicas"` // the first one is the preferred leader
	ISR         []BrokerID `json:"isr"`
	Adding      []BrokerID `json:"adding,omitempty"`   // of a reassignment in progress, subset of Replicas
	Removing    []BrokerID `json:"removing,omitempty"` // of a reassignment in progress, subset of Replicas
	Leader      BrokerID   `json:"leader"`             // NoBroker while no in-sync replica lives
	LeaderEpoch int32      `json:"leader_epoch"`       // grows with each decision about the leader
	Epoch       int32      `json:"epoch"`              // Kafka's partition epoch: grows with each change
	// LeaderBrokerEpoch is the registration of the leader that was elected.
	// A broker leads only under the registration that was: after a restart it
	// waits for the controller to bump LeaderEpoch.
	LeaderBrokerEpoch int64 `json:"leader_broker_epoch"`
	// Offline are the replicas whose brokers cannot use their logs: a disk
	// failed, or a log does not open. They are not elected.
	Offline []BrokerID `json:"offline,omitempty"`
	// Found is what the replicas' logs hold, of a partition that a restore made:
	// it has no in-sync replicas, and its leader is chosen by that.
	Found []FoundLog `json:"found,omitempty"`
	// Recovering marks a leader that was elected though it was not in sync
	// (KIP-704): it takes what the tier has before it serves, and then clears this.
	Recovering bool `json:"recovering,omitempty"`
	// ModRevision is the revision of the last change, compared by
	// [Store.AlterPartitions].
	ModRevision int64 `json:"-"`
	Kept
}

// Restored says that a restore made the partition and that nobody leads it yet. Its
// brokers' disks may have much of it or nothing: each says what it found, and who
// found most leads.
func (p Partition) Restored() bool {
	return p.Recovering && p.Leader == NoBroker && len(p.ISR) == 0 && (p.Epoch == 0 || len(p.Found) > 0)
}

// FoundLog is what a broker found on its disk of a partition.
type FoundLog struct {
	Broker      BrokerID `json:"broker"`
	BrokerEpoch int64    `json:"broker_epoch"` // its registration when it looked
	LeaderEpoch int32    `json:"leader_epoch"` // the last one in the log, -1 if it is empty
	End         int64    `json:"end"`          // where the log ends
}

// Reassigning says whether replicas are being added or removed (KIP-455).
func (p Partition) Reassigning() bool { return len(p.Adding) > 0 || len(p.Removing) > 0 }

// RemotePointer says which manifest is a partition's current one. It is all
// that the cluster keeps about a partition's tier.
type RemotePointer struct {
	Manifest    string `json:"manifest"` // object key
	Sequence    int64  `json:"sequence"`
	LeaderEpoch int32  `json:"leader_epoch"` // of the leader that wrote it
	StartOffset int64  `json:"start_offset"`
	EndOffset   int64  `json:"end_offset"` // exclusive
	ModRevision int64  `json:"-"`          // compared when it is swapped; 0 = there is none
	Kept
}
