package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// LagAt is an offset that a group has committed.
type LagAt struct {
	Topic     string
	Partition int32
	Offset    int64
}

// String writes it as /api/v1/lag reads it: TOPIC:PARTITION:OFFSET.
func (l LagAt) String() string {
	return l.Topic + ":" + strconv.Itoa(int(l.Partition)) + ":" + strconv.FormatInt(l.Offset, 10)
}

// Lags is how far the ends of partitions are from offsets.
type Lags struct {
	ClusterID  string         `json:"cluster_id"`
	Broker     int32          `json:"broker"` // that was asked
	Partitions []PartitionLag `json:"partitions"`
}

// PartitionLag is what lies between an offset and the high watermark, and the part of it that is cold: before the
// local log's start, only in the object store. Records count offsets. Bytes are exact for what is local, and for what
// is cold to within a part of a chunk of an object. A lag in time is how old the record at the offset is; its
// cold part ends where the local log begins. The names are a promise to scripts.
type PartitionLag struct {
	Topic               string `json:"topic"`
	Partition           int32  `json:"partition"`
	Offset              int64  `json:"offset"`
	LogStartOffset      int64  `json:"log_start_offset"`
	LocalLogStartOffset int64  `json:"local_log_start_offset"`
	HighWatermark       int64  `json:"high_watermark"`
	Records             int64  `json:"records"`
	ColdRecords         int64  `json:"cold_records"`
	Bytes               int64  `json:"bytes"`
	ColdBytes           int64  `json:"cold_bytes"`
	Ms                  int64  `json:"ms"` // -1: the record has no time
	ColdMs              int64  `json:"cold_ms"`
	Error               string `json:"error,omitempty"` // why nothing is known
}

// MaxLags bounds one question.
const MaxLags = 200

// lagRoute answers how far ends are from offsets.
func (s *Server) lagRoute() {
	s.api("lag", s.o.Lags != nil, func(r *http.Request) (any, error) {
		q := r.URL.Query()
		if len(q["at"]) > MaxLags {
			return nil, badRequest{fmt.Sprintf("%d offsets: want at most %d", len(q["at"]), MaxLags)}
		}
		var at []LagAt
		for _, text := range q["at"] {
			one, err := parseLagAt(text)
			if err != nil {
				return nil, err
			}
			at = append(at, one)
		}
		return s.o.Lags(r.Context(), at, q.Get("local") == "true")
	})
}

func parseLagAt(text string) (LagAt, error) {
	parts := strings.Split(text, ":")
	if len(parts) == 3 && parts[0] != "" {
		partition, err1 := strconv.ParseInt(parts[1], 10, 32)
		offset, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err1 == nil && err2 == nil && partition >= 0 && offset >= 0 {
			return LagAt{Topic: parts[0], Partition: int32(partition), Offset: offset}, nil
		}
	}
	return LagAt{}, badRequest{fmt.Sprintf("at=%.80s: want TOPIC:PARTITION:OFFSET", text)}
}
