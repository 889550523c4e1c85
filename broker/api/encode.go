package api

import (
	"encoding/binary"
	"slices"

	"github.com/coldbrook/coldbrook/metadata"
)

// encoder writes the parts that the hand-encoded responses share: Produce and
// Fetch, whose kmsg encoders compare every partition's tagged fields by
// reflection, and Fetch, whose records are not bytes. Tests hold both equal to
// kmsg.
type encoder struct {
	b        []byte
	flexible bool
}

func (e *encoder) i16(v int16) { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)) }
func (e *encoder) i32(v int32) { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) i64(v int64) { e.b = binary.BigEndian.AppendUint64(e.b, uint64(v)) }

func (e *encoder) uvarint(v int) { e.b = binary.AppendUvarint(e.b, uint64(v)) }

// arrayLen begins an array of n elements; -1 is null.
func (e *encoder) arrayLen(n int) {
	if e.flexible {
		e.uvarint(n + 1)
	} else {
		e.i32(int32(n))
	}
}

func (e *encoder) str(s string) {
	if e.flexible {
		e.uvarint(len(s) + 1)
	} else {
		e.i16(int16(len(s)))
	}
	e.b = append(e.b, s...)
}

// nullable writes a string where the empty one means null.
func (e *encoder) nullable(s string) {
	switch {
	case s != "":
		e.str(s)
	case e.flexible:
		e.uvarint(0)
	default:
		e.i16(-1)
	}
}

// tags writes an empty list of tagged fields where the version has one.
func (e *encoder) tags() {
	if e.flexible {
		e.b = append(e.b, 0)
	}
}

// leader writes the tagged field CurrentLeader (KIP-951) under its number.
func (e *encoder) leader(tag byte, l *leaderHint) {
	e.b = append(e.b, tag, 9) // 9 bytes: two int32, no tags
	e.i32(int32(l.id))
	e.i32(l.epoch)
	e.tags()
}

// endpoints writes the tagged fields at the end of a response: NodeEndpoints
// (KIP-951), number 0, or none.
func (e *encoder) endpoints(nodes []nodeEndpoint) {
	if !e.flexible || len(nodes) == 0 {
		e.tags()
		return
	}
	var field encoder
	field.flexible = true
	field.arrayLen(len(nodes))
	for _, n := range nodes {
		field.i32(int32(n.id))
		field.str(n.host)
		field.i32(n.port)
		field.nullable(n.rack)
		field.tags()
	}
	e.b = append(e.b, 1, 0)
	e.uvarint(len(field.b))
	e.b = append(e.b, field.b...)
}

// leaderHint tells a client which broker leads a partition that it asked the
// wrong one for.
type leaderHint struct {
	id    metadata.BrokerID
	epoch int32
}

// nodeEndpoint is the address of a leader that was hinted at.
type nodeEndpoint struct {
	id   metadata.BrokerID
	host string
	port int32
	rack string
}

// hint finds a partition's leader and adds its address to the nodes.
func (a *API) hint(c *call, tp metadata.TopicPartition, nodes []nodeEndpoint) (*leaderHint, []nodeEndpoint) {
	img := a.o.Metadata.Image()
	p, ok := img.Partition(tp)
	if !ok {
		return &leaderHint{id: metadata.NoBroker, epoch: -1}, nodes
	}
	h := &leaderHint{id: p.Leader, epoch: p.LeaderEpoch}
	b, alive := img.Broker(p.Leader)
	known := slices.ContainsFunc(nodes, func(n nodeEndpoint) bool { return n.id == p.Leader })
	if host, port, ok := endpoint(b, c.Conn.Listener()); alive && ok && !known {
		nodes = append(nodes, nodeEndpoint{id: b.ID, host: host, port: port, rack: b.Rack})
	}
	return h, nodes
}
