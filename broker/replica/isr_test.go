package replica_test

import (
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/broker/replica"
	"github.com/coldbrook/coldbrook/metadata"
)

// TestFollowersThatFallBehindLeaveTheInSyncReplicas cuts one off: producers wait
// for it no longer than replica.lag.time.max.ms and a half, and it comes back
// once it has all.
func TestFollowersThatFallBehindLeaveTheInSyncReplicas(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.topic("t", 1, 2, 3)
		f.put("t", "a")
		f.node(3).part(true)
		began := time.Now()
		a, err := f.node(1).append("t", replica.AcksAll, "b")
		f.must(err)
		f.must(a.Wait(t.Context()))
		if took := time.Since(began); took < 9*time.Second || took > 16*time.Second {
			t.Errorf("acked after %s, want the lag of 10s and up to half more", took)
		}
		f.inSync("t", 1, 2)
		began = time.Now()
		f.put("t", "c")
		if took := time.Since(began); took > time.Second {
			t.Errorf("acked by the two after %s", took)
		}
		f.node(3).part(false)
		f.inSync("t", 1, 2, 3)
		same(t, "it has", f.node(3).all("t", 0)[2], "c")
		_ = metadata.NoBroker
	})
}
