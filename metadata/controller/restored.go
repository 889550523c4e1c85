package controller

import "github.com/coldbrook/coldbrook/metadata"

// restored says that a partition is as [metadata.RestoreCluster] or RecoverTopic
// made it and nobody changed since: no replica has anything, so that any of them
// may lead, as after an unclean election. It takes what the tier has first.
func restored(p metadata.Partition) bool {
	return p.Recovering && p.Epoch == 0 && len(p.ISR) == 0
}
