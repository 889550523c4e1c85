package api

import (
	"encoding/binary"
	"time"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// fetchEncoder writes FetchResponse by hand, because its records are file
// regions and not bytes: what lies between them goes into one buffer that the
// response's parts are cut from. A test holds it equal to kmsg's encoder.
type fetchEncoder struct {
	version   int16
	throttle  time.Duration
	code      int16
	sessionID int32

	b    []byte
	cuts []int // where a payload goes
	out  wire.Response
}

func (e *fetchEncoder) flexible() bool { return e.version >= 12 }

// response encodes the answers, in order; neighbours of one topic share an entry.
func (e *fetchEncoder) response(answers []fetchAnswer) wire.Response {
	e.b = make([]byte, 0, 64+96*len(answers))
	e.i32(int32(e.throttle.Milliseconds()))
	if e.version >= 7 {
		e.i16(e.code)
		e.i32(e.sessionID)
	}
	groups := topicRuns(answers)
	e.arrayLen(groups)
	for len(answers) > 0 {
		n := runLen(answers)
		e.topic(answers[:n])
		answers = answers[n:]
	}
	e.tags()
	e.out.Throttle = e.throttle
	from := 0
	for _, cut := range e.cuts {
		e.out.Buffers = append(e.out.Buffers, e.b[from:cut:cut])
		from = cut
	}
	e.out.Buffers = append(e.out.Buffers, e.b[from:])
	return e.out
}

func sameTopic(a, b *fetchAnswer) bool {
	return a.part.name.Topic == b.part.name.Topic && a.part.id.Topic == b.part.id.Topic
}

// runLen is the number of leading answers of one topic.
func runLen(answers []fetchAnswer) int {
	n := 1
	for n < len(answers) && sameTopic(&answers[0], &answers[n]) {
		n++
	}
	return n
}

func topicRuns(answers []fetchAnswer) int {
	runs := 0
	for len(answers) > 0 {
		answers = answers[runLen(answers):]
		runs++
	}
	return runs
}

func (e *fetchEncoder) topic(answers []fetchAnswer) {
	p := answers[0].part
	if e.version >= 13 {
		e.b = append(e.b, p.id.Topic[:]...)
	} else {
		e.str(p.name.Topic)
	}
	e.arrayLen(len(answers))
	for i := range answers {
		e.partition(&answers[i])
	}
	e.tags()
}

func (e *fetchEncoder) partition(f *fetchAnswer) {
	e.i32(f.part.id.Partition)
	e.i16(f.code)
	e.i64(f.HighWatermark)
	e.i64(f.LastStable)
	if e.version >= 5 {
		e.i64(f.LogStart)
	}
	e.arrayLen(len(f.Aborted))
	for _, t := range f.Aborted {
		e.i64(t.ProducerID)
		e.i64(t.FirstOffset)
		e.tags()
	}
	if e.version >= 11 {
		e.i32(-1) // preferred read replica: none
	}
	if size := f.size(); e.flexible() {
		e.b = binary.AppendUvarint(e.b, uint64(size)+1)
	} else {
		e.i32(int32(size))
	}
	if f.Data != nil {
		e.cuts = append(e.cuts, len(e.b))
		e.out.Payloads = append(e.out.Payloads, f.Data)
	}
	if !e.flexible() {
		return
	}
	if f.DivergingEpoch < 0 {
		e.tags()
		return
	}
	// One tagged field, number 0, of 13 bytes: epoch, end offset, no tags.
	e.b = append(e.b, 1, 0, 13)
	e.i32(f.DivergingEpoch)
	e.i64(f.DivergingEnd)
	e.tags()
}

func (e *fetchEncoder) i16(v int16) { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)) }
func (e *fetchEncoder) i32(v int32) { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *fetchEncoder) i64(v int64) { e.b = binary.BigEndian.AppendUint64(e.b, uint64(v)) }

func (e *fetchEncoder) arrayLen(n int) {
	if e.flexible() {
		e.b = binary.AppendUvarint(e.b, uint64(n)+1)
	} else {
		e.i32(int32(n))
	}
}

func (e *fetchEncoder) str(s string) {
	if e.flexible() {
		e.b = binary.AppendUvarint(e.b, uint64(len(s))+1)
	} else {
		e.i16(int16(len(s)))
	}
	e.b = append(e.b, s...)
}

// tags writes an empty list of tagged fields where the version has one.
func (e *fetchEncoder) tags() {
	if e.flexible() {
		e.b = append(e.b, 0)
	}
}
