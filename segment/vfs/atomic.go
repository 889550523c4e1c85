package vfs

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// TempSuffix ends the name of a file that WriteFileAtomic has not finished. A
// crash may leave one behind; whoever opens the directory removes it.
const TempSuffix = ".tmp"

// WriteFileAtomic replaces name by a file that holds data: after a crash at any
// moment the old or the new bytes are there, never a mixture, and after it
// returned nil the new ones. After an error either may be there, and be what a
// crash leaves. Not safe for concurrent use on one name.
func WriteFileAtomic(fs FS, name string, data []byte) error {
	temp := name + TempSuffix
	if err := writeSynced(fs, temp, data); err != nil {
		// The temporary file is worth nothing; the error that counts is err.
		_ = fs.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := fs.Rename(temp, name); err != nil {
		// As above.
		_ = fs.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := SyncNames(fs, filepath.Dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func writeSynced(fs FS, name string, data []byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		if serr := f.Sync(); serr != nil {
			err = &SyncError{Path: name, Err: serr}
		}
	}
	return errors.Join(err, f.Close())
}

// ReadFile returns what name holds, or ErrTooLarge when that is more than limit
// bytes.
func ReadFile(fs FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f, limit)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func readAll(f File, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%d bytes, want at most %d: %w", size, limit, ErrTooLarge)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err == io.EOF && int64(n) == size {
		err = nil
	}
	return data[:n], err
}
