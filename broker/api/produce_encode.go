package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/wire"
)

// produceEncoder encodes a ProduceResponse by hand. As a kmsg.Response it can do
// no more than that.
type produceEncoder struct {
	kmsg.Response
	encoder

	version  int16
	throttle time.Duration
	topics   []kmsg.ProduceRequestTopic
	parts    []produced // of all topics, in order
	nodes    []nodeEndpoint
	failed   bool
}

func (e *produceEncoder) response() wire.Response {
	e.flexible = e.version >= 9
	out := wire.Encode(e)
	out.Throttle, out.Failed = e.throttle, e.failed
	return out
}

// AppendTo implements kmsg.Response for wire.Encode.
func (e *produceEncoder) AppendTo(b []byte) []byte {
	e.b = b
	rest := e.parts
	e.arrayLen(len(e.topics))
	for i := range e.topics {
		t := &e.topics[i]
		if e.version >= 13 {
			e.b = append(e.b, t.TopicID[:]...)
		} else {
			e.str(t.Topic)
		}
		e.arrayLen(len(t.Partitions))
		for range t.Partitions {
			e.partition(&rest[0])
			rest = rest[1:]
		}
		e.tags()
	}
	e.i32(int32(e.throttle.Milliseconds()))
	e.endpoints(e.nodes)
	return e.b
}

func (e *produceEncoder) partition(p *produced) {
	e.failed = e.failed || p.code != 0
	base, appendTime := p.appended.FirstOffset, p.appended.LogAppendTime
	if p.code != 0 {
		base, appendTime = -1, -1
	}
	e.i32(p.partition)
	e.i16(p.code)
	e.i64(base)
	e.i64(appendTime)
	if e.version >= 5 {
		e.i64(p.appended.LogStart)
	}
	if e.version >= 8 {
		e.errors(p)
	}
	if !e.flexible {
		return
	}
	if p.leader == nil {
		e.tags()
		return
	}
	e.b = append(e.b, 1)
	e.leader(0, p.leader)
}

// errors writes which record is at fault and what the fault is (KIP-467).
func (e *produceEncoder) errors(p *produced) {
	if p.index < 0 {
		e.arrayLen(0)
	} else {
		e.arrayLen(1)
		e.i32(p.index)
		e.nullable(p.message)
		e.tags()
	}
	e.nullable(p.message)
}
