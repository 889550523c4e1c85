package group

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/segment/record"

	"github.com/coldbrook/coldbrook/broker/coordinator/internal/memlog"
)

// The golden log has keys of versions 0 to 3 and 8, offset values of all
// versions and one of the future, group values of versions 0, 3 and 4, in
// batches of all codecs, tombstones, and a committed and an aborted transaction.
// It is never written again: what it holds must be readable for ever.
func TestGoldenLogIsReadForEver(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		config := testConfig()
		b := &bench{t: t, log: memlog.New(), config: config}
		for rest := raw; len(rest) > 0; {
			var batch record.Batch
			if batch, rest, err = record.Next(rest); err != nil {
				t.Fatal(err)
			}
			if err := batch.Verify(); err != nil {
				t.Fatal(err)
			}
			b.log.Put(0, batch)
		}
		b.start()
		defer b.stop()
		p := newPeople(b)
		want := strings.TrimSpace(`
Stable generation=3 type=consumer protocol=range leader=m-1
  m-1 instance=i1 assignment="\f"
  t1-0 at 42
  t1-1 at 42
  t1-2 at 42
  t1-3 at 42
  t1-4 at 42
  t1-5 at 42
  t1-6 at 42
  t1-9 at 900`)
		if diff := cmp.Diff(want, p.print("g")); diff != "" {
			t.Errorf("group g (-want +got):\n%s", diff)
		}
		if got, want := p.print("h"), "Empty generation=4 type=consumer"; got != want {
			t.Errorf("group h is %s, want %s", got, want)
		}
		if got, want := p.print("i"), "no such group"; got != want {
			t.Errorf("group i is %s, want %s", got, want)
		}
	})
}
