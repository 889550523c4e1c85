// Package cache keeps pieces of remote objects (chunks, whole indexes) in a bounded amount of
// memory. It hides where the bytes are: callers see a Pinned, which may later be a region of a
// file on a local disk.
//
// # What it promises
//
//   - Memory: the buffers of cached pieces, of running fetches, of pieces that are pinned, and the
//     spare buffers together never exceed Options.MemoryBytes. A fetch starts only when its buffer is
//     reserved; until then its callers wait, first come first served.
//   - One fetch: however many callers want a piece at once, it is fetched once. The fetch belongs to
//     the cache (Run's context), not to its callers: when all of them give up it finishes and the
//     piece is there for the next one. Only a fetch that has not started yet is dropped with its last
//     caller.
//   - A pinned piece does not change and is not freed until Release. Of the others the least
//     recently released goes first.
//   - An error is given to those who waited for it and is not kept.
//
// # Buffers
//
// A buffer is filled by the fetch itself, so bytes are copied once, from the store's socket or file.
// Buffers of 64 KiB and more lie outside Go's heap where the system has anonymous mappings: a cache of
// a gigabyte then does not let the heap grow to two before the garbage collector runs, and freed
// buffers go back to the system at once. Under the race detector they are ordinary memory, so that it
// sees who uses them. Buffers of Options.ChunkBytes are reused, others are not.
//
// # Locks
//
// One mutex guards everything. It is held for map and list operations and for mapping memory, never
// over a fetch or a wait. An entry is in exactly one of these states:
//
//	queued    wants memory; in the index, in the queue
//	started   has its buffer; in the index unless invalidated meanwhile
//	ready     in the index; in the LRU list while nobody pins it
//	orphan    ready but no longer in the index (invalidated); freed by the last Release
package cache
