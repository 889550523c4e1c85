package wire

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// noticeEvery is how often a notice is logged at most.
const noticeEvery = time.Minute

// notice is a line of the log about something that peers do, and may do a thousand times a second: the first is logged
// at once, those that follow within a minute together.
type notice struct {
	log  *slog.Logger
	text string

	mu     sync.Mutex
	logged time.Time
	count  int // since then
	last   []any
}

// note counts one more, by a connection.
func (n *notice) note(now time.Time, c *Conn, why string) {
	n.mu.Lock()
	n.count++
	n.last = []any{"listener", c.listener.Name, "client", c.nc.RemoteAddr().String(), "err", why}
	n.mu.Unlock()
	n.flush(now)
}

// flush logs what was counted, if the last line is old enough.
func (n *notice) flush(now time.Time) {
	n.mu.Lock()
	count, last := n.count, n.last
	due := count > 0 && (n.logged.IsZero() || now.Sub(n.logged) >= noticeEvery)
	if due {
		n.logged, n.count = now, 0
	}
	n.mu.Unlock()
	if due {
		n.log.Warn(n.text, append([]any{"count", count}, last...)...)
	}
}

// isGarbage tells whether a connection ended because its peer does not speak the protocol of the listener.
func isGarbage(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, errFrameSize) || errors.Is(err, errUnknownAPI) || errors.Is(err, errHeader) ||
		errors.Is(err, errTLS) && errors.As(err, &record)
}
