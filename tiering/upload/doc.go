// Package upload copies what a leader seals into the tier: which segments may go (Candidates), the segment and its index
// (Copy), the manifest that names them (Manifest), topics' own files (TopicFiles), and a segment whose objects were lost
// a second time (Again). It hides how much of a disk, of a quota and of the page cache a copy takes. Commits it does not
// decide: the pointer in etcd is swapped by who leads.
//
// An upload reads its segment twice: a scan that checks every batch and makes the index, and the PUT. It holds a scan
// buffer of 1 MiB and one batch, then the index object (some 20 bytes for each index.interval.bytes of the segment) and
// what the driver holds of the parts in flight; reads are runs of at most 1 MiB, each taken out of the one copy quota
// before it is made. What of a segment was not in the page cache when it was opened is dropped from it at the end, in
// steps of 64 KiB; what was there stays, since consumers near the end have just read it. So an upload costs at most its
// segment's size of page cache, for as long as it lasts.
//
// # Invariants
//
//   - Every attempt has a name of its own: nothing that an earlier one may still be writing is ever named.
//   - What is stored is believed when the store's answer, or a HEAD, has its size and, where the store knows one, its
//     checksum; both objects of a segment are stored, or neither is left behind knowingly.
//   - An attempt lasts as long as it makes progress, and no longer.
//   - A segment is copied when the next one's base offset is at most the last stable offset, from the tier's end on.
//   - Bytes other than those that were committed never replace them.
package upload
