//go:build e2e

package e2e

import (
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
)

const (
	corpusBytes  = 220 << 20
	killBytes    = 64 << 20
	kills        = 10
	segmentBytes = 4 << 20
	storeAway    = time.Minute
)

func kinds() []cluster.Kind {
	return []cluster.Kind{cluster.InProcess, cluster.Subprocess, cluster.Container}
}
