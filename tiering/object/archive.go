package object

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

const (
	// How long an object that is archived is not asked for again: clients repeat what fails, and a
	// restore takes minutes to hours.
	archiveMemory = time.Minute
	archiveKeys   = 4096
)

// archive remembers which objects the store refused to read because of their storage class.
type archive struct {
	mu   sync.Mutex
	keys map[string]archived
}

type archived struct {
	err   error
	until time.Time
}

// recall returns the error of the last attempt to read an archived object, for a while.
func (a *archive) recall(key string, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.keys[key]
	if ok && now.After(e.until) {
		delete(a.keys, key)
		return nil
	}
	return e.err
}

func (a *archive) remember(key string, err error, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.keys) >= archiveKeys || a.keys == nil {
		a.keys = map[string]archived{} // asking again is only a request
	}
	a.keys[key] = archived{err, now.Add(archiveMemory)}
}

// archived completes and remembers the error of an archived object: its HEAD says the class and
// whether somebody restores it.
func (l *location) archived(ctx context.Context, key string, err error, head func(context.Context, string) (Info, error)) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	noted, last := noteAnswer(ctx)
	_, _ = head(noted, key) // without it the message says less
	a, own := last.Load(), *e
	class := a.get("X-Amz-Storage-Class")
	if s := a.get("X-Amz-Archive-Status"); s != "" {
		class += " " + s
	}
	if class != "" {
		own.Hint += "; its storage class is " + class
	}
	if strings.Contains(a.get("X-Amz-Restore"), `ongoing-request="true"`) {
		own.Hint += "; a restore is under way"
	}
	l.archive.remember(key, &own, time.Now())
	return &own
}
