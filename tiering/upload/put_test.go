package upload

import (
	"bytes"
	"testing"

	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// countingBody notes the largest read.
type countingBody struct {
	object.Body
	largest int
}

func (c *countingBody) ReadAt(p []byte, off int64) (int, error) {
	c.largest = max(c.largest, len(p))
	return c.Body.ReadAt(p, off)
}

// TestUploadReadsInBoundedRunsAndHoldsNothing: what a driver asks for at once does not matter.
func TestUploadReadsInBoundedRunsAndHoldsNothing(t *testing.T) {
	u := &Uploader{rate: bucket.NewLimiter(0)}
	all := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	counted := &countingBody{Body: object.Bytes(all)}
	limited := &limitedBody{Body: counted, u: u, ctx: t.Context(), progress: func(int64) {}}
	part := make([]byte, 8<<20)
	if allocs := testing.AllocsPerRun(3, func() {
		if n, err := limited.ReadAt(part, 5); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if !bytes.Equal(part, all[5:5+len(part)]) {
		t.Error("other bytes")
	}
	if counted.largest != uploadRun {
		t.Errorf("a read of %d bytes, want at most %d", counted.largest, uploadRun)
	}
	if n, err := limited.ReadAt(part, int64(len(all)-10)); n != 10 || err == nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
}
