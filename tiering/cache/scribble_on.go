//go:build race || invariants

package cache

// scribble makes the use of a piece after its Release visible.
func scribble(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
