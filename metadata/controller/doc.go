// Package controller runs on every broker and decides on the one that is elected:
// who leads each partition, when a reassignment is done, and when a deleted
// topic's last traces go.
//
// It hides the election and the loop. What is decided is in pure functions of an
// Image: [Plan] and [Prefer], which the controller carries out, [Reassign] and
// [Elect], whose changes anybody may write with metadata.Store.AlterPartitions,
// and [Place], [Balance] and [Drain], which choose brokers. What is written is
// compared with the state the decision was based on, and by the controller also
// fenced by the revision of the election, so a controller that is wrong about
// being one, or about the cluster, changes nothing.
//
// Invariants: a leader is elected from the in-sync replicas, or, where that is
// allowed or asked for and none of them lives, becomes the only one and is marked
// as Recovering; in-sync replicas are replicas; LeaderEpoch grows with every
// election, also when a broker that restarted is elected again, and when a replica
// goes; the last known in-sync replicas of a partition are not forgotten but for a
// disk that was lost; a reassignment gives no replica up before all of its target
// is in sync.
package controller
