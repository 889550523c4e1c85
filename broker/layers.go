package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// layers runs the parts of a broker: started one above the other, stopped from
// the top down, each only when all above it have ended. The first part that
// ends before it was told to stops them all.
type layers struct {
	started []*layer
	fail    context.CancelCauseFunc
}

type layer struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// errEnded is the cause when a part returns without an error before its time.
var errEnded = errors.New("ended unexpectedly")

// start runs a part until it is its turn to stop. ctx carries values only: its
// end does not reach the part.
func (ls *layers) start(ctx context.Context, name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &layer{name: name, stop: stop, done: make(chan struct{})}
	ls.started = append(ls.started, l)
	go func() {
		defer close(l.done)
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			l.err = fmt.Errorf("%s: %w", name, err)
		}
		if ctx.Err() == nil {
			ls.fail(fmt.Errorf("%s: %w", name, errors.Join(err, errEnded)))
		}
	}()
}

// onStop runs end when everything started later has stopped.
func (ls *layers) onStop(name string, end func() error) {
	l := &layer{name: name, done: make(chan struct{})}
	var once sync.Once
	l.stop = func() {
		once.Do(func() {
			if err := end(); err != nil {
				l.err = fmt.Errorf("stop %s: %w", name, err)
			}
			close(l.done)
		})
	}
	ls.started = append(ls.started, l)
}

// stop ends all parts, the last started first, and returns their errors.
func (ls *layers) stop() error {
	var errs []error
	for i := len(ls.started) - 1; i >= 0; i-- {
		l := ls.started[i]
		l.stop()
		<-l.done
		errs = append(errs, l.err)
	}
	return errors.Join(errs...)
}
