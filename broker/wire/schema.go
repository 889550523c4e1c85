package wire

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// node is one field of a schema, before a version is chosen.
type node struct {
	kind       byte // b h i l u s y [ {
	from, to   int16
	nullableAt int16 // first nullable version, or never
	tag        int   // -1: not a tagged field
	fields     []node
	elem       *node // of an array
}

const never = math.MaxInt16

// schemaParser reads the notation of schemas. What it reads is part of the program: it panics when it is wrong.
type schemaParser struct {
	name string
	rest string
}

func (p *schemaParser) fail(what string) {
	panic(fmt.Sprintf("schema of %s: %s at %q", p.name, what, p.rest))
}

func (p *schemaParser) next(c byte) bool {
	if p.rest != "" && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

func (p *schemaParser) number(or int) int {
	n, i := 0, 0
	for i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9' {
		n = n*10 + int(p.rest[i]-'0')
		i++
	}
	p.rest = p.rest[i:]
	if i == 0 {
		return or
	}
	return n
}

// fields reads fields up to end, which is } or the end of the schema.
func (p *schemaParser) fields(end byte) []node {
	var all []node
	for {
		p.rest = strings.TrimLeft(p.rest, " ")
		if end != 0 && p.next(end) || end == 0 && p.rest == "" {
			return all
		}
		all = append(all, p.field())
	}
}

func (p *schemaParser) field() node {
	tag := -1
	if p.next('#') {
		tag = p.number(-1)
		if !p.next(':') {
			p.fail("no :")
		}
	}
	n := p.value()
	n.tag = tag
	if p.next('@') {
		n.from = int16(p.number(0))
		if p.next('-') {
			n.to = int16(p.number(never))
		}
	}
	return n
}

func (p *schemaParser) value() node {
	if p.rest == "" || !strings.ContainsRune("bhiluy[{s", rune(p.rest[0])) {
		p.fail("no type")
	}
	n := node{kind: p.rest[0], to: never, nullableAt: never, tag: -1}
	p.rest = p.rest[1:]
	switch n.kind {
	case '{':
		n.fields = p.fields('}')
	case '[':
		elem := p.value()
		n.elem = &elem
		if !p.next(']') {
			p.fail("no ]")
		}
	}
	if p.next('?') {
		n.nullableAt = int16(p.number(0))
	}
	return n
}

// opKind is what a step of a program does.
type opKind uint8

const (
	opSkip           opKind = iota // n bytes
	opString                       // int16 length
	opCompactString                // uvarint length + 1
	opBytes                        // int32 length
	opCompactBytes                 // uvarint length + 1
	opArray                        // int32 length, elem
	opCompactArray                 // uvarint length + 1, elem
	opNullableStruct               // int8 presence, elem
	opTags                         // uvarint count of tagged fields
)

// op is one step of a program.
type op struct {
	kind     opKind
	nullable bool
	n        int      // opSkip: bytes
	size     int64    // memory for each element, for a present structure, or for a present nullable string
	elem     *program // opArray, opNullableStruct
	tags     map[uint32]*program
}

// program walks one structure, or one element of an array, of one version.
type program struct {
	ops   []op
	least int // bytes it consumes at least
	fixed bool
}

// programs are the compiled schemas by key and version.
var programs = sync.OnceValue(func() [][]*program {
	all := make([][]*program, kmsg.MaxKey+1)
	for _, s := range schemas {
		p := schemaParser{name: s.name, rest: s.fields}
		body := node{kind: '{', fields: p.fields(0)}
		request := kmsg.RequestForKey(s.key)
		t := reflect.TypeOf(request).Elem()
		for v := int16(0); v <= request.MaxVersion(); v++ {
			c := compiler{name: s.name, version: v, flexible: flexible(s.key, v)}
			all[s.key] = append(all[s.key], c.structure(body.fields, t))
		}
	}
	return all
})

// programFor returns the program of an API version, nil when there is no schema.
func programFor(key, version int16) *program {
	all := programs()
	if key < 0 || int(key) >= len(all) || version < 0 || int(version) >= len(all[key]) {
		return nil
	}
	return all[key][version]
}

// compiler makes programs of one version. It takes the memory that an element costs from the structures of kmsg,
// whose fields are in the order of the schema.
type compiler struct {
	name     string
	version  int16
	flexible bool
}

