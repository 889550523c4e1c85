package metadata

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// keyspace makes and reads the keys of one cluster.
type keyspace string // "/coldbrook/<cluster>/"

func (k keyspace) cluster() string             { return string(k) + "cluster" }
func (k keyspace) controller() string          { return string(k) + "controller" }
func (k keyspace) producerIDs() string         { return string(k) + "producer-ids" }
func (k keyspace) topic(name string) string    { return string(k) + "topics/" + name }
func (k keyspace) broker(id BrokerID) string   { return string(k) + "brokers/" + brokerText(id) }
func (k keyspace) node(id BrokerID) string     { return string(k) + "nodes/" + brokerText(id) }
func (k keyspace) tombstones() string          { return string(k) + "tombstones/" }
func (k keyspace) tombstone(id TopicID) string { return k.tombstones() + id.String() }
func (k keyspace) allPartitions() string       { return string(k) + "partitions/" }
func (k keyspace) partitions(id TopicID) string {
	return k.allPartitions() + id.String() + "/"
}
func (k keyspace) partition(tip TopicIDPartition) string {
	return k.partitions(tip.Topic) + strconv.Itoa(int(tip.Partition))
}
func (k keyspace) remotes() string { return string(k) + "remote/" }
func (k keyspace) remoteOf(id TopicID) string {
	return k.remotes() + id.String() + "/"
}
func (k keyspace) remote(tip TopicIDPartition) string {
	return k.remoteOf(tip.Topic) + strconv.Itoa(int(tip.Partition))
}
func (k keyspace) topicConfig(name string) string { return string(k) + "configs/topics/" + name }
func (k keyspace) brokerConfig(entity string) string {
	return string(k) + "configs/brokers/" + entity
}

// defaultBroker is the entity of the configuration of all brokers. It is not a
// number, so it is no broker's.
const defaultBroker = "default"

func brokerText(id BrokerID) string { return strconv.Itoa(int(id)) }

func parseBroker(s string) (BrokerID, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return NoBroker, fmt.Errorf("%q is no broker id", s)
	}
	return BrokerID(n), nil
}

// maxPartitions bounds what a key can make an image allocate.
const maxPartitions = 1 << 17

// parsePartition reads "<topic-id>/<p>".
func parsePartition(s string) (TopicIDPartition, error) {
	idText, number, ok := strings.Cut(s, "/")
	if !ok {
		return TopicIDPartition{}, errors.New("no partition number")
	}
	id, err := ParseTopicID(idText)
	if err != nil {
		return TopicIDPartition{}, err
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 0 || n >= maxPartitions || strconv.FormatInt(n, 10) != number {
		return TopicIDPartition{}, fmt.Errorf("%q is no partition number", number)
	}
	return TopicIDPartition{Topic: id, Partition: int32(n)}, nil
}

// The values that are not types of their own.
type (
	clusterValue struct {
		ID string `json:"id"`
	}
	controllerValue struct {
		Broker BrokerID `json:"broker"`
	}
	producerIDsValue struct {
		Next int64 `json:"next"`
		Kept
	}
	topicValue struct {
		ID         TopicID   `json:"id"`
		Partitions int32     `json:"partitions"`
		Created    time.Time `json:"created"`
		Kept
	}
	tombstoneValue struct {
		Name       string            `json:"name"`
		Partitions int32             `json:"partitions"`
		Created    time.Time         `json:"created"`
		Configs    map[string]string `json:"configs,omitempty"`
		Deleted    time.Time         `json:"deleted"`
		Creating   bool              `json:"creating,omitempty"`
		Purging    bool              `json:"purging,omitempty"`
		Kept
	}
)

// check refuses what an image cannot show.
func (p Partition) check() error {
	if p.LeaderEpoch < 0 || p.Epoch < 0 {
		return fmt.Errorf("negative epoch: leader epoch %d, epoch %d", p.LeaderEpoch, p.Epoch)
	}
	for _, id := range p.Replicas {
		if id < 0 {
			return fmt.Errorf("replica %d", id)
		}
	}
	return nil
}

func (v topicValue) check() error {
	if v.ID.IsZero() || v.Partitions < 0 || v.Partitions > maxPartitions {
		return fmt.Errorf("id %s with %d partitions", v.ID, v.Partitions)
	}
	return nil
}

func (v tombstoneValue) check() error {
	if v.Partitions < 0 || v.Partitions > maxPartitions {
		return fmt.Errorf("%d partitions", v.Partitions)
	}
	return nil
}
