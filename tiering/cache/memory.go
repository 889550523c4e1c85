package cache

const (
	pageBytes = 4 << 10
	mapBytes  = 64 << 10 // smaller buffers come from the heap
)

// buffer is memory that one entry owns at a time.
type buffer struct {
	b      []byte // the whole of it
	mapped bool
}

func newBuffer(n int) buffer {
	if n >= mapBytes {
		if b := newMapping(n); b != nil {
			return buffer{b, true}
		}
	}
	return buffer{b: make([]byte, n)}
}

func (b buffer) free() {
	if b.mapped {
		freeMapping(b.b)
	}
}

// footprint is what a piece of size bytes takes: a whole reusable buffer when it fills more than
// half of one, else whole pages.
func footprint(size, chunk int) int {
	if size > chunk/2 && size <= chunk {
		return chunk
	}
	return max(1, (size+pageBytes-1)/pageBytes) * pageBytes
}
