//go:build !e2e

package e2e

const (
	drillBrokers = 1
	drillTopics  = 6
	drillGroups  = 4
	drillRecords = 150 // a partition
	drillMinIO   = false
)
