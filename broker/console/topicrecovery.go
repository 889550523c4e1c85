package console

import "net/http"

// RecoverQuery asks for a topic that is in the object store and not in the cluster.
type RecoverQuery struct {
	Topic     string
	ClusterID string // whose it was; empty: this cluster's
}

// Recovered is a topic that came back from the object store.
type Recovered struct {
	Topic      string               `json:"topic"`
	TopicID    string               `json:"topic_id"`
	From       string               `json:"from_cluster"`
	Copied     int64                `json:"copied_bytes"` // of another cluster's objects
	Partitions []RecoveredPartition `json:"partitions"`
	Problems   []string             `json:"problems,omitempty"`
}

// RecoveredPartition says what came back of a partition.
type RecoveredPartition struct {
	Partition   int32   `json:"partition"`
	Replicas    []int32 `json:"replicas"`
	StartOffset int64   `json:"start_offset"`
	EndOffset   int64   `json:"end_offset"` // exclusive
	Bytes       int64   `json:"bytes"`
	Newest      int64   `json:"newest_record_ms"` // -1: no record
}

// CopyProgress is how far a copy is.
type CopyProgress struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total_bytes"`
}

// recoverRoute brings a topic back: POST, answered in JSON lines.
func (s *Server) recoverRoute() {
	run := s.o.Recover
	if run == nil {
		return
	}
	s.mux.HandleFunc("POST /api/v1/topics/recover", s.changing(func(w http.ResponseWriter, r *http.Request) {
		q := RecoverQuery{Topic: r.URL.Query().Get("topic"), ClusterID: r.URL.Query().Get("cluster")}
		if q.Topic == "" {
			answer(w, http.StatusBadRequest, problem{Error: "want ?topic=NAME"})
			return
		}
		streamed(w, r, func(line func(TierLine)) error { return run(r.Context(), q, line) })
	}))
}
