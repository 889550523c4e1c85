package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// lateLimit is how long a store may take to show what was put, or to hide what was deleted, before Check takes that
// for its last word.
const lateLimit = 5 * time.Second

// Check makes a round trip through s: put, head, ranged get, list, delete of small objects under check/, and looks for
// what stores are known to lack. Its error names the step that failed, the store and what is wrong: credentials,
// bucket, address, a missing permission, or with ErrUnsupported what the store cannot do.
func Check(ctx context.Context, s Store) error {
	c := check{Store: s, key: "check/" + uuid.NewString() + "-a", want: []byte("coldbrook looks whether it can use this store")}
	c.second = c.key[:len(c.key)-1] + "b"
	// The later name first, so that a store that lists in the order of arrival is found out.
	if _, err := s.Put(ctx, c.second, Bytes(c.want), PutOptions{}); err != nil {
		return err
	}
	err := c.round(ctx)
	derr := s.Delete(ctx, c.key, c.second)
	switch {
	case err != nil && derr != nil: // what the store lacks is not to be taken for a store that is away
		return fmt.Errorf("%w; then %s", err, derr.Error())
	case err != nil:
		return err
	case derr != nil:
		return derr
	}
	for _, key := range []string{c.key, c.second} {
		if err := c.gone(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// check is one look at a store.
type check struct {
	Store
	key, second string // in order
	want        []byte
}

func (c *check) round(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.conditional, c.reads, c.lists, c.letters} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// conditional puts an object that must be the first of its name, twice. Manifests are never overwritten because the
// store refuses the second: nothing on our side could stand in for that.
func (c *check) conditional(ctx context.Context) error {
	_, err := c.Put(ctx, c.key, Bytes(c.want), PutOptions{IfAbsent: true})
	if err == nil {
		_, err = c.Put(ctx, c.key, Bytes([]byte("the second")), PutOptions{IfAbsent: true})
		if err == nil {
			return fmt.Errorf("put %s with If-None-Match: the store overwrote an object that was there: conditional PUT: %w", c.key, ErrUnsupported)
		}
	}
	switch {
	case errors.Is(err, ErrExists):
		return nil
	case Retriable(err), errors.Is(err, ErrAccess), ctx.Err() != nil:
		return fmt.Errorf("conditional PUT (If-None-Match: *): %w", err)
	}
	return fmt.Errorf("conditional PUT (If-None-Match: *): %w: %w", ErrUnsupported, err)
}

func (c *check) reads(ctx context.Context) error {
	return patiently(ctx, func() error {
		info, err := c.Head(ctx, c.key)
		if errors.Is(err, ErrNotFound) {
			return notYet{err}
		}
		if err != nil {
			return err
		}
		if info.Size != int64(len(c.want)) {
			return fmt.Errorf("head %s: %d bytes, put %d: %w", c.key, info.Size, len(c.want), ErrChecksum)
		}
		got := make([]byte, 9)
		if _, err := ReadFull(ctx, c, c.key, 10, got); err != nil {
			return err
		}
		if !bytes.Equal(got, c.want[10:19]) {
			return fmt.Errorf("get %s: bytes 10 to 18 are %q, put %q: %w", c.key, got, c.want[10:19], ErrChecksum)
		}
		return nil
	})
}

func (c *check) lists(ctx context.Context) error {
	return patiently(ctx, func() error {
		var found []string
		for info, err := range c.List(ctx, c.key[:len(c.key)-1], "") {
			if err != nil {
				return err
			}
			found = append(found, info.Key)
		}
		if !slices.Equal(found, []string{c.key, c.second}) {
			return notYet{fmt.Errorf("list %s: found %q of the two objects just put: %w", c.key[:len(c.key)-1], found, ErrNotFound)}
		}
		return nil
	})
}

// letters looks whether upper and lower case are two names, as the names of topics are.
func (c *check) letters(ctx context.Context) error {
	upper := strings.ToUpper(c.key)
	_, err := c.Head(ctx, upper)
	switch {
	case err == nil:
		return fmt.Errorf("head %s: the store takes it for %s: names that differ in case: %w", upper, c.key, ErrUnsupported)
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

func (c *check) gone(ctx context.Context, key string) error {
	return patiently(ctx, func() error {
		_, err := c.Head(ctx, key)
		switch {
		case err == nil:
			return notYet{fmt.Errorf("head %s after its delete: it is still there", key)}
		case errors.Is(err, ErrNotFound):
			return nil
		}
		return err
	})
}

// notYet is what a store may only show a moment later.
type notYet struct{ error }

func (n notYet) Unwrap() error { return n.error }

// patiently repeats a look while it returns notYet.
func patiently(ctx context.Context, look func() error) error {
	begun := time.Now()
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := look()
		var late notYet
		if !errors.As(err, &late) || time.Since(begun) > lateLimit || pause(ctx, wait) != nil {
			return err
		}
	}
}
