//go:build e2e

package e2e

import (
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

const (
	corpusBytes  = 220 << 20
	killBytes    = 64 << 20
	kills        = 10
	segmentBytes = 4 << 20
	storeAway    = time.Minute

	hostileTime = time.Minute
	hostileSeed = 17

	clusterRounds           = 4
	clusterAway             = 10 * time.Second
	clustersShareTheMachine = false
)

func kinds() []cluster.Kind {
	return []cluster.Kind{cluster.InProcess, cluster.Subprocess, cluster.Container}
}

func clusterLoad() scenario.LoadOptions {
	return scenario.LoadOptions{Topics: 20, Partitions: 3, Settings: []string{"segment.bytes", "1048576", "local.retention.bytes", "1"}}
}

func clusters(v ...variant) []variant { return v }
