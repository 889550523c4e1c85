// Package restore brings back from a bucket what etcd has lost. NewPlan plans a cluster's restore: it joins the newest
// snapshot with the manifests in the bucket and says, partition by partition, what comes back and what does not; the
// plan's Metadata is written by who has the etcd. CopyTopic takes one topic over from the folder of another cluster.
// It hides which of several witnesses counts: a topic's own object where it is newer than the snapshot, the newest
// manifest that can be read, the younger of two topics with one name.
//
// # Invariants
//
//   - Planning changes nothing. What was decided depends on the objects alone, so a restore that is begun anew decides
//     the same.
//   - No leader epoch and no producer id comes again that a lost tail may have had (epochMargin, producerIDMargin).
//   - A committed offset never lies behind the end of what comes back.
//   - A topic that was copied has objects and manifests of its own: neither cluster can delete what the other needs.
package restore
