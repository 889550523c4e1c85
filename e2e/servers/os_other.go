//go:build !linux

package servers

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"
)

func dieWithParent(*exec.Cmd) {}

// lockFile waits until it can create the file. A lock that a killed process left must be removed by hand.
func lockFile(ctx context.Context, name string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			return func() { _ = f.Close(); _ = os.Remove(name) }, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func hasXattrs(string) bool { return false }
