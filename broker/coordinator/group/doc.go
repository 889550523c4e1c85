// Package group is Kafka's group coordinator: membership of consumer groups
// (the classic protocol) and their committed offsets, kept in the partitions
// of __consumer_offsets. It hides the rebalance state machine, the record
// formats (Kafka's, byte for byte), expiry and the coordinator runtime.
//
// Requests and responses are kmsg's types, and the responses carry Kafka's
// error codes: the one exception to the rule that codes exist only in
// broker/api. The group protocol is defined by its codes: each state answers
// a request with a code, nothing of it is worth a Go error. The methods
// therefore never fail; they return a response of the request's version.
// Authorization, and that topics exist, is checked by the caller before.
//
// JoinGroup and SyncGroup wait for other members, up to the rebalance timeout,
// and OffsetCommit waits for its record to be committed: call them off the
// connection's read loop, with a context that ends with the connection.
// A client that goes away leaves its member waiting, as in Kafka, until its
// session ends.
//
// States of a classic group, and what moves it:
//
//	Empty ──join──▶ PreparingRebalance ──all joined, or timeout──▶ CompletingRebalance
//	  ▲                │        ▲                                    │          │
//	  └──nobody left───┘        └───join, leave, session end─────────┤   leader's sync, committed
//	                            └────────────────────────────────────┴──────── Stable
//
// What is in the log: per group one GroupMetadata record, written when a
// generation becomes stable or empty and when a static member is replaced; per
// group and partition one OffsetCommit record. Members that wait, ids handed out
// but not joined (KIP-394), and timers are beside the log: a new coordinator
// starts from the last stable generation and gives each member one session
// to show up.
//
// Differences from Kafka, all invisible to clients: a group whose first member
// has not finished joining is not written to the log (Kafka writes an empty
// GroupMetadata); reads wait for the commit of what they saw instead of reading
// an older snapshot; a new coordinator answers COORDINATOR_LOAD_IN_PROGRESS until
// what it loaded is committed; a request that a newer one of the same member replaces is
// answered at once instead of never.
//
// What members say of themselves is kept for as long as their sessions last, so it
// is bounded, for all groups together: a join that finds no room is told to try
// again (COORDINATOR_NOT_AVAILABLE).
//
// Room for what is to come: records of transactions are replayed and kept as
// pending already (KIP-447, TxnOffsetCommit writes them), and records of KIP-848
// groups are skipped with a warning.
package group
