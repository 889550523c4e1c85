package sim

import (
	"strings"
	"testing"
)

// TestHistoryFindsWhatIsBroken feeds the checks with histories that break one
// promise each, and with one that breaks none.
func TestHistoryFindsWhatIsBroken(t *testing.T) {
	at := func(offset int64) place { return place{"t", 0, offset} }
	r := func(n uint32) item { return item{1, n} }
	for name, c := range map[string]struct {
		happens func(h *history)
		want    string // beginning of the one complaint, empty: none
	}{
		"all is well": {func(h *history) {
			h.ack(at(0), r(0))
			h.ack(at(1), r(2))
			h.read("a", 0, at(0), r(0))
			h.read("a", 0, at(1), r(2))
			h.read("b", 1, at(1), r(2))
			h.owns("g", 1, at(0), "m1")
			h.owns("g", 1, at(0), "m1")
			h.owns("g", 2, at(0), "m2")
			h.atLeast("a", "x", h.floor("x"), 7)
			h.atLeast("a", "x", h.floor("x"), 7)
			h.end(map[place]item{at(0): r(0), at(1): r(2), at(2): r(3)})
		}, ""},
		"acked and lost": {func(h *history) {
			h.ack(at(0), r(0))
			h.end(map[place]item{})
		}, "lost: record 1/0 was acked"},
		"shown and lost": {func(h *history) {
			h.saw("a", at(0), r(0))
			h.end(map[place]item{})
		}, "lost: record 1/0 was shown to a"},
		"lost with its topic": {func(h *history) {
			h.ack(at(0), r(0))
			h.forget("t")
			h.end(map[place]item{})
		}, ""},
		"two values to two readers": {func(h *history) {
			h.saw("a", at(0), r(0))
			h.saw("b", at(0), r(1))
		}, "two values"},
		"acked with another value than shown": {func(h *history) {
			h.saw("a", at(0), r(0))
			h.ack(at(0), r(1))
		}, "two values"},
		"another value in the end": {func(h *history) {
			h.ack(at(0), r(0))
			h.end(map[place]item{at(0): r(1)})
		}, "two values"},
		"a duplicate": {func(h *history) {
			h.saw("a", at(0), r(0))
			h.saw("a", at(1), r(0))
		}, "duplicate"},
		"a duplicate in another partition": {func(h *history) {
			h.ack(at(0), r(0))
			h.saw("a", place{"t", 1, 0}, r(0))
		}, "duplicate"},
		"wrong order": {func(h *history) {
			h.end(map[place]item{at(0): r(1), at(1): r(0)})
		}, "order"},
		"orders of two producers": {func(h *history) {
			h.end(map[place]item{at(0): {1, 5}, at(1): {2, 0}, at(2): {1, 6}})
		}, ""},
		"a skipping reader": {func(h *history) {
			h.read("a", 0, at(0), r(0))
			h.read("a", 0, at(2), r(2))
		}, "skipped"},
		"a reader that does not begin at the beginning": {func(h *history) {
			h.read("a", 0, at(1), r(1))
		}, "skipped"},
		"a reader that goes back": {func(h *history) {
			h.read("a", 0, at(0), r(0))
			h.read("a", 0, at(0), r(0))
		}, "went back"},
		"a number that goes back": {func(h *history) {
			h.atLeast("a", "hw", h.floor("hw"), 9)
			h.atLeast("b", "hw", h.floor("hw"), 8)
		}, "went back: b was told 8 of hw"},
		"an answer that was overtaken": {func(h *history) {
			before := h.floor("hw")
			h.atLeast("a", "hw", before, 9)
			h.atLeast("b", "hw", before, 8)
		}, ""},
		"a commit that came late": {func(h *history) {
			h.late("c", 8)
			h.atLeast("a", "c", h.floor("c"), 9)
			h.atLeast("a", "c", h.floor("c"), 8)
		}, ""},
		"two owners in one generation": {func(h *history) {
			h.owns("g", 3, at(0), "m1")
			h.owns("g", 3, at(0), "m2")
		}, "two owners"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			c.happens(h)
			got := h.complaints()
			if c.want == "" && len(got) > 0 {
				t.Errorf("complains of %q, there is nothing wrong", got)
			}
			if c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
				t.Errorf("complains of %q, want one that begins with %q", got, c.want)
			}
		})
	}
}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	want := item{3, 500}
	v := want.value(40)
	if got, ok := parseRecord(v); !ok || got != want {
		t.Errorf("got %v, %v, want %v", got, ok, want)
	}
	v[30]++
	if _, ok := parseRecord(v); ok {
		t.Error("a changed value was taken for whole")
	}
	if _, ok := parseRecord(v[:5]); ok {
		t.Error("half a value was taken for whole")
	}
}
