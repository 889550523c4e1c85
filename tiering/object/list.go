package object

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// pageKeys is how many objects a page of a list has, and so what one request to list returns.
	pageKeys = 1000
	// maxTurns is how many pages in a row may bring nothing new before a list is taken for one without an end.
	maxTurns = 100
)

// pages asks a store for the objects below prefix and behind after, and gives them page by page. The keys it gives are
// those of the bucket.
type pages func(ctx context.Context, prefix, after string, give func(Info) error) error

// list yields what a driver's pages give, in order and once, whatever the store repeats or gives beyond what was asked
// for. After a failure it goes on behind the last name, with new patience for each stretch.
func (l *location) list(ctx context.Context, prefix, after string, turn pages) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		ls := &listing{below: l.prefix + prefix, folder: l.prefix, last: after, yield: yield}
		ctx := context.WithValue(ctx, turnsKey{}, &ls.turns)
		for {
			begun := ls.last
			err := l.try(ctx, request{op: "list", key: prefix, patience: ofRequests}, func(ctx context.Context) error {
				ls.from = ls.last
				ls.turns.Store(0)
				if err := turn(ctx, prefix, ls.last, ls.give); !ls.stopped {
					return err
				}
				return nil
			})
			switch {
			case err == nil || ls.stopped:
				return
			case !Retriable(err) || ls.last == begun:
				yield(Info{}, err)
				return
			}
		}
	}
}

// listing is a list on its way.
type listing struct {
	below, folder string // what names in the bucket begin with, and what is cut off
	yield         func(Info, error) bool
	turns         atomic.Int32 // requests since something new came
	from, last    string       // where this stretch began, and how far it is
	recent        []string     // the last names yielded, in order; two pages at most
	stopped       bool
}

var errStopped = errors.New("nobody wants more")

func (ls *listing) give(info Info) error {
	if !strings.HasPrefix(info.Key, ls.below) {
		return nil // the store looks at the prefix its own way
	}
	info.Key = info.Key[len(ls.folder):]
	if info.Key <= ls.last {
		_, repeated := slices.BinarySearch(ls.recent, info.Key)
		if info.Key <= ls.from || repeated {
			return nil
		}
		return &fault{kind: ErrUnsupported, text: fmt.Sprintf("the store lists %s behind %s: names must come in order", info.Key, ls.last)}
	}
	ls.turns.Store(0)
	if len(ls.recent) == 2*pageKeys {
		ls.recent = slices.Delete(ls.recent, 0, pageKeys)
	}
	ls.recent, ls.last = append(ls.recent, info.Key), info.Key
	if ValidKey(info.Key) != nil {
		return nil // of others: such as "folder/", which consoles make where there are no folders
	}
	info.Modified = known(info.Modified)
	if ls.stopped = !ls.yield(info, nil); ls.stopped {
		return errStopped
	}
	return nil
}

// known is the time that a store says, or now: an age that nobody knows must not make an object old.
func known(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// notAList is a good answer to a list that is something else. What is in the bucket is unknown then, not nothing.
var notAList = &fault{kind: ErrUnavailable, again: soon, text: "the answer is not a list of objects"}

type turnsKey struct{}

// turned counts a page of a list, and says when it is one of too many without anything new.
func turned(ctx context.Context) error {
	if n, ok := ctx.Value(turnsKey{}).(*atomic.Int32); ok && n.Add(1) > maxTurns {
		return &fault{kind: ErrUnavailable, text: fmt.Sprintf("%d pages without anything new: the list has no end", maxTurns)}
	}
	return nil
}
