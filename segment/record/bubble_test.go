package record

import (
	"testing"
	"testing/synctest"
)

// TestCodecsMoveBetweenBubbles checks that what the pools keep from one
// testing/synctest bubble works in the next, and outside.
func TestCodecsMoveBetweenBubbles(t *testing.T) {
	use := func(t *testing.T) {
		for _, c := range allCodecs {
			batch := batchOf(t, c, 100, 1000)
			for range 3 {
				o := ValidateOptions{FromClient: true, Target: allCodecs[(int(c)+1)%len(allCodecs)].Target()}
				if _, err := Validate(batch, o); err != nil {
					t.Error(err)
				}
			}
			if err := batch.Each(nil, func(Record) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	for range 3 {
		synctest.Test(t, use)
	}
	use(t)
}
