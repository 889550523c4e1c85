package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

// written is an object as a later release would write it: of a version, with members put in behind others.
func written(b []byte, format string, version int, members ...string) []byte {
	s := strings.Replace(string(b), header(format, 1), header(format, version), 1)
	s = strings.NewReplacer(members...).Replace(s)
	out, h := []byte(s), header(format, version)
	copy(out[len(h):], zeroDigits)
	copy(out[len(h):], fmt.Appendf(nil, "%08x", crc32.Checksum(out, castagnoli)))
	return out
}

// later is the golden root with something new in each kind of object.
func later(t *testing.T) []byte {
	t.Helper()
	return written(readGolden(t, "root.json"), rootFormat, 1,
		`"topic":`, `"of_root":{"a":[1, {"b":null}]},"topic":`, `"max_ts_offset":`, `"of_entry":"x","max_ts_offset":`,
		`"size":`, `"of_ref":-1e3,"size":`, `"not_before":1,`, `"of_garbage":true,"not_before":1,`,
		`"from":0,"to":10`, `"from":0,"to":10,"of_range":[]`, `"epoch":6,"from":10`, `"of_roots":1,"epoch":6,"from":10`,
		`"trimmed":{`, `"trimmed":{"of_trimmed":0,`)
}

// TestUnknownMembersOutliveARewrite of the root, in each kind of object, and are no damage.
func TestUnknownMembersOutliveARewrite(t *testing.T) {
	root, err := DecodeRoot(later(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e := NewEdit(root, nil, time.UnixMilli(1), time.Hour)
		if err := e.Add(t.Context(), testEntry(e.Next.EndOffset)); err != nil {
			t.Fatal(err)
		}
		b, err := e.Next.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range []string{`"of_root":{"a":[1, {"b":null}]}`, `"of_entry":"x"`, `"of_ref":-1e3`, `"of_garbage":true`, `"of_range":[]`, `"of_roots":1`, `"of_trimmed":0`} {
			if !bytes.Contains(b, []byte(member)) {
				t.Errorf("%s is gone from %s", member, b)
			}
		}
		if root, err = DecodeRoot(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnknownMembersOfANodeAreKept, and a reference with some still finds its node.
func TestUnknownMembersOfANodeAreKept(t *testing.T) {
	b := written(readGolden(t, "node.json"), nodeFormat, 1, `"level":1`, `"level":1,"of_node":7`)
	n := new(Node)
	sum, err := OpenJSON(nodeFormat, b, maxNodeBytes, n)
	if err != nil {
		t.Fatal(err)
	}
	again, ref, err := n.Encode("leaf-golden")
	if err != nil || !bytes.Contains(again, []byte(`"of_node":7`)) {
		t.Fatalf("%s, %v", again, err)
	}
	ref.Size, ref.CRC32C, ref.Unknown = int64(len(b)), sum, `"of_ref":1`
	if _, err := DecodeNode(b, ref); err != nil {
		t.Error(err)
	}
}

// TestUnknownMembersAreBounded: what a stranger put there is not kept without limit.
func TestUnknownMembersAreBounded(t *testing.T) {
	many := ""
	for i := range maxUnknown + 1 {
		many += fmt.Sprintf(`"u%d":0,`, i)
	}
	if _, err := DecodeRoot(written(readGolden(t, "root.json"), rootFormat, 1, `"topic":`, many+`"topic":`)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%d unknown members: %v", maxUnknown+1, err)
	}
}

// TestNewerFormatIsRefusedByName, and not taken for damage.
func TestNewerFormatIsRefusedByName(t *testing.T) {
	for _, version := range []int{2, 17} {
		_, err := DecodeRoot(written(readGolden(t, "root.json"), rootFormat, version))
		var v *VersionError
		if !errors.As(err, &v) || v.Format != rootFormat || v.Version != version || v.Newest != formatVersion || !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if _, err := DecodeRoot(written(readGolden(t, "root.json"), rootFormat, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("version 0: %v", err)
	}
}
