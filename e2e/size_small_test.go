//go:build !e2e

package e2e

import (
	"slices"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

const (
	corpusBytes  = 8 << 20
	killBytes    = 4 << 20
	kills        = 3
	segmentBytes = 256 << 10
	storeAway    = 3 * time.Second

	hostileTime = 10 * time.Second
	hostileSeed = 17

	clusterRounds           = 2
	clusterAway             = 5 * time.Second // the lease is 3 s
	clustersShareTheMachine = true
)

func kinds() []cluster.Kind { return []cluster.Kind{cluster.InProcess, cluster.Subprocess} }

func clusterLoad() scenario.LoadOptions {
	return scenario.LoadOptions{Topics: 4, Partitions: 3, Rate: 300, Settings: []string{"internal.segment.bytes", "65536", "local.retention.bytes", "1"}}
}

// clusters leaves out the containers.
func clusters(v ...variant) []variant {
	return slices.DeleteFunc(v, func(v variant) bool { return v == inContainers })
}
