package wire

import (
	"time"

	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of a server.
type metrics struct{}

func newMetrics(metric.Meter, *Server) (*metrics, error) { return &metrics{}, nil }

func (m *metrics) close() {}

func (m *metrics) refused(listener string) {}

func (m *metrics) unknown() {}

func (m *metrics) opened(listener string, n int64) {}

func (m *metrics) request(cl *call, now time.Time) {}
