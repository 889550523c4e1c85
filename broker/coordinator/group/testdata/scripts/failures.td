# What happens when records cannot be appended or committed.

config initial-delay=0s
----
ok

join a version=3
----
a: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1

# The assignment is not stable before it is committed.
hold
----
ok

sync a assign=(a=x)
----
-

state
----
CompletingRebalance generation=1 type=consumer protocol=range leader=a-1
  a-1 syncing

commit-log
----
ok
a: synced protocol=range assignment="x"

state
----
Stable generation=1 type=consumer protocol=range leader=a-1
  a-1 assignment="x"

join b version=3
----
-

join a
----
a: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1,b-1
b: joined generation=2 protocol=range leader=a-1 member=b-1

fail-appends on
----
ok

sync b
----
-

sync a assign=(a=x1,b=x2)
----
a: sync COORDINATOR_NOT_AVAILABLE
b: sync COORDINATOR_NOT_AVAILABLE

state
----
PreparingRebalance generation=2 type=consumer protocol=range leader=a-1
  a-1
  b-1

commit nobody t-0=1 group=other
----
nobody: commit t-0 COORDINATOR_NOT_AVAILABLE

state group=other
----
no such group

fail-appends off
----
ok

join a
----
-

join b
----
a: joined generation=3 protocol=range leader=a-1 member=a-1 members=a-1,b-1
b: joined generation=3 protocol=range leader=a-1 member=b-1

sync b
----
-

sync a assign=(a=y1,b=y2)
----
-

# What was not committed is gone with the leadership, and who waits is told.
commit a t-0=10
----
a: commit t-0 REBALANCE_IN_PROGRESS

commit-log
----
ok
a: synced protocol=range assignment="y1"
b: synced protocol=range assignment="y2"

commit a t-0=11
----
-

restart
----
ok
a: commit t-0 NOT_COORDINATOR

fetch t-0
----
fetched ok
  t-0 ok offset=-1 metadata=""

state
----
Stable generation=3 type=consumer protocol=range leader=a-1
  a-1 assignment="y1"
  b-1 assignment="y2"

beat a
----
a: ok

beat b
----
b: ok

# A join that waits is answered when the partition moves away.
join c version=3
----
-

unload
----
ok
c: join NOT_COORDINATOR member=c-1

beat a
----
a: NOT_COORDINATOR

list
----
ok

describe
----
NOT_COORDINATOR  "" ""
