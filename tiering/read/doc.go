// Package read serves records and look-ups out of the tier. It hides where an old record lives and how far away that is:
// callers ask for an offset, a time, an epoch or the transactions of a range.
//
// A read goes from the manifest to a segment, from the head of its index to a chunk, and from there into the answer,
// which pins the chunk in the cache instead of copying it. Chunks come in by ranged GETs: of one chunk once, however
// many ask for it, and of a slow one twice (hedge.go, pace.go). What a sequential reader will ask for next is on its way
// before it asks, across borders of segments: as much as arrives at its pace while a GET takes its time, within its
// share of one budget (readahead.go); for readers in no hurry one after the other (calm.go). Readers that are held to
// one rate take turns by bytes (fairrate.go). What is too large for the cache is read beside it, one piece at a time
// (reserve.go).
//
// # Invariants
//
//   - Every batch of a chunk is checked when the chunk comes in, and once more from the store if that fails; what is
//     handed out was checked. Nothing is read twice because a client stopped waiting: a fetch goes on into the cache.
//   - An answer waits for its first chunk only, so one reader never waits for memory while it holds some.
//   - Whoever misses an object looks at a newer manifest before it says so: the one at hand may have been replaced
//     longer than the grace period ago.
//   - An error is of a kind that readers of a log know (ForLog), and names the object.
//
// Which manifest is a partition's now it has from Manifests, which the manager satisfies.
package read
