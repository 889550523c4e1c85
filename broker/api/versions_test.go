package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestVersionsAreKafkas holds the table to what kmsg can encode and to Kafka's
// special cases.
func TestVersionsAreKafkas(t *testing.T) {
	for _, v := range Versions() {
		if limit := kmsg.RequestForKey(v.Key).MaxVersion(); v.Max > limit {
			t.Errorf("%s: version %d, kmsg knows %d", v.Name, v.Max, limit)
		}
		if v.Min > v.Max {
			t.Errorf("%s: %d to %d", v.Name, v.Min, v.Max)
		}
	}
	e := versionTable()[kmsg.Produce.Int16()]
	if e.advertised() != 0 || e.min != 3 {
		t.Errorf("produce is advertised from %d and served from %d, want 0 and 3: librdkafka looks for 0", e.advertised(), e.min)
	}
	for key, e := range versionTable() {
		if (e.serve != nil) == (e.pipelined != nil) {
			t.Errorf("%s: want one handler, that has the connection to itself or is pipelined", kmsg.NameForKey(key))
		}
	}
}
