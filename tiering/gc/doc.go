// Package gc keeps a bucket free of what nobody needs and finds out whether what is needed is there: what retention lets
// expire (Expired), deletions that a manifest's garbage list asks for (Collect), orphans and abandoned uploads (Run, in rounds), whole topics that were
// deleted (Purge), and two checks: Fsck compares names and sizes, Verify reads every byte, as the scrub does in the
// background. It hides how a bucket is compared with manifests (one LIST and one walk side by side) and when something
// that is too much may go.
//
// It decides for a bucket and leads nothing: which partitions this broker leads, and the pass of a leader in which a
// job runs, it has from Partitions and Led, which the manager satisfies. To put a lost segment back is an upload, so it
// asks Partitions for that too.
//
// # Orphans
//
// Collection of orphans: objects below topics/ that no reachable manifest names, and multipart uploads that nobody
// ends. A round compares LISTs with manifests and marks what is too much; a later round hands over what was marked
// for the grace period, and only then it goes.
//
// Nothing that may still be named can go, whatever clocks say, because of who deletes it:
//
//   - A partition's leader deletes in a pass of its own, which no copy runs beside. What it copied and did not commit
//     it knows. Before it deletes it swaps the pointer for itself: the swap holds only while its leader epoch does,
//     so whatever the LIST before it showed was written under this or an earlier epoch, and no commit that was sent
//     earlier can come to count after it.
//   - Of a partition without a leader the controller's broker deletes, after the same swap, what earlier leader
//     epochs wrote: etcd refuses their commits for ever.
//   - Of a topic that does not exist it deletes all, if an image read after the LIST shows neither the topic nor its
//     tombstone, and the folder has no topic.json: Purge removes that first, so a folder that has one is that of a
//     topic etcd has lost, which can be recovered.
//
// A root behind the pointer's that is still there, because its commit failed or its leader ended, is the newest for whoever
// has the bucket alone. It protects what it names, and goes before that does (stray.go).
//
// Age decides on top: Modified by the store's clock, and the time since this process first saw it too much by its own.
// A restart begins the second one again.
//
// # Invariants
//
//   - An object is deleted only when no reachable manifest has named it for the grace period.
//   - What was found is looked at again before anything is done about it: a LIST may lag behind.
//   - The memory of a check or a round does not grow with a partition; marks, hand-overs and repairs are bounded.
//   - Nothing expires whose age nobody knows.
//   - A check changes nothing without being told to repair, and a repair never replaces bytes by others.
package gc
