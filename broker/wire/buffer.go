package wire

import (
	"math/bits"
	"sync"
)

// Buffers come in classes of 4 KiB · 2^i · {4,5,6,7}/4, so that at most a fifth of one is unused. What is larger than
// the largest class is made for its frame and left to the collector.
const (
	minClassBits = 12
	maxClassBits = 24 // 16 MiB
	bufClasses   = (maxClassBits-minClassBits)*4 + 1
)

// buffer is a pooled slice of bytes of a size class.
type buffer struct {
	bytes []byte // len is what was asked for
	class int    // -1: not pooled
}

// pools holds free buffers by class. The pool of the package is shared by all servers of the process.
var pools [bufClasses]sync.Pool

// getBuffer returns a buffer of n bytes with arbitrary content.
func getBuffer(n int) *buffer {
	class, size := bufferClass(n)
	if class < 0 {
		return &buffer{bytes: make([]byte, n), class: -1}
	}
	if b, ok := pools[class].Get().(*buffer); ok {
		b.bytes = b.bytes[:n]
		return b
	}
	return &buffer{bytes: make([]byte, size)[:n], class: class}
}

// free gives b back. Nobody may look at its bytes any more.
func (b *buffer) free() {
	if b.class >= 0 {
		pools[b.class].Put(b)
	}
}

// bufferClass returns the class that holds n bytes and the size of its buffers, or class -1 for n beyond the classes.
func bufferClass(n int) (class, size int) {
	if n <= 1<<minClassBits {
		return 0, 1 << minClassBits
	}
	if n > 1<<maxClassBits {
		return -1, n
	}
	top := bits.Len(uint(n - 1))  // 2^(top-1) ≤ n-1 < 2^top
	quarter := 1 << (top - 3)     // a quarter of 2^(top-1)
	steps := (n - 1) >> (top - 3) // 4..7: whole quarters in n-1
	return (top-1-minClassBits)*4 + steps + 1 - 4, (steps + 1) * quarter
}
