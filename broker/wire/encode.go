package wire

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// encoded is a response body in a reused buffer, with room for the list that Response.Buffers wants.
type encoded struct {
	body []byte
	list [1][]byte
}

// maxReused is the capacity up to which the buffer of an encoded response is kept for the next one.
const maxReused = 64 << 10

var encodings = sync.Pool{New: func() any { return &encoded{body: make([]byte, 0, 512)} }}

// Encode makes a Response of a message, in a buffer that the server takes back after the write.
func Encode(m kmsg.Response) Response {
	e := encodings.Get().(*encoded)
	e.body = m.AppendTo(e.body[:0])
	e.list[0] = e.body
	return Response{Buffers: e.list[:], encoded: e}
}

func (e *encoded) free() {
	scribble(e.body)
	if cap(e.body) > maxReused {
		e.body = make([]byte, 0, 512)
	}
	e.list[0] = nil
	encodings.Put(e)
}

// firstFlexible lists for each key the first version whose headers have tagged fields.
var firstFlexible = sync.OnceValue(func() []int16 {
	first := make([]int16, kmsg.MaxKey+1)
	for key := range first {
		first[key] = -1
		r := kmsg.RequestForKey(int16(key))
		for v := int16(0); r != nil && v <= r.MaxVersion(); v++ {
			r.SetVersion(v)
			if r.IsFlexible() {
				first[key] = v
				break
			}
		}
	}
	return first
})

// flexible tells whether the headers of an API version have tagged fields.
func flexible(key, version int16) bool {
	first := firstFlexible()
	if key < 0 || int(key) >= len(first) {
		return false
	}
	return first[key] >= 0 && version >= first[key]
}
