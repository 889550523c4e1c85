package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// TestErrorsAreJudgedOneByOne: what heals is told from what does not, also where both
// come together, and a failed sync never heals.
func TestErrorsAreJudgedOneByOne(t *testing.T) {
	path := func(err error) error { return &fs.PathError{Op: "write", Path: "a", Err: err} }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{syscall.ENOSPC, true}, {syscall.EDQUOT, true}, {syscall.EMFILE, true}, {syscall.ENFILE, true},
		{syscall.EIO, false}, {syscall.EROFS, false}, {errors.New("other"), false},
		{fmt.Errorf("append: %w", path(syscall.ENOSPC)), true},
		{errors.Join(path(syscall.ENOSPC), path(syscall.EMFILE)), true},
		{errors.Join(path(syscall.ENOSPC), path(syscall.EIO)), false},
		{fmt.Errorf("%w: %w", errors.New("other"), syscall.ENOSPC), false},
		{fmt.Errorf("write: %w", &SyncError{Path: "a", Err: syscall.ENOSPC}), false},
		{&TornWrite{Bytes: 1, Err: syscall.ENOSPC}, true},
	} {
		if got := Heals(c.err); got != c.want {
			t.Errorf("Heals(%v) = %v", c.err, got)
		}
	}
}

// TestStateFileWithAFailedSyncDoesNotHeal: neither of the file nor of its directory; a
// directory that was not opened was not synced either.
func TestStateFileWithAFailedSyncDoesNotHeal(t *testing.T) {
	for _, c := range []struct {
		kind OpKind
		err  error
		want bool
	}{
		{OpCreate, syscall.ENOSPC, true}, {OpWrite, syscall.EDQUOT, true}, {OpRename, syscall.ENOSPC, true},
		{OpSync, syscall.ENOSPC, false}, {OpSync, syscall.EIO, false},
		{OpSyncDir, syscall.EMFILE, true}, {OpSyncDir, syscall.ENOSPC, false}, {OpSyncDir, syscall.EIO, false},
	} {
		fsys := WithFaults(NewMem(), func(op Op) error {
			if op.Kind == c.kind {
				return c.err
			}
			return nil
		})
		err := WriteFileAtomic(fsys, "/a", []byte("b"))
		if !errors.Is(err, c.err) || Heals(err) != c.want {
			t.Errorf("%v fails with %v: %v, heals %v", c.kind, c.err, err, Heals(err))
		}
	}
}
