# The life of a group: first generation, a second member, a session that ends,
# everyone gone.

join a
----
a: join MEMBER_ID_REQUIRED member=a-1

join a
----
-

state
----
PreparingRebalance generation=0 type=consumer leader=a-1
  a-1 joining new

advance 3s
----
a: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1

state
----
CompletingRebalance generation=1 type=consumer protocol=range leader=a-1
  a-1 to-sync

beat a
----
a: ok

sync a assign=(a=x)
----
a: synced protocol=range assignment="x"

state
----
Stable generation=1 type=consumer protocol=range leader=a-1
  a-1 assignment="x"

# A member that joins makes the leader rejoin.
join b
----
b: join MEMBER_ID_REQUIRED member=b-1

join b
----
-

beat a
----
a: REBALANCE_IN_PROGRESS

state
----
PreparingRebalance generation=1 type=consumer protocol=range leader=a-1
  a-1 assignment="x"
  b-1 joining new

join a
----
a: joined generation=2 protocol=range leader=a-1 member=a-1 members=a-1,b-1
b: joined generation=2 protocol=range leader=a-1 member=b-1

sync b
----
-

sync a assign=(a=x1,b=x2)
----
a: synced protocol=range assignment="x1"
b: synced protocol=range assignment="x2"

state
----
Stable generation=2 type=consumer protocol=range leader=a-1
  a-1 assignment="x1"
  b-1 assignment="x2"

# A follower that joins again with the same metadata is told where it stands.
join b
----
b: joined generation=2 protocol=range leader=a-1 member=b-1

# A leader that joins again forces a rebalance.
join a
----
-

beat b
----
b: REBALANCE_IN_PROGRESS

join b
----
a: joined generation=3 protocol=range leader=a-1 member=a-1 members=a-1,b-1
b: joined generation=3 protocol=range leader=a-1 member=b-1

sync a assign=(a=y1,b=y2)
----
a: synced protocol=range assignment="y1"

sync b
----
b: synced protocol=range assignment="y2"

describe
----
ok Stable "consumer" "range"
  a-1 instance="" client=a host=/10.0.0.1 metadata=17 assignment="y1"
  b-1 instance="" client=b host=/10.0.0.1 metadata=17 assignment="y2"

list
----
ok
g Classic Stable "consumer"

list states=(empty,dead)
----
ok

list types=(consumer)
----
ok

# b goes silent.
advance 9s
----
-

beat a
----
a: ok

advance 2s
----
-

state
----
PreparingRebalance generation=3 type=consumer protocol=range leader=a-1
  a-1 assignment="y1"

beat a
----
a: REBALANCE_IN_PROGRESS

join a
----
a: joined generation=4 protocol=range leader=a-1 member=a-1 members=a-1

sync a assign=(a=z)
----
a: synced protocol=range assignment="z"

leave a
----
ok

state
----
Empty generation=5 type=consumer

beat a
----
a: UNKNOWN_MEMBER_ID

log
----
0 g: generation=1 type="consumer" protocol=range leader=a-1 a-1="x"
1 g: generation=2 type="consumer" protocol=range leader=a-1 a-1="x1" b-1="x2"
2 g: generation=3 type="consumer" protocol=range leader=a-1 a-1="y1" b-1="y2"
3 g: generation=4 type="consumer" protocol=range leader=a-1 a-1="z"
4 g: generation=5 type="consumer" protocol= leader=
