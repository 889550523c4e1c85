# The last stable offset waits for the marker, and the marker for the high watermark.
run
append pid=1 epoch=0 seq=0..4 txn
append pid=1 epoch=0 seq=5 txn
marker pid=1 epoch=0 commit
hw at=6
hw at=7
marker pid=1 epoch=0 commit
state
----
at 0-4, unstable from 0
at 5-5, unstable from 0
at 6, ended 0-6 aborted=false stable=7, unstable from 0
unstable from 0
stable
at 7, stable
pid=1 epoch=0 seq=5 offset=5 ts=1000 coordinator=0 txn=-1
end 8, stable

# Two producers at once: the older transaction holds the stable offset.
run
append pid=1 epoch=0 seq=6 txn
append pid=2 epoch=0 seq=0 txn
append pid=3 epoch=0 seq=0
marker pid=2 epoch=0 abort
marker pid=1 epoch=0 commit
hw at=12
hw at=13
----
at 8-8, unstable from 8
at 9-9, unstable from 8
at 10-10, unstable from 8
at 11, ended 9-11 aborted=true stable=8, unstable from 8
at 12, ended 8-12 aborted=false stable=13, unstable from 8
unstable from 8
stable

# A producer cannot leave its transaction.
run
append pid=1 epoch=0 seq=7 txn
append pid=1 epoch=0 seq=8
append pid=1 epoch=0 seq=8 txn
marker pid=1 epoch=0 abort
append pid=1 epoch=0 seq=9
hw at=100
----
at 13-13, unstable from 13
invalid transaction state
at 14-14, unstable from 13
at 15, ended 13-15 aborted=true stable=16, unstable from 13
at 16-16, unstable from 13
stable

# Fencing: an older epoch, an older coordinator.
run
append pid=4 epoch=5 seq=0 txn
marker pid=4 epoch=4 abort coordinator=3
marker pid=4 epoch=6 abort coordinator=3
append pid=4 epoch=5 seq=1 txn
append pid=4 epoch=6 seq=0 txn
marker pid=4 epoch=6 commit coordinator=2
marker pid=4 epoch=6 commit coordinator=3
hw at=100
----
at 17-17, unstable from 17
invalid producer epoch
at 18, ended 17-18 aborted=true stable=19, unstable from 17
invalid producer epoch
at 19-19, unstable from 17
transaction coordinator fenced
at 20, ended 19-20 aborted=false stable=21, unstable from 17
stable

# Transactions v2: the marker's epoch is above the transaction's. A late marker with
# the same epoch ends nothing; a retry is allowed.
run
append pid=5 epoch=0 seq=0 txn
marker pid=5 epoch=0 commit tv=2
marker pid=5 epoch=1 commit tv=2
marker pid=5 epoch=1 commit tv=2
append pid=5 epoch=1 seq=0 txn
marker pid=5 epoch=1 commit tv=2
marker pid=5 epoch=2 abort tv=2
hw at=100
----
at 21-21, unstable from 21
invalid producer epoch
at 22, ended 21-22 aborted=false stable=23, unstable from 21
at 23, unstable from 21
at 24-24, unstable from 21
invalid producer epoch
at 25, ended 24-25 aborted=true stable=26, unstable from 21
stable

# A marker for an unknown producer fences it, and ends nothing.
run
marker pid=6 epoch=7 abort coordinator=1
append pid=6 epoch=6 seq=0 txn
append pid=6 epoch=7 seq=3 txn
append pid=6 epoch=7 seq=0 txn
marker pid=-1 epoch=0 abort
----
at 26, stable
invalid producer epoch
out of order sequence number
at 27-27, unstable from 27
invalid record: marker at offset 28 has no producer

# An open transaction survives a snapshot; retention does not end it.
run
reload
start at=1000
state
marker pid=6 epoch=7 commit coordinator=1
----
6 producers, end 29, unstable from 27
end 1000, unstable from 27
pid=1 epoch=0 seq=9 offset=16 ts=1000 coordinator=0 txn=-1
pid=2 epoch=0 seq=0 offset=9 ts=1000 coordinator=0 txn=-1
pid=3 epoch=0 seq=0 offset=10 ts=1000 coordinator=-1 txn=-1
pid=4 epoch=6 seq=0 offset=19 ts=1000 coordinator=3 txn=-1
pid=5 epoch=2 seq=-1 offset=-1 ts=1000 coordinator=0 txn=-1
pid=6 epoch=7 seq=0 offset=27 ts=1000 coordinator=1 txn=27
end 1000, unstable from 27
at 28, ended 27-28 aborted=false stable=29, unstable from 27

# A transaction counts as late after its maximum (a minute) and five minutes more.
run
append pid=7 epoch=0 seq=0 txn ts=1000
late now=361000
late now=361001
expire now=3600999
expire now=3601000
expire now=99999999
append pid=1 epoch=0 seq=77 ts=99999999
marker pid=7 epoch=0 abort ts=99999999
late now=999999999
reload now=103599998
reload now=103599999
----
at 29-29, unstable from 27
false
true
0 forgotten
6 forgotten
0 forgotten
at 30-30, unstable from 27
at 31, ended 29-31 aborted=true stable=32, unstable from 27
false
2 producers, end 1000, stable
0 producers, end 1000, stable
