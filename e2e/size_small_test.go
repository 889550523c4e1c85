//go:build !e2e

package e2e

import (
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
)

const (
	corpusBytes  = 8 << 20
	killBytes    = 4 << 20
	kills        = 3
	segmentBytes = 256 << 10
	storeAway    = 3 * time.Second
)

func kinds() []cluster.Kind { return []cluster.Kind{cluster.InProcess, cluster.Subprocess} }
