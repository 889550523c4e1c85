# KIP-890: the first batch of a transaction needs the guard of a verification.
run
append pid=1 epoch=0 seq=0 txn must-verify
verify pid=1 epoch=0 seq=0
verify pid=1 epoch=0 seq=0
append pid=1 epoch=0 seq=0 txn guard=99
append pid=1 epoch=0 seq=0 txn guard=1
append pid=1 epoch=0 seq=1 txn must-verify
verify pid=1 epoch=0 seq=2
append pid=1 epoch=0 seq=2 must-verify
----
invalid transaction state
guard 1
guard 1
invalid transaction state
at 0-0, unstable from 0
at 1-1, unstable from 0
guard 0
invalid transaction state

# A marker in between voids the guard.
run
marker pid=1 epoch=0 abort
verify pid=1 epoch=0 seq=2
marker pid=1 epoch=0 abort
append pid=1 epoch=0 seq=2 txn guard=2
verify pid=1 epoch=0 seq=2
append pid=1 epoch=0 seq=2 txn guard=3
----
at 2, ended 0-2 aborted=true stable=3, unstable from 0
guard 2
at 3, unstable from 0
invalid transaction state
guard 3
at 4-4, unstable from 0

# The lowest sequence number seen goes first.
run
verify pid=2 epoch=0 seq=5
verify pid=2 epoch=0 seq=3
append pid=2 epoch=0 seq=5 txn guard=4
append pid=2 epoch=0 seq=3..4 txn guard=4
append pid=2 epoch=0 seq=5 txn must-verify
----
guard 4
guard 4
out of order sequence number
at 5-6, unstable from 0
at 7-7, unstable from 0

# A newer epoch starts over.
run
verify pid=3 epoch=0 seq=5
verify pid=3 epoch=1 seq=7
append pid=3 epoch=1 seq=7 txn guard=5
----
guard 5
guard 5
at 8-8, unstable from 0

# With transactions v2 a producer without state starts at 0.
run
verify pid=4 epoch=0 seq=3 bump
append pid=4 epoch=0 seq=3 txn guard=6
verify pid=4 epoch=0 seq=0 bump
append pid=4 epoch=0 seq=0..2 txn guard=6
----
guard 6
out of order sequence number
guard 6
at 9-11, unstable from 0

# A duplicate needs no verification; a coordinator's batch does.
run
append pid=4 epoch=0 seq=0..2 txn must-verify
append pid=5 epoch=0 seq=-1 txn broker must-verify
append pid=5 epoch=0 seq=0 must-verify
----
duplicate of 9-11
invalid transaction state
at 12-12, unstable from 0

# Verifications that came to nothing expire.
run
verify pid=6 epoch=0 seq=0
expire now=3600000
append pid=6 epoch=0 seq=0 txn guard=7
----
guard 7
0 forgotten
invalid transaction state
