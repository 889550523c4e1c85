package console

import (
	"net/http"
	"time"
)

// TierCosts is what the topics ask of the object store. The names are a promise to scripts.
type TierCosts struct {
	ClusterID string      `json:"cluster_id"`
	Broker    int32       `json:"broker"`          // that was asked
	Counted   []int32     `json:"brokers_counted"` // whose requests and partitions are in
	Missing   []BrokerGap `json:"brokers_missing"` // live, and did not answer
	// Since is when the window began from which a day's requests are told: a day ago, or the start of the broker
	// that started last.
	Since    time.Time  `json:"since"`
	WindowMs int64      `json:"window_ms"` // from then to now
	Currency string     `json:"currency"`
	Prices   TierPrices `json:"prices"`
	Topics   []TierCost `json:"topics"`
}

// BrokerGap is a broker that something is not known of.
type BrokerGap struct {
	Broker int32  `json:"broker"`
	Reason string `json:"reason"`
}

// TierPrices are remote.price.*.
type TierPrices struct {
	PutPer1000 float64 `json:"put_per_1000"` // LIST too
	GetPer1000 float64 `json:"get_per_1000"` // HEAD too
	GBMonth    float64 `json:"gb_month"`
	EgressGB   float64 `json:"egress_gb"`
}

// TierCost is one topic, "(cluster)" for what is no topic's, or "(other)" for topics that were deleted. Counts are
// since the brokers' starts.
type TierCost struct {
	Topic          string  `json:"topic"`
	RemoteBytes    int64   `json:"remote_bytes"` // of segments, now
	RemoteSegments int64   `json:"remote_segments"`
	Put            int64   `json:"put"`
	Get            int64   `json:"get"`
	Head           int64   `json:"head"`
	List           int64   `json:"list"`
	Delete         int64   `json:"delete"` // one for each object
	BytesIn        int64   `json:"bytes_in"`
	BytesOut       int64   `json:"bytes_out"`
	CacheHits      int64   `json:"cache_hits"` // pieces that needed no request of their own
	CacheMisses    int64   `json:"cache_misses"`
	CacheHitBytes  int64   `json:"cache_hit_bytes"`
	CacheMissBytes int64   `json:"cache_miss_bytes"`
	CostPerDay     float64 `json:"cost_per_day"`
}

// Add adds what another broker knows of the topic.
func (c *TierCost) Add(o TierCost) {
	c.RemoteBytes, c.RemoteSegments = c.RemoteBytes+o.RemoteBytes, c.RemoteSegments+o.RemoteSegments
	c.Put, c.Get, c.Head, c.List, c.Delete = c.Put+o.Put, c.Get+o.Get, c.Head+o.Head, c.List+o.List, c.Delete+o.Delete
	c.BytesIn, c.BytesOut = c.BytesIn+o.BytesIn, c.BytesOut+o.BytesOut
	c.CacheHits, c.CacheMisses = c.CacheHits+o.CacheHits, c.CacheMisses+o.CacheMisses
	c.CacheHitBytes, c.CacheMissBytes = c.CacheHitBytes+o.CacheHitBytes, c.CacheMissBytes+o.CacheMissBytes
	c.CostPerDay += o.CostPerDay
}

// costRoutes are the pages about money.
func (s *Server) costRoutes() {
	s.api("tier/cost", s.o.Costs != nil, func(r *http.Request) (any, error) {
		c, err := s.o.Costs(r.Context(), r.URL.Query().Get("local") == "true")
		if err != nil {
			return nil, err
		}
		c.Topics, err = filter(r, c.Topics, nil, func(t TierCost) string { return t.Topic })
		return c, err
	})
}
