package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// fetchEncoder encodes a FetchResponse by hand, because its records are file
// regions and not bytes: what lies between them goes into one buffer that the
// response's parts are cut from. As a kmsg.Response it can do no more than that.
type fetchEncoder struct {
	kmsg.Response
	encoder

	version   int16
	throttle  time.Duration
	code      int16
	sessionID int32
	// committed is the isolation level: without it the list of aborted
	// transactions is null.
	committed bool
	answers   []fetchAnswer // in order; neighbours of one topic share an entry
	nodes     []nodeEndpoint

	cuts     []int // where a payload goes
	payloads []wire.Payload
	failed   bool
}

// response encodes the answers.
func (e *fetchEncoder) response() wire.Response {
	e.flexible = e.version >= 12
	out := wire.Encode(e)
	if len(e.cuts) > 0 {
		body, from := out.Buffers[0], 0
		out.Buffers = make([][]byte, 0, len(e.cuts)+1)
		for _, cut := range e.cuts {
			out.Buffers = append(out.Buffers, body[from:cut:cut])
			from = cut
		}
		out.Buffers = append(out.Buffers, body[from:])
		out.Payloads = e.payloads
	}
	out.Throttle, out.Failed = e.throttle, e.failed
	return out
}

// AppendTo implements kmsg.Response for wire.Encode.
func (e *fetchEncoder) AppendTo(b []byte) []byte {
	e.b = b
	e.failed = e.code != 0
	e.i32(int32(e.throttle.Milliseconds()))
	if e.version >= 7 {
		e.i16(e.code)
		e.i32(e.sessionID)
	}
	e.arrayLen(topicRuns(e.answers))
	for rest := e.answers; len(rest) > 0; {
		n := runLen(rest)
		e.topic(rest[:n])
		rest = rest[n:]
	}
	e.endpoints(e.nodes)
	return e.b
}

// runLen is the number of leading answers of one topic.
func runLen(answers []fetchAnswer) int {
	n := 1
	for n < len(answers) && answers[0].sameTopic(&answers[n].fetchTarget) {
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
	t := &answers[0].fetchTarget
	if e.version >= 13 {
		e.b = append(e.b, t.id[:]...)
	} else {
		e.str(t.topic)
	}
	e.arrayLen(len(answers))
	for i := range answers {
		e.answer(&answers[i])
	}
	e.tags()
}

func (e *fetchEncoder) answer(f *fetchAnswer) {
	e.failed = e.failed || f.code != 0
	e.i32(f.partition)
	e.i16(f.code)
	e.i64(f.HighWatermark)
	e.i64(f.LastStable)
	if e.version >= 5 {
		e.i64(f.LogStart)
	}
	if e.committed {
		e.arrayLen(len(f.Aborted))
	} else {
		e.arrayLen(-1)
	}
	for _, t := range f.Aborted {
		e.i64(t.ProducerID)
		e.i64(t.FirstOffset)
		e.tags()
	}
	if e.version >= 11 {
		e.i32(int32(f.PreferredReplica))
	}
	if size := f.Size(); e.flexible {
		e.uvarint(size + 1)
	} else {
		e.i32(int32(size))
	}
	if f.Data != nil {
		e.cuts = append(e.cuts, len(e.b))
		e.payloads = append(e.payloads, f.Data)
	}
	if e.flexible {
		e.answerTags(f)
	}
}

// answerTags writes DivergingEpoch, number 0, and CurrentLeader, number 1.
func (e *fetchEncoder) answerTags(f *fetchAnswer) {
	diverges := f.DivergingEpoch >= 0
	n := byte(0)
	if diverges {
		n++
	}
	if f.leader != nil {
		n++
	}
	e.b = append(e.b, n)
	if diverges {
		e.b = append(e.b, 0, 13) // 13 bytes: epoch, end offset, no tags
		e.i32(f.DivergingEpoch)
		e.i64(f.DivergingEnd)
		e.tags()
	}
	if f.leader != nil {
		e.leader(1, f.leader)
	}
}
