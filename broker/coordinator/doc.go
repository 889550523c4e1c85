// Package coordinator runs state machines that live in the partitions of an
// internal topic: a group coordinator in __consumer_offsets, a transaction
// coordinator in __transaction_state. It hides replay, the order of handlers,
// the wait for commits, timers and leadership from the machines.
//
// One partition, one machine, one goroutine. A handler runs to its end before
// the next starts, and says with an [Update] which records its changes need.
// The runtime appends them as one batch, applies each, and goes on with the
// next handler at once; the caller's answer leaves when the batch is committed.
// So many writes of one partition are in flight, and answers leave in order.
//
// Nothing is ever rolled back. State that is kept in the log changes in exactly
// two places: [Machine.Replay] while loading, and [Record.Apply] after the batch
// is in the log. A failed append has therefore changed nothing. A batch that is
// appended but can no longer be committed (the leadership is lost, the wait
// fails) makes the whole machine worthless: it is thrown away, everyone who
// waits gets an error, and the partition is loaded again from the log if this
// broker still leads it. Handlers may keep other state (who waits, when a
// session ends) beside the log and change it as they like: it is lost with the
// machine.
//
// Handlers see appended state, committed or not. [Read] therefore answers when
// all it may have seen is committed; [Peek] does not wait and is for state that
// is informational or beside the log. What a new leader inherited above the high
// watermark may still be lost with it, so a partition is served once all that was
// loaded is committed.
//
// Leadership moves, and a broker may be the last to know. Every batch, read and
// wait names its [Term], the partition and the leader epoch it was loaded at, and a
// [Log] refuses those of any other epoch: a machine of a former leadership cannot
// write into the next one, and what is committed there is not taken for a commit
// of its own. A broker whose lease is not confirmed may have been deposed without
// a word: it answers a Read when a barrier it appended is committed, which only
// the leader can.
//
// Locks: Runtime.mu guards the table of partitions and is never held while
// anything waits. Machines need none.
package coordinator
