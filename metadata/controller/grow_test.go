package controller

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/coldbrook/coldbrook/metadata"
)

// TestGrowAddsWhatIsMissing has a topic that was made on one broker, and others come:
// replicas go where least of the topic is and into other racks, who prefers to lead is
// shared out, and what is being moved, draining brokers and those that hold nothing
// are left alone.
func TestGrowAddsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.up(1, "a")
		c.create("t", ids(1), ids(1), ids(1), ids(1))
		grow := func(factor int) string {
			topic, _ := c.store.Image().Topic("t")
			changes := Grow(c.store.Image(), topic, factor)
			for i, err := range c.store.AlterPartitions(t.Context(), changes) {
				if err != nil {
					t.Errorf("change %d: %v", i, err)
				}
			}
			synctest.Wait()
			out := ""
			for n := range topic.Partitions {
				out += fmt.Sprint(c.partition("t", int32(n)).Replicas)
			}
			return out
		}
		want := func(what string, factor int, replicas string) {
			t.Helper()
			if got := grow(factor); got != replicas {
				t.Errorf("%s: replicas %s, want %s", what, got, replicas)
			}
		}
		want("alone", 3, "[1][1][1][1]")
		c.register(metadata.Registration{ID: 5, DirectoryID: "dir-5", Role: metadata.RoleReplay})
		drains := c.up(6, "c")
		if err := drains.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want("beside brokers that take none", 3, "[1][1][1][1]")
		want("no more wanted", 1, "[1][1][1][1]")
		c.up(2, "a")
		c.up(3, "b")
		want("another rack first", 2, "[3 1][3 1][1 3][1 3]")
		want("those are being added", 3, "[3 1][3 1][1 3][1 3]")
	})
}
