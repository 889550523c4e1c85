package api

import (
	"net"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/broker/config"
)

const (
	// anyBytes stands for socket.request.max.bytes in the version table.
	anyBytes = -1
	// smallRequest bounds requests that carry no records: a million bytes name
	// tens of thousands of partitions.
	smallRequest = 4 << 20
	// groupRequest bounds requests that carry the metadata and assignments of
	// group members, which a leader sends for the whole group.
	groupRequest = 32 << 20
)

// limits are settings that every request asks for. Settings().Broker() copies
// some hundred fields, so they are picked out once per change.
type limits struct {
	of              *config.Settings
	requestMaxBytes int32
	fetchMaxBytes   int32
	autoCreate      bool // auto.create.topics.enable
}

type currentLimits = atomic.Pointer[limits]

func (a *API) limits() *limits {
	s := a.o.Settings()
	if l := a.current.Load(); l != nil && l.of == s {
		return l
	}
	b := s.Broker()
	l := &limits{of: s, requestMaxBytes: b.RequestMaxBytes, fetchMaxBytes: b.FetchMaxBytes, autoCreate: b.AutoCreateTopics}
	a.current.Store(l)
	return l
}

// hostPart is an address without its port.
func hostPart(addr net.Addr) string {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.IP.String()
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
