# Static membership (KIP-345).

join a instance=i1
----
-

join b instance=i2
----
-

advance 6s
----
a: joined generation=1 protocol=range leader=i1-1 member=i1-1 members=i1-1,i2-1
b: joined generation=1 protocol=range leader=i1-1 member=i2-1

sync b
----
-

sync a assign=(a=x1,b=x2)
----
a: synced protocol=range assignment="x1"
b: synced protocol=range assignment="x2"

# b restarts without its id: no rebalance, its assignment is kept.
join b fresh
----
b: joined generation=1 protocol=range leader=i1-1 member=i2-2

beat a
----
a: ok

sync b
----
b: synced protocol=range assignment="x2"

state
----
Stable generation=1 type=consumer protocol=range leader=i1-1
  i1-1 instance=i1 assignment="x1"
  i2-2 instance=i2 assignment="x2"

# The leader restarts: told to skip the assignment. An old client must not
# learn that it leads.
join a fresh
----
a: joined generation=1 protocol=range leader=i1-2 member=i1-2 members=i1-2,i2-2 skip-assignment

sync a
----
a: synced protocol=range assignment="x1"

join a fresh version=5
----
a: joined generation=1 protocol=range leader=i1-2 member=i1-3

sync a
----
a: synced protocol=range assignment="x1"

# The old self of b is fenced by the new one.
join c instance=i2
----
c: joined generation=1 protocol=range leader=i1-3 member=i2-3

beat b
----
b: FENCED_INSTANCE_ID

commit b t-0=5
----
b: commit t-0 FENCED_INSTANCE_ID

sync b
----
b: sync FENCED_INSTANCE_ID

sync c
----
c: synced protocol=range assignment="x2"

# A static member that does not rejoin stays until its session ends.
join d version=3
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

join a
----
-

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 9s
----
-

beat c
----
c: REBALANCE_IN_PROGRESS

advance 7s
----
a: joined generation=2 protocol=range leader=i1-3 member=i1-3 members=i1-3,i2-3,d-1
d: joined generation=2 protocol=range leader=i1-3 member=d-1

state
----
CompletingRebalance generation=2 type=consumer protocol=range leader=i1-3
  i1-3 instance=i1 to-sync assignment="x1"
  i2-3 instance=i2 to-sync assignment="x2"
  d-1 to-sync

sync a assign=(a=y1,c=y2,d=y3)
----
a: synced protocol=range assignment="y1"

sync d
----
d: synced protocol=range assignment="y3"

# c never syncs but has a session.
state
----
Stable generation=2 type=consumer protocol=range leader=i1-3
  i1-3 instance=i1 assignment="y1"
  i2-3 instance=i2 to-sync assignment="y2"
  d-1 assignment="y3"

# By instance id alone, as administrators remove members.
leave instance=i1
----
ok

leave instance=i1
----
UNKNOWN_MEMBER_ID

log
----
0 g: generation=1 type="consumer" protocol=range leader=i1-1 i1-1="x1" i2-1="x2"
1 g: generation=1 type="consumer" protocol=range leader=i1-1 i1-1="x1" i2-2="x2"
2 g: generation=1 type="consumer" protocol=range leader=i1-2 i1-2="x1" i2-2="x2"
3 g: generation=1 type="consumer" protocol=range leader=i1-3 i1-3="x1" i2-2="x2"
4 g: generation=1 type="consumer" protocol=range leader=i1-3 i1-3="x1" i2-3="x2"
5 g: generation=2 type="consumer" protocol=range leader=i1-3 i1-3="y1" i2-3="y2" d-1="y3"