func (c *compiler) structure(fields []node, t reflect.Type) *program {
	p := &program{}
	types := fieldTypes{t: t}
	tags := make(map[uint32]*program)
	for i := range fields {
		n := &fields[i]
		var ft reflect.Type
		if n.tag < 0 || n.kind == '[' {
			ft = types.next(n.kind)
		}
		if c.version < n.from || c.version > n.to {
			continue
		}
		if n.tag >= 0 {
			value := &program{}
			c.emit(value, n, ft)
			value.finish()
			tags[uint32(n.tag)] = value
			continue
		}
		c.emit(p, n, ft)
	}
	if c.flexible {
		p.ops = append(p.ops, op{kind: opTags, tags: tags})
	}
	p.finish()
	return p
}

// emit appends the step for a value of type t; t is nil where kmsg's type does not matter.
func (c *compiler) emit(p *program, n *node, t reflect.Type) {
	nullable := c.version >= n.nullableAt
	switch n.kind {
	case 'b':
		p.skip(1)
	case 'h':
		p.skip(2)
	case 'i':
		p.skip(4)
	case 'l':
		p.skip(8)
	case 'u':
		p.skip(16)
	case 's':
		o := op{kind: opString, nullable: nullable}
		if c.flexible {
			o.kind = opCompactString
		}
		if n.nullableAt != never {
			o.size = pointerCost
		}
		p.ops = append(p.ops, o)
	case 'y':
		o := op{kind: opBytes, nullable: nullable}
		if c.flexible {
			o.kind = opCompactBytes
		}
		p.ops = append(p.ops, o)
	case '[':
		o := op{kind: opArray, nullable: nullable, elem: c.element(n.elem, t.Elem()), size: int64(t.Elem().Size())}
		if c.flexible {
			o.kind = opCompactArray
		}
		p.ops = append(p.ops, o)
	case '{':
		c.emitStruct(p, n, t)
	}
}

// pointerCost is what a nullable string costs beside its bytes: kmsg points to a string.
const pointerCost = 16

func (c *compiler) emitStruct(p *program, n *node, t reflect.Type) {
	if n.nullableAt == never {
		p.ops = append(p.ops, c.structure(n.fields, t).ops...)
		return
	}
	t = t.Elem()
	p.ops = append(p.ops, op{kind: opNullableStruct, nullable: c.version >= n.nullableAt,
		elem: c.structure(n.fields, t), size: int64(t.Size())})
}

func (c *compiler) element(n *node, t reflect.Type) *program {
	if n.kind == '{' {
		return c.structure(n.fields, t)
	}
	p := &program{}
	c.emit(p, n, t)
	p.finish()
	return p
}

// skip appends a step over n bytes, as part of the step before where that skips too.
func (p *program) skip(n int) {
	if last := len(p.ops) - 1; last >= 0 && p.ops[last].kind == opSkip {
		p.ops[last].n += n
		return
	}
	p.ops = append(p.ops, op{kind: opSkip, n: n})
}

// finish computes how much the program consumes at least.
func (p *program) finish() {
	for i := range p.ops {
		switch o := &p.ops[i]; o.kind {
		case opSkip:
			p.least += o.n
		case opString:
			p.least += 2
		case opBytes, opArray:
			p.least += 4
		default:
			p.least++
		}
	}
	p.fixed = len(p.ops) == 1 && p.ops[0].kind == opSkip
}

// fieldTypes finds kmsg's types for the arrays and structures of a schema: the n-th array is the n-th slice.
type fieldTypes struct {
	t               reflect.Type
	slices, structs int // next field to look at
}

func (f *fieldTypes) next(kind byte) reflect.Type {
	if f.t == nil {
		return nil
	}
	switch kind {
	case '[':
		return f.find(&f.slices, func(t reflect.Type) bool {
			return t.Kind() == reflect.Slice && t != reflect.TypeFor[[]byte]()
		})
	case '{':
		return f.find(&f.structs, func(t reflect.Type) bool {
			if t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			return t.Kind() == reflect.Struct && t != reflect.TypeFor[kmsg.Tags]()
		})
	}
	return nil
}

func (f *fieldTypes) find(at *int, is func(reflect.Type) bool) reflect.Type {
	for ; *at < f.t.NumField(); *at++ {
		if t := f.t.Field(*at).Type; is(t) {
			*at++
			return t
		}
	}
	panic(fmt.Sprintf("schema of %s: more fields than %s", f.t.Name(), f.t))
}
