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

// advice is what etcd warns about at each start and what is so by design here:
// one unix socket for etcdctl, no etcd users; and that it could not yet note its
// version in a database it has only just made, which it does later.
func advice(message string) bool {
	switch message {
	case "Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed",
		"Failed to detect schema version", "failed to update storage version":
		return true
	}
	return false
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
	if c.Enabled(e.Level) && !advice(e.Message) {
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
