package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Reasons why Guard refuses a body.
var (
	ErrMalformed = errors.New("malformed request")
	ErrBudget    = errors.New("request needs too much memory")
)

const (
	// maxElements is Kafka's limit for the elements of an array, here of all arrays of a request together.
	maxElements = 1_000_000
	// maxString is how long a string may be in any version, as in Kafka: what a compact one could say beyond that fits
	// neither the answers of older versions nor the records that names are kept in.
	maxString = math.MaxInt16
	// tagCost and firstTagCost are what kmsg's map of unknown tagged fields takes for each field and for the first.
	tagCost, firstTagCost = 128, 384
)

// Guard walks the body of a request before it is decoded. It refuses a body that does not begin with a request of this
// key and version (ErrMalformed; bytes behind the request are let pass, as Kafka does: librdkafka 2.11 leaves three
// behind a Metadata request for all topics) and one whose decoded form would take more than budget bytes beside the body
// itself (ErrBudget), without allocating anything: a decoder that believes an array's length takes 64 times the
// size of the frame. It must be passed before kmsg decodes what came from outside; kmsg also counts down from any
// number of tagged fields, of which Guard lets pass what is there and at most 10,000.
func Guard(key, version int16, body []byte, budget int64) error {
	_, _, err := guard(key, version, body, budget)
	return err
}

// guard returns what is behind the request and what its decoded form takes, too.
func guard(key, version int16, body []byte, budget int64) (behind []byte, cost int64, err error) {
	p := programFor(key, version)
	if p == nil {
		return nil, 0, fmt.Errorf("%w: no schema for key %d version %d", ErrMalformed, key, version)
	}
	w := walker{rest: body, budget: budget, elements: maxElements, tags: maxTags}
	switch w.walk(p) {
	case walkMalformed:
		return nil, 0, fmt.Errorf("%w: key %d version %d at byte %d of %d", ErrMalformed, key, version, len(body)-len(w.rest), len(body))
	case walkBudget:
		return nil, 0, fmt.Errorf("%w: key %d version %d: more than %d bytes, %d elements or %d tagged fields",
			ErrBudget, key, version, budget, maxElements, maxTags)
	}
	return w.rest, budget - w.budget, nil
}

type walkResult uint8

const (
	walkOK walkResult = iota
	walkMalformed
	walkBudget
)

// walker walks a body. What it may still use only goes down.
type walker struct {
	rest     []byte
	budget   int64
	elements int64
	tags     int64
}

// walk consumes what p describes.
func (w *walker) walk(p *program) walkResult {
	if len(w.rest) < p.least {
		return walkMalformed
	}
	for i := range p.ops {
		o := &p.ops[i]
		r := walkOK
		switch o.kind {
		case opSkip:
			if len(w.rest) < o.n {
				return walkMalformed
			}
			w.rest = w.rest[o.n:]
		case opArray, opCompactArray:
			r = w.array(o)
		case opNullableStruct:
			r = w.nullableStruct(o)
		case opTags:
			r = w.tagged(o)
		default:
			r = w.text(o)
		}
		if r != walkOK {
			return r
		}
	}
	return walkOK
}

// length reads the length that o starts with; -1 is null.
func (w *walker) length(o *op) (int64, bool) {
	var n int64
	switch o.kind {
	case opString:
		if len(w.rest) < 2 {
			return 0, false
		}
		n = int64(int16(binary.BigEndian.Uint16(w.rest)))
		w.rest = w.rest[2:]
	case opBytes, opArray:
		if len(w.rest) < 4 {
			return 0, false
		}
		n = int64(int32(binary.BigEndian.Uint32(w.rest)))
		w.rest = w.rest[4:]
	default:
		v, rest, ok := uvarint(w.rest)
		if !ok {
			return 0, false
		}
		n, w.rest = int64(v)-1, rest
	}
	return n, n >= 0 || n == -1 && o.nullable
}

// text consumes a string or bytes.
func (w *walker) text(o *op) walkResult {
	n, ok := w.length(o)
	if !ok || n > int64(len(w.rest)) || n > maxString && o.kind == opCompactString {
		return walkMalformed
	}
	if n < 0 {
		return walkOK
	}
	w.rest = w.rest[n:]
	if o.kind == opString || o.kind == opCompactString {
		return w.charge(n + o.size) // kmsg copies strings; bytes it does not
	}
	return walkOK
}

func (w *walker) charge(n int64) walkResult {
	if w.budget -= n; w.budget < 0 {
		return walkBudget
	}
	return walkOK
}

// array consumes an array. Its memory is charged before the first element is looked at, as the decoder will take it.
func (w *walker) array(o *op) walkResult {
	n, ok := w.length(o)
	if !ok || n > 0 && n*int64(o.elem.least) > int64(len(w.rest)) {
		return walkMalformed
	}
	if n <= 0 {
		return walkOK
	}
	if w.elements -= n; w.elements < 0 {
		return walkBudget
	}
	if r := w.charge(n * o.size); r != walkOK {
		return r
	}
	if o.elem.fixed {
		w.rest = w.rest[n*int64(o.elem.ops[0].n):]
		return walkOK
	}
	for range n {
		if r := w.walk(o.elem); r != walkOK {
			return r
		}
	}
	return walkOK
}

// nullableStruct consumes a structure with a byte in front that says whether it is there.
func (w *walker) nullableStruct(o *op) walkResult {
	if len(w.rest) < 1 {
		return walkMalformed
	}
	present := int8(w.rest[0])
	w.rest = w.rest[1:]
	if present < 0 {
		if !o.nullable || present != -1 {
			return walkMalformed
		}
		return walkOK
	}
	if r := w.charge(o.size); r != walkOK {
		return r
	}
	return w.walk(o.elem)
}

// tagged consumes the tagged fields at the end of a structure.
func (w *walker) tagged(o *op) walkResult {
	count, rest, ok := uvarint(w.rest)
	if !ok {
		return walkMalformed
	}
	w.rest = rest
	if count == 0 {
		return walkOK
	}
	if w.tags -= int64(count); w.tags < 0 {
		return walkBudget
	}
	if r := w.charge(firstTagCost + int64(count)*tagCost); r != walkOK {
		return r
	}
	for range count {
		if r := w.tag(o); r != walkOK {
			return r
		}
	}
	return walkOK
}

// tag consumes one tagged field; the content of those that the decoder knows is walked like any other.
func (w *walker) tag(o *op) walkResult {
	tag, rest, ok := uvarint(w.rest)
	if !ok {
		return walkMalformed
	}
	size, rest, ok := uvarint(rest)
	if !ok || uint64(size) > uint64(len(rest)) {
		return walkMalformed
	}
	w.rest = rest
	known := o.tags[tag]
	if known == nil {
		w.rest = rest[size:]
		return walkOK
	}
	after := rest[size:]
	w.rest = rest[:size]
	if r := w.walk(known); r != walkOK {
		return r
	}
	if len(w.rest) > 0 {
		return walkMalformed
	}
	w.rest = after
	return walkOK
}
