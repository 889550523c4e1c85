// Package controller runs on every broker and decides on the one that is elected:
// who leads each partition, and when a deleted topic's last traces go.
//
// It hides the election and the loop. What is decided is in pure functions of an
// Image ([Plan], [Prefer], [Place]); what is written is fenced by the revision of
// the election and compared with the state the decision was based on, so a
// controller that is wrong about being one, or about the cluster, changes nothing.
//
// Invariants: a leader is elected only from the in-sync replicas; LeaderEpoch
// grows with every election, also when a broker that restarted is elected again;
// the last known in-sync replicas of a partition are never forgotten.
package controller
