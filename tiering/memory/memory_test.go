package memory

import "testing"

func TestBuffersAreZeroWritableAndOfTheirSize(t *testing.T) {
	for _, n := range []int{0, 1, leastMapped - 1, leastMapped, 3*leastMapped + 1} {
		b := New(n)
		if b.Len() != n || len(b.Bytes()) != n {
			t.Errorf("New(%d) has %d bytes", n, b.Len())
		}
		for i, c := range b.Bytes() {
			if c != 0 {
				t.Fatalf("New(%d): byte %d is %d", n, i, c)
			}
		}
		for i := range b.Bytes() {
			b.Bytes()[i] = 1
		}
		b.Free()
	}
	var zero Buffer
	zero.Free()
}
