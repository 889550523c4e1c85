// Package cache keeps pieces of remote objects (chunks, whole indexes) in a bounded amount of
// memory, and below that, if asked to, on a bounded part of a disk. It hides where the bytes come
// from: callers see a Pinned.
//
// # What it promises
//
//   - Memory: the buffers of cached pieces, of running fetches, of pieces that are pinned, and the
//     spare buffers together never exceed Options.MemoryBytes. A fetch starts only when its buffer is
//     reserved; until then its callers wait. Readers take turns, a piece each.
//   - Shares: what a holder (a connection) has pinned or waits for is charged to it until Release. One that has its
//     share gets nothing more, at once and without waiting; its first piece it always gets. What nobody takes, however
//     long, leaves room for others.
//   - One fetch: however many callers want a piece at once, it is fetched once. The fetch belongs to
//     the cache (Run's context), not to its callers: when all of them give up it finishes and the
//     piece is there for the next one. Only a fetch that has not started yet is dropped with its last
//     caller.
//   - A pinned piece does not change and is not freed until Release. Of the others the least
//     recently released, or asked for ahead, goes first. What was prefetched and is not asked for
//     again does not hold the memory for prefetches that readers who come back could use.
//   - An error is given to those who waited for it and is not kept.
//
// # Buffers
//
// A buffer is filled by the fetch itself, so bytes are copied once, from the store's socket or file.
// Large ones lie outside Go's heap (package memory). Buffers of Options.ChunkBytes are reused, others
// are not.
//
// # Disk
//
// A Disk is asked within a fetch, before the store, so that single flight, budgets and pins are those
// of the memory. What came from the store, and passed its checks there, is offered to the disk; what
// came from the disk is there already. One file holds one piece (its format is in piece.go), under a
// name made of a hash of the scope and the object, and of the chunk. Object names are unique and
// objects do not change, so a file is right for ever, and two clusters that use one directory one after
// the other do not see each other's.
//
//   - Verified: every load compares the header with the key and the checksum with the data. What is
//     wrong is removed and counted, and the store is asked. Nothing is synced: a file that a power loss
//     tore is found by its checksum. Files are written under another name and renamed.
//   - Out of the way: one writer, and a short queue that drops its oldest. A queued piece is not pinned;
//     one that was evicted before its turn is not written. The writer copies a piece into a buffer of
//     its own (a chunk, beside MemoryBytes) and pins it for that long, so that a disk that hangs holds
//     no memory of readers. Pieces larger than a chunk are not written.
//   - Bounded: the least recently used file is removed before the next is written. The order is kept in
//     memory; a use renews the file's time, at most once a minute, and a start goes by these times. The
//     directory is listed in the background; until then a file is looked for by its name. Files of other
//     names are left alone.
//   - Never in the way of a read: after an error, or a read that hangs for two seconds, the disk is left
//     alone, for a second and then for longer, reading and writing apart. A full disk also gives an
//     eighth of its pieces back. A read that hangs keeps its own callers waiting: it has their buffer. So
//     at most a quarter of the memory waits for the disk, and the store is asked for what goes beyond.
//   - Invisible to what is hot: written and read bytes do not stay in the page cache, where the active
//     segments are.
//
// # Locks
//
// One mutex guards everything in memory; the Disk has another, which may be taken under the first. It is held for map and list operations and for mapping memory, never
// over a fetch or a wait. An entry is in exactly one of these states:
//
//	queued    wants memory; in the index, in the queue
//	started   has its buffer; in the index unless invalidated meanwhile
//	ready     in the index; in one of the two LRU lists while nobody pins it
//	orphan    ready but no longer in the index (invalidated); freed by the last Release
package cache
