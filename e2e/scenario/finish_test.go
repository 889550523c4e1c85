package scenario

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// notes is a test that only listens.
type notes struct {
	testing.TB
	said []string
}

func (n *notes) Errorf(format string, args ...any) {
	n.said = append(n.said, fmt.Sprintf(format, args...))
}

// Numbers are of records as they were sent; what is read is them by offset.
func TestFinalReadingSeesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		acked []int64 // offset by number
		read  []uint64
		want  string // empty: nothing is wrong
	}{
		"all there":               {[]int64{0, 1, 2}, []uint64{0, 1, 2}, ""},
		"an acked record is lost": {[]int64{0, 1, 2}, []uint64{0, 1}, "record 2 was acked at offset 2 and is lost"},
		"another has its place":   {[]int64{0, 1, 2}, []uint64{0, 2}, "record 1 was acked at offset 1 and is lost"},
		"twice":                   {[]int64{0, 1}, []uint64{0, 1, 1}, "record 1 is at offsets 1 and 2"},
		"out of order":            {[]int64{0, 2, 1}, []uint64{0, 2, 1}, "record 1 at offset 2 comes after record 2"},
		"moved":                   {[]int64{0, 2}, []uint64{0, 1}, "record 1 was acked at offset 2 and is at 1"},
		"not acked":               {[]int64{0, -1}, []uint64{0, 1}, "record 1 was never acked"},
		"never sent":              {[]int64{0}, []uint64{0, 7}, "offset 1 shows record 7, which was never sent"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &partitionLedger{topic: "t", acked: c.acked}
			f := &finalReading{last: -1, end: p.end()}
			for range c.acked {
				f.place = append(f.place, -1)
			}
			heard := &notes{TB: t}
			for offset, number := range c.read {
				f.record(heard, p, &kgo.Record{Offset: int64(offset), Value: binary.BigEndian.AppendUint64(nil, number)})
			}
			f.compare(heard, p)
			all := strings.Join(heard.said, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("said %q, want %q", all, c.want)
			}
		})
	}
}
