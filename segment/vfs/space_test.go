package vfs

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

// TestNoSpace checks that a full disk fails writes with an error that every
// caller knows, and heals.
func TestNoSpace(t *testing.T) {
	m := NewMem()
	m.SetCapacity(3 * BlockSize)
	h := must(m.Create("a"))(t)
	n, err := h.WriteAt(make([]byte, 5*BlockSize), 0)
	if n != 3*BlockSize || !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("WriteAt on a full disk = %d, %v", n, err)
	}
	if u := must(m.Usage("/"))(t); u != (Usage{Total: 3 * BlockSize}) {
		t.Errorf("Usage = %+v", u)
	}
	if err := h.Preallocate(3*BlockSize, 1); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Preallocate on a full disk = %v", err)
	}
	noError(t, h.Truncate(BlockSize))
	b := must(m.Create("b"))(t)
	write(t, b, strings.Repeat("x", 2*BlockSize), 0)
	noError(t, m.Remove("b"))
	if got := m.Used(); got != 3*BlockSize {
		t.Errorf("a removed file that is open uses nothing: %d in use", got)
	}
	closeFile(t, b)
	noError(t, h.Preallocate(0, 3*BlockSize))
	write(t, h, strings.Repeat("y", 3*BlockSize), 0)
	if got := m.Used(); got != 3*BlockSize {
		t.Errorf("Used = %d", got)
	}
	closeFile(t, h)
	noError(t, m.Remove("a"))
	if got := m.Used(); got != 0 {
		t.Errorf("Used of an empty disk = %d", got)
	}
}
