// Package sim runs a whole cluster with real clients in one bubble of virtual
// time: three or four brokers, in some seeds one of them a replay broker, on
// crashable disks in memory, an object store and a key-value store that fail,
// and an in-memory network that cuts links. Producers are idempotent, a group
// has two members, readers read everything again and again, one of them by
// rack and one from the replay broker, and every broker is asked directly too.
// A seed draws what goes wrong and when; minutes pass in seconds.
//
// # Checks
//
// What users are promised, at any time, from any broker, during the faults too:
//
//   - an acked record is there, and so is what anybody was shown (invariant 1);
//   - one offset never shows two values, to anyone (invariant 2);
//   - no record is there twice, and each producer's are in its order;
//   - readers see every offset, one after the other;
//   - the end that any broker tells never goes back;
//   - committed offsets never go back, and no two members of a group own one
//     partition in one generation;
//   - every revision of every partition in etcd: the leader is in sync, in-sync
//     replicas are replicas, epochs grow, an election takes who was in sync; the
//     tier's pointer is moved forward, by the leader's epoch;
//   - brokers do not end by themselves, unless their disk failed.
//
// In the end all faults heal. Then all brokers are registered and all replicas
// in sync within a minute, all partitions can be written, every replica holds
// the same bytes, through the API and on its disk, the tier has no gap and the
// same bytes, and everything acked is there.
//
// The checks rest on acks=all, three replicas and min.insync.replicas=2, and on
// the schedule: it takes a disk only when the broker's registration has ended, and
// while another in-sync replica has its own.
//
// # Limits
//
// A seed replays the faults, not every interleaving: the order in which
// goroutines run is Go's. A paused broker is one whose input and output hang,
// see package power: its timers go on. An offset commit that got no answer may
// arrive late and move a committed offset back, as with any Kafka client that
// sends it again over another connection: such values are not complained of.
//
// A failing seed prints its schedule, what came of it, and what is broken. With
// -artifacts the brokers' logs and all decisions in etcd are kept too.
//
// # Eligible leader replicas
//
// Not promised is a leader when the only in-sync replica loses its disk: seed 40.
// With ISR {3,2} and min.insync.replicas=2, 3 goes down, the leader 2 leaves the
// in-sync replicas to itself, and loses its disk. 3 has all that was committed, for
// the high watermark stands still while fewer than min.insync.replicas are in sync,
// and nobody may know: etcd has who is in sync, not who was when it stood still.
//
// KIP-966 keeps those. Three rules would make it safe here. A replica that leaves
// in-sync replicas which become fewer than min.insync.replicas is noted as
// eligible, in the same compare-and-swap. The high watermark does not move while
// any is noted, whatever min.insync.replicas says: leader and controller see a
// change of it at different times, so the leader takes the notes away first, by
// compare-and-swap, when enough are in sync by what it knows. Who loses its disk is
// taken out of the notes as it is out of the in-sync replicas. (Power losses need
// no rule, unlike in Kafka: a replica counts for what it has synced.) Then the
// first live one may be elected when no in-sync replica lives, at the price of what
// was acked with acks=1 alone.
//
// It is not made: the controller does not know min.insync.replicas today, and each
// writer of a partition's state (elections, drain, reassignment, disks that were
// lost, undelete, restore, the leader) has to keep the notes, and DescribeTopic-
// Partitions to tell them. Until then an operator decides: unclean.leader.election
// for the topic, with which 3 leads and takes what the tier has.
//
// # Track record
//
//	seed  bug                                                                    found by
//	4     acked records of all partitions lost in a power loss: the name of a    go test ./e2e/sim -first 4 -seeds 1
//	      new data directory was not durable in its parent                       (one broker, at 1f166c3)
//	3, 8  the simulation's own: a broker that lost power went on acking until    go test ./e2e/sim -seeds 12
//	      it had stopped; see package power                                      (one broker, at 1f166c3)
//	4     truncation and retention by age waited for themselves for ever when    go test -race ./e2e/sim -first 3 -seeds 2
//	      nobody had read a segment's index since the restart                    (at 10613b3; now TestMaintenanceAfter-
//	                                                                             ARestartDoesNotWaitForItself in segment)
//	2, 6  a reader that was sent to a replay broker came back at once, for ever: go test ./e2e/sim -first 2 -seeds 1
//	      franz-go goes only to brokers that it knows as replicas                (at c329cec)
//	40    a partition without a leader for ever: its last but one in-sync        go test ./e2e/sim -first 40 -seeds 1
//	      replica was down, the last one lost its disk while its lease lasted.   (at its first schedule of lost disks;
//	      Not promised; the schedule waits for the lease's end since             see diskLost)
//	21    OUT_OF_ORDER_SEQUENCE_NUMBER for a batch that is in the log: a producer   go test ./e2e/sim -first 21 -seeds 1
//	      snapshot knows each producer's last batch only, and a replica that      (once in ten to fifty runs, at 0a0c021;
//	      began from one, here with its records in the tier only, did not know    now TestIdempotenceHoldsOverReloads in
//	      those before, which the client sends again because it was not answered  segment, ...OverALostDisk in replica)
//	17    OFFSET_OUT_OF_RANGE for a committed offset, to a client that names no   go test ./e2e/sim -first 17 -seeds 1
//	      leader epochs, from a leader that was deposed without knowing           (at c329cec; now TestADeposedLeader-
//	                                                                             MisleadsNoReader in replica)
package sim
