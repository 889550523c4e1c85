package object

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestMissingObjectIsNotAskedForAgainForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		inner := NewMem()
		s := WithoutRepeats(WithFaults(inner, func(_ context.Context, op Op) error {
			if op.Kind == OpGet {
				asked++
			}
			return nil
		}))
		get := func(key string) error {
			_, err := ReadAll(t.Context(), s, key, 100)
			return err
		}
		for range 100 {
			if err := get("k"); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		if _, err := inner.Put(t.Context(), "k", Bytes([]byte("x")), PutOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(missingMemory)
		for range 2 {
			if err := get("k"); err != nil {
				t.Errorf("it is there again: %v", err)
			}
		}
		for i := range missingKeys + 10 {
			_ = get(fmt.Sprint(i))
		}
		if n := len(s.(*unrepeated).keys); n > missingKeys {
			t.Errorf("%d keys remembered", n)
		}
	})
}
