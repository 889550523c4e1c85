package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilTold returns a context that ends when this process is told to stop: by Ctrl-C, by SIGTERM, or by SIGHUP when the
// terminal goes away. The second Ctrl-C or SIGTERM is the operating system's and ends the process at once. A second
// SIGHUP does nothing: it comes from the shell right after the terminal's, and from service managers after SIGTERM.
func untilTold(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if signal.Ignored(syscall.SIGHUP) { // nohup: whoever started us wants us to outlive the terminal
		return ctx, stop
	}
	told, end := signal.NotifyContext(ctx, syscall.SIGHUP)
	context.AfterFunc(told, stop)
	return told, func() { end(); stop() }
}

// surviveReaders keeps the process running when what reads its log goes away: a write to a pipe that nobody reads fails,
// as one to a full disk does, and the runtime does not end the process for it. Commands that print data do end: that is
// how `coldbrook consume | head` stops.
func surviveReaders() { signal.Ignore(syscall.SIGPIPE) }
