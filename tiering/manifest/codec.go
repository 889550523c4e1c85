package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

// A JSON object of ours starts with a fixed header; the checksum covers the whole object with its own eight
// digits as zeros, so that any tool can read it and any tool can check it:
//
//	{"format":"coldbrook.manifest.root","version":1,"crc32c":"89abcdef", …
const (
	rootFormat    = "coldbrook.manifest.root"
	nodeFormat    = "coldbrook.manifest.node"
	formatVersion = 1
	// maxObjects bounds the JSON objects in one manifest: 1,000 entries, references and garbage. It keeps
	// what a decoder allocates in proportion, since "{}" is two bytes and an Entry two hundred.
	maxObjects = LeafEntries + maxRefs + 4*maxGarbage + 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var zeroDigits = []byte("00000000")

func header(format string, version int) string {
	return `{"format":"` + format + `","version":` + strconv.Itoa(version) + `,"crc32c":"`
}

// SealJSON encodes v, a JSON object, with the header in front. The result is at most limit bytes.
func SealJSON(format string, v any, limit int) ([]byte, CRC, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", format, err)
	}
	h := header(format, formatVersion)
	out := make([]byte, 0, len(h)+len(zeroDigits)+len(body)+2)
	out = append(out, h...)
	out = append(out, zeroDigits...)
	out = append(out, `",`...)
	out = append(out, body[1:]...)
	if len(out) > limit {
		return nil, 0, fmt.Errorf("encode %s: %d bytes, want at most %d", format, len(out), limit)
	}
	sum := crc32.Checksum(out, castagnoli)
	copy(out[len(h):], fmt.Appendf(nil, "%08x", sum))
	return out, CRC(sum), nil
}

// OpenJSON checks the header and the checksum of b and decodes the rest into v. b is not changed or kept.
func OpenJSON(format string, b []byte, limit int, v any) (CRC, error) {
	return OpenObjects(format, b, limit, maxObjects, v)
}

// OpenObjects is openJSON of at most so many JSON objects.
func OpenObjects(format string, b []byte, limit, objects int, v any) (CRC, error) {
	if len(b) > limit {
		return 0, fmt.Errorf("%s of %d bytes, want at most %d: %w", format, len(b), limit, ErrCorrupt)
	}
	h := header(format, formatVersion)
	if !bytes.HasPrefix(b, []byte(h)) {
		if bytes.HasPrefix(b, []byte(`{"format":"`+format+`","version":`)) {
			return 0, fmt.Errorf("%s: %w", format, ErrVersion)
		}
		return 0, fmt.Errorf("not a %s: %w", format, ErrCorrupt)
	}
	at := len(h)
	if len(b) < at+len(zeroDigits)+3 || b[at+8] != '"' || b[at+9] != ',' {
		return 0, fmt.Errorf("%s cut short: %w", format, ErrCorrupt)
	}
	var digits [4]byte
	if _, err := hex.Decode(digits[:], b[at:at+8]); err != nil {
		return 0, fmt.Errorf("%s: checksum: %w: %w", format, err, ErrCorrupt)
	}
	want := uint32(digits[0])<<24 | uint32(digits[1])<<16 | uint32(digits[2])<<8 | uint32(digits[3])
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, zeroDigits)
	sum = crc32.Update(sum, castagnoli, b[at+8:])
	if sum != want {
		return 0, fmt.Errorf("%s: checksum %08x, want %08x: %w", format, sum, want, ErrCorrupt)
	}
	if n := bytes.Count(b, []byte{'{'}); n > objects {
		return 0, fmt.Errorf("%s of %d objects: %w", format, n, ErrCorrupt)
	}
	// A field this version does not know would be lost by the next rewrite: refuse it.
	d := json.NewDecoder(io.MultiReader(bytes.NewReader([]byte{'{'}), bytes.NewReader(b[at+10:])))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return 0, fmt.Errorf("%s: %w: %w", format, err, ErrCorrupt)
	}
	if _, err := d.Token(); err != io.EOF {
		return 0, fmt.Errorf("%s: bytes after its end: %w", format, ErrCorrupt)
	}
	return CRC(sum), nil
}

// Encode validates the root and returns its object.
func (r *Root) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	b, _, err := SealJSON(rootFormat, r, MaxRootBytes)
	return b, err
}

// DecodeRoot reads a root object. The result holds no reference to b.
func DecodeRoot(b []byte) (*Root, error) {
	r := new(Root)
	if _, err := OpenJSON(rootFormat, b, MaxRootBytes, r); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return r, nil
}

// Encode validates the node and returns its object and the reference to it under name.
func (n *Node) Encode(name string) ([]byte, Ref, error) {
	s, err := n.validate()
	if err != nil {
		return nil, Ref{}, err
	}
	b, sum, err := SealJSON(nodeFormat, n, maxNodeBytes)
	if err != nil {
		return nil, Ref{}, err
	}
	ref := Ref{
		Level: n.Level, Object: name, Size: int64(len(b)), CRC32C: sum,
		BaseOffset: n.base(), LastOffset: s.next - 1, MaxTimestamp: s.maxTS,
		Bytes: s.bytes, Segments: s.segments, Aborted: s.aborted,
	}
	return b, ref, ref.validate()
}

func (n *Node) base() int64 {
	if n.Level == 1 {
		return n.Entries[0].BaseOffset
	}
	return n.Refs[0].BaseOffset
}

// DecodeNode reads the object that ref stands for, and checks that it is that one.
func DecodeNode(b []byte, ref Ref) (*Node, error) {
	n := new(Node)
	sum, err := OpenJSON(nodeFormat, b, maxNodeBytes, n)
	if err != nil {
		return nil, err
	}
	s, err := n.validate()
	if err != nil {
		return nil, err
	}
	got := Ref{
		Level: n.Level, Object: ref.Object, Size: int64(len(b)), CRC32C: sum,
		BaseOffset: n.base(), LastOffset: s.next - 1, MaxTimestamp: s.maxTS,
		Bytes: s.bytes, Segments: s.segments, Aborted: s.aborted,
	}
	if got != ref {
		return nil, fmt.Errorf("node %s is not the one referred to: %+v, want %+v: %w", ref.Object, got, ref, ErrCorrupt)
	}
	return n, nil
}
