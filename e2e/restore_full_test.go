//go:build e2e

package e2e

const (
	drillBrokers = 3
	drillTopics  = 50
	drillGroups  = 20
	drillRecords = 400 // a partition
	drillMinIO   = true
)
