# KIP-134: the first rebalance waits for more members, and waits longer while
# they come, up to the rebalance timeout.

join a rebalance=10s
----
a: join MEMBER_ID_REQUIRED member=a-1

join a rebalance=10s
----
-

advance 2s
----
-

join b version=3 rebalance=10s
----
-

advance 2s
----
-

join c version=3 rebalance=10s
----
-

advance 2s
----
-

state
----
PreparingRebalance generation=0 type=consumer leader=a-1
  a-1 joining new
  b-1 joining new
  c-1 joining new

# Nobody came in the last extension.
advance 3s
----
a: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1,b-1,c-1
b: joined generation=1 protocol=range leader=a-1 member=b-1
c: joined generation=1 protocol=range leader=a-1 member=c-1

config initial-delay=0s
----
ok

join d version=3 group=h
----
d: joined generation=1 protocol=range leader=d-1 member=d-1 members=d-1

# A group that never gets through its first join phase leaves nothing behind.
join e group=i
----
e: join MEMBER_ID_REQUIRED member=e-1

state group=i
----
Empty generation=0
  1 pending

advance 11s
----
-

state group=i
----
no such group

log
----
0 h: generation=2 type="consumer" protocol= leader=
