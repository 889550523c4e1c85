package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Check makes a round trip through s: put, head, ranged get, list, delete of one small object
// under check/. Its error names the step that failed, the store and what is wrong: credentials,
// bucket, address or a missing permission.
func Check(ctx context.Context, s Store) error {
	key := "check/" + uuid.NewString()
	want := []byte("coldbrook looks whether it can use this store")
	if _, err := s.Put(ctx, key, Bytes(want), PutOptions{}); err != nil {
		return err
	}
	err := checkReads(ctx, s, key, want)
	if derr := s.Delete(ctx, key); derr != nil {
		err = errors.Join(err, derr)
	}
	if err == nil {
		if _, herr := s.Head(ctx, key); !errors.Is(herr, ErrNotFound) {
			err = fmt.Errorf("head %s after its delete: got %v, want %w", key, herr, ErrNotFound)
		}
	}
	return err
}

func checkReads(ctx context.Context, s Store, key string, want []byte) error {
	info, err := s.Head(ctx, key)
	if err != nil {
		return err
	}
	if info.Size != int64(len(want)) {
		return fmt.Errorf("head %s: %d bytes, put %d: %w", key, info.Size, len(want), ErrChecksum)
	}
	got := make([]byte, 9)
	if _, err := ReadFull(ctx, s, key, 10, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want[10:19]) {
		return fmt.Errorf("get %s: bytes 10 to 18 are %q, put %q: %w", key, got, want[10:19], ErrChecksum)
	}
	for info, err := range s.List(ctx, key, "") {
		if err != nil {
			return err
		}
		if info.Key == key {
			return nil
		}
	}
	return fmt.Errorf("list %s: the object just put is not there: %w", key, ErrNotFound)
}
