package config

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ThrottledReplicas are the replicas of a topic whose replication is throttled.
type ThrottledReplicas struct {
	All      bool
	Replicas []ThrottledReplica
}

// ThrottledReplica is one of them.
type ThrottledReplica struct{ Partition, Broker int32 }

// Has reports whether the replica of a partition on a broker is one of them.
func (t ThrottledReplicas) Has(partition, broker int32) bool {
	return t.All || slices.Contains(t.Replicas, ThrottledReplica{partition, broker})
}

// parseThrottled reads what throttledReplicas has checked.
func parseThrottled(list []string) ThrottledReplicas {
	var t ThrottledReplicas
	for _, entry := range list {
		partition, broker, found := strings.Cut(entry, ":")
		if !found {
			t.All = true
			continue
		}
		p, err := strconv.ParseInt(partition, 10, 32)
		if err != nil {
			continue // no partition has such a number
		}
		b, err := strconv.ParseInt(broker, 10, 32)
		if err != nil {
			continue // no broker has such a number
		}
		t.Replicas = append(t.Replicas, ThrottledReplica{int32(p), int32(b)})
	}
	return t
}

var throttled = regexp.MustCompile(`^(\*|\d+:\d+)$`)

func throttledReplicas() Check {
	return words("[partitionId]:[brokerId],[partitionId]:[brokerId],… or *", func(v string) error {
		for _, p := range splitList(v) {
			if !throttled.MatchString(p) {
				return errors.New("must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
			}
		}
		return nil
	})
}
