package cache

const pageBytes = 4 << 10

// footprint is what a piece of size bytes takes: a whole reusable buffer when it fills more than
// half of one, else whole pages.
func footprint(size, chunk int) int {
	if size > chunk/2 && size <= chunk {
		return chunk
	}
	return max(1, (size+pageBytes-1)/pageBytes) * pageBytes
}
