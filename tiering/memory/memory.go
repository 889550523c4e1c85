// Package memory gives large buffers outside Go's heap, where the system has anonymous mappings. A
// gigabyte of them does not let the heap grow to two before the garbage collector runs, and what is
// freed goes back to the system at once. Under the race detector they are ordinary memory, so that it
// sees who uses them.
package memory

// leastMapped is the size from which buffers are mapped; smaller ones come from the heap.
const leastMapped = 64 << 10

// Buffer is memory with one owner at a time, who may use its bytes until Free. The zero value is
// empty. It is not safe for concurrent use.
type Buffer struct {
	b      []byte
	mapped bool
}

// New returns a buffer of n bytes, all zero.
func New(n int) Buffer {
	if n >= leastMapped {
		if b := newMapping(n); b != nil {
			return Buffer{b, true}
		}
	}
	return Buffer{b: make([]byte, n)}
}

// Bytes are all of the buffer's bytes.
func (b Buffer) Bytes() []byte { return b.b }

// Len is the number of bytes.
func (b Buffer) Len() int { return len(b.b) }

// Free gives the memory back. Using the bytes, or freeing any copy of b, is an error from then on.
func (b Buffer) Free() {
	if b.mapped {
		freeMapping(b.b)
	}
}
