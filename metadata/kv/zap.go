package kv

import (
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger returns a logger for etcd's code that writes to log what is at
// least as severe as least, until quiet is set. etcd logs tens of lines at Info
// for each start, and errors about its own listeners when it is closed.
func zapLogger(log *slog.Logger, least slog.Level, quiet *atomic.Bool) *zap.Logger {
	return zap.New(zapCore{log: log, least: least, quiet: quiet})
}

// quietZap is for clients whose errors we report ourselves.
func quietZap() *zap.Logger { return zap.NewNop() }

// zapCore hands zap's entries to slog.
type zapCore struct {
	log   *slog.Logger
	least slog.Level
	quiet *atomic.Bool // may be nil
}

// usual are messages that etcd gives more weight than they have here.
var usual = map[string]bool{
	// So by design: one unix socket for etcdctl, no etcd users; and that it could
	// not yet note its version in a database it has only just made, which it does
	// later.
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
	"Failed to detect schema version":                                                      true,
	"failed to update storage version":                                                     true,
	// It comes when the machine was busy for the tenth of a second that two of our
	// ticks are. A disk that is too slow has its own message.
	"leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk": true,
	// While another member is away, or joins: each connection and each probe has
	// its line, every few seconds. "peer became inactive" says it once.
	"lost TCP streaming connection with remote peer":         true,
	"closed TCP streaming connection with remote peer":       true,
	"prober detected unhealthy status":                       true,
	"failed to reach the peer URL":                           true,
	"failed to get version":                                  true,
	"failed to process Raft message":                         true,
	"failed to find remote peer in cluster":                  true,
	"rejected Raft message from removed member":              true,
	"rejected Raft message to mismatch member":               true,
	"skipped attributes update of removed member":            true,
	"Validation on configuration change failed":              true,
	"rejecting promote learner: learner is not ready":        true,
	"failed to promote a member":                             true,
	"setting up serving from embedded etcd failed.":          true,
	"failed to publish local member to cluster through raft": true,
}

// Enabled implements zapcore.LevelEnabler.
func (c zapCore) Enabled(l zapcore.Level) bool {
	return slogLevel(l) >= c.least && (c.quiet == nil || !c.quiet.Load())
}

// With implements zapcore.Core.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	c.log = slog.New(c.log.Handler().WithAttrs(attrs(fields)))
	return c
}

// Check implements zapcore.Core.
func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !usual[e.Message] {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core. zap itself panics or exits after a message of
// that severity.
func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	args := []any{slog.String("message", e.Message)} // etcd's messages vary, ours are constant
	for _, a := range attrs(fields) {
		args = append(args, a)
	}
	switch slogLevel(e.Level) {
	case slog.LevelError:
		c.log.Error("etcd", args...)
	case slog.LevelWarn:
		c.log.Warn("etcd", args...)
	case slog.LevelInfo:
		c.log.Info("etcd", args...)
	default:
		c.log.Debug("etcd", args...)
	}
	return nil
}

// Sync implements zapcore.Core.
func (zapCore) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

func attrs(fields []zapcore.Field) []slog.Attr {
	out := make([]slog.Attr, 0, len(fields))
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
		out = append(out, slog.Any(f.Key, enc.Fields[f.Key]))
	}
	return out
}
