package cache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// hold takes pieces for a holder until it gets no more.
func hold(t *testing.T, c *Cache, r Reader, object string, most int) []*Pinned {
	t.Helper()
	var pins []*Pinned
	for n := range int64(most) {
		key := Key{object, n}
		p, err := c.Get(t.Context(), r, key, testChunk, new(source).fetch(key))
		if errors.Is(err, ErrShare) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, p)
	}
	return pins
}

func TestNobodyHoldsMoreThanAShareOfTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunks = 16
		c := start(t, Options{MemoryBytes: chunks * testChunk})
		slow := Reader{Client: "slow", Holder: "conn-1"}
		pins := hold(t, c, slow, "a", chunks)
		if len(pins) != chunks/4 {
			t.Errorf("one holder has %d of %d chunks", len(pins), chunks)
		}
		if p, ok := c.Lookup(slow, Key{"a", 0}); ok {
			t.Error("a holder over its share got one more that was there")
			p.Release()
		}
		others := 0
		for _, conn := range []string{"conn-2", "conn-3", "conn-4"} {
			more := hold(t, c, Reader{Client: "slow", Holder: conn}, conn, chunks)
			if others += len(more); len(more) == 0 {
				t.Errorf("%s got nothing", conn)
			}
			pins = append(pins, more...)
		}
		if len(pins) > chunks/2+2 { // the first piece of each is its due
			t.Errorf("four holders have %d of %d chunks", len(pins), chunks)
		}
		mine := hold(t, c, Reader{}, "own", chunks-len(pins))
		if len(mine) != chunks-len(pins) {
			t.Errorf("got %d chunks of the %d that are left", len(mine), chunks-len(pins))
		}
		for _, p := range append(pins, mine...) {
			p.Release()
		}
		again := hold(t, c, slow, "a", chunks)
		if len(again) != chunks/4 {
			t.Errorf("%d chunks after all were released", len(again))
		}
		for _, p := range again {
			p.Release()
		}
		if len(c.held.of) != 0 || c.held.total != 0 {
			t.Errorf("charged for nothing: %v", c.held)
		}
	})
}

func TestPiecesThatDoNotComeAreNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{MemoryBytes: 16 * testChunk})
		r := Reader{Holder: "conn-1"}
		broken := errors.New("broken")
		if _, err := c.Get(t.Context(), r, Key{"a", 1}, testChunk, func(context.Context, []byte) (int, error) { return 0, broken }); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), r, Key{"a", 2}, 17*testChunk, nil); !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		src := source{hold: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx, r, Key{"a", 3}, testChunk, src.fetch(Key{"a", 3})); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		close(src.hold)
		synctest.Wait()
		if len(c.held.of) != 0 || c.held.total != 0 {
			t.Errorf("charged for nothing: %v", c.held)
		}
	})
}
