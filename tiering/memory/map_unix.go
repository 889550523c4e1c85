//go:build unix && !race

package memory

import "golang.org/x/sys/unix"

// newMapping returns n bytes outside Go's heap, or nil.
func newMapping(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil { // no address space or too many mappings: the heap will do
		return nil
	}
	return b
}

func freeMapping(b []byte) {
	// Only a slice that is not a whole mapping can fail, and Free gets none.
	_ = unix.Munmap(b)
}
