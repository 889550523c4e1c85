// Package segment stores the records of partitions on the local disk: a [Dir] is
// one log directory, a [Log] one partition in it. It hides files, indexes, the
// lineage of leader epochs, producer state, group commit, recovery and Kafka's
// file formats.
//
// # Promises
//
//   - LogStart ≤ LocalLogStart ≤ LastStableOffset ≤ HighWatermark ≤ LogEnd, and
//     RecoveryPoint ≤ SyncedOffset ≤ LogEnd.
//   - What is below SyncedOffset survives a power loss (unless flush.messages > 1
//     let it pass for durable); what is above may be lost, but only from the end.
//   - A failed fsync is final and takes the log directory offline, like any I/O
//     error. A full disk, an exhausted quota and a lack of descriptors heal: the
//     operation fails, leaves nothing behind that a retry or a restart does not
//     remove, and the next one may work. Each error is judged where its call is
//     ([vfs.Heals]).
//   - What was durable is never cut in silence. Where it is damaged or gone, the log
//     does not open, or the read fails, with a [DamageError] that names the file
//     and the offset.
//   - Readers hold pinned regions of files. Nothing that happens to the log changes
//     what they read below the high watermark.
//   - A client's retry of any of the last five batches of a producer is answered as a
//     duplicate, whatever the producer state was computed from, as long as they lie
//     within the last 64 MiB before that: see recall.go.
//   - An idle log costs no CPU, no descriptor beyond a bounded cache, and some three
//     kilobytes.
//
// # Files
//
// All are Kafka's, byte for byte; integers are big endian.
//
//	<base>.log          batches as they were sent
//	<base>.index        last offset of a batch − base (4), position of the batch (4);
//	                    an entry for the first batch that starts more than
//	                    index.interval.bytes behind the one with the last entry
//	<base>.timeindex    largest timestamp so far (8), last offset of its batch − base (4);
//	                    with each entry of .index if it grew, and at the close
//	<base>.txnindex     version 0 (2), producer id, first, last, last stable offset (8 each)
//	<offset>.snapshot   producer state when the log ended at offset (package producer)
//	leader-epoch-checkpoint, *-offset-checkpoint, partition.metadata, meta.properties,
//	.kafka_cleanshutdown
//
// Files other than .log and indexes change only by [vfs.WriteFileAtomic]. Files
// that end with .torn are what a recovery cut off. Directories of partitions that
// end with -delete are about to be removed, those that end with -stray were put
// aside (see [Dir.SetAside]) and are the operator's.
//
// # What is durable when
//
// An append is one write. The committer syncs the .log, and the directory if the
// file is new, then SyncedOffset moves. Indexes, epochs and snapshots lag behind:
// they are derived. RecoveryPoint is the offset up to which they are durable too;
// it moves when a segment is sealed and once a minute, always after the files it
// speaks of. Before records below it go away (truncation), it is lowered on disk.
//
// A restart after a crash reads what lies behind RecoveryPoint and checks its
// CRCs. Bytes there that are no sound batch, and lie behind the high watermark on
// disk as well, were never acked: the log is cut, a copy put aside. (The high
// watermark is written only as far as the records below it are durable.) Damage
// below either is a [DamageError]. After a clean shutdown only the last index
// entry and what follows it are read. A sealed segment is compared with its
// indexes, and its end with the next segment's start, when it is first used.
//
// Indexes, lineage and snapshots that are missing, short, huge or do not fit the
// records are made anew from these.
//
// # Changes of the end
//
// Truncation, restart at an offset and the roll-back of a failed append go in three
// steps (truncate.go, tidy.go). First all that may fail is prepared beside the
// log, and what the disk says of offsets behind the new end is taken back:
// recovery point, high watermark. Then memory changes, in one step and without
// I/O. Last the files are brought in line, snapshots first, then the newest segment
// and each step durable before the next, so that what a crash leaves is a beginning of the
// log as it was. The last step can be repeated: if it meets a full disk, the next
// operation goes on with it before it does anything else, and until then no
// checkpoint speaks of what lies behind the cut.
//
// Removal from the front goes log file first, with a sync of the directory, oldest
// segment first, after LogStart is on disk.
//
// The offset checkpoints hold an offset of every partition, so one write of a file
// serves all who wait for it (marks.go). With 3,000 logs on the disk of the next
// section, BenchmarkManyLogs: truncations of all of them take 1.5 s, 64 at a time,
// where a write for each takes 39 s; log starts 0.6 s and 17 s; deletions 0.1 s and
// 57 s.
//
// # Choice of the group commit
//
// Measured on ext4 on a virtual disk, two cores shared with other load, each
// figure the median of three runs (they vary by half): 20 appends outstanding on 6
// logs, 5 on one, 200 on 100.
//
//	                                              64 KiB     1 KiB
//	one loop: CRC32C, write, fdatasync            168 MB/s    5,000/s
//	rounds over all dirty files, 6 logs           700        13,600
//	  preallocated, size unchanged (KEEP_SIZE)    840        15,200
//	  preallocated, size grown                    750        16,100
//	  filled with zeros before                    430        21,600
//	  files one after another                     600        16,200
//	  one syncfs                                  890        18,000
//	write with RWF_DSYNC by each append           820        21,900
//	8 workers, file by file (this package)        710        19,500
//	  preallocated, size unchanged                570        18,800
//	rounds, 1 log / 100 logs                      360 / 600   2,700 / 13,100
//	8 workers, 1 log / 100 logs                   330 / 1,000 6,200 / 31,800
//
// Workers win where it matters: a log never waits for the files of others, one log
// overlaps two syncs, a hundred logs share the kernel's journal commits.
// Preallocation brings nothing that shows; zeros help small appends and halve the
// rest, because each byte is written twice. syncfs makes producers wait for
// whatever else writes to the disk, RWF_DSYNC holds a thread per append and the
// log's turn while the disk works; sync_file_range makes neither sizes nor the
// disk's cache durable. io_uring was not tried: the time is the disk's, not the
// calls'.
package segment
