# A static member that comes back with other protocols, or while the group
# rebalances.

join a instance=i1 protocols=(range,sticky)
----
-

join b instance=i2 protocols=(range,sticky)
----
-

advance 6s
----
a: joined generation=1 protocol=range leader=i1-1 member=i1-1 members=i1-1,i2-1
b: joined generation=1 protocol=range leader=i1-1 member=i2-1

state
----
CompletingRebalance generation=1 type=consumer protocol=range leader=i1-1
  i1-1 instance=i1 to-sync
  i2-1 instance=i2 to-sync

# During CompletingRebalance: the leader may know the old id.
join b fresh
----
-

join a
----
a: joined generation=2 protocol=range leader=i1-1 member=i1-1 members=i1-1,i2-2
b: joined generation=2 protocol=range leader=i1-1 member=i2-2

sync a assign=(a=x1,b=x2)
----
a: synced protocol=range assignment="x1"

sync b
----
b: synced protocol=range assignment="x2"

# The record cannot be stored: the old id stays valid.
fail-appends on
----
ok

join b fresh
----
b: join COORDINATOR_NOT_AVAILABLE member=

fail-appends off
----
ok

state
----
Stable generation=2 type=consumer protocol=range leader=i1-1
  i1-1 instance=i1 assignment="x1"
  i2-2 instance=i2 assignment="x2"

# With a protocol that changes the selection.
join b fresh protocols=(sticky)
----
-

join a
----
a: joined generation=3 protocol=sticky leader=i1-1 member=i1-1 members=i1-1,i2-3
b: joined generation=3 protocol=sticky leader=i1-1 member=i2-3

state
----
CompletingRebalance generation=3 type=consumer protocol=sticky leader=i1-1
  i1-1 instance=i1 to-sync assignment="x1"
  i2-3 instance=i2 to-sync assignment="x2"
