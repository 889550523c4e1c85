# group.max.size, session bounds, protocols that do not match.

config max-size=2 initial-delay=1s
----
ok

join a version=3 protocols=(range,sticky)
----
-

join b version=3 protocols=(sticky)
----
-

join c version=3
----
c: join GROUP_MAX_SIZE_REACHED member=

join d version=3 protocols=(range)
----
d: join GROUP_MAX_SIZE_REACHED member=

advance 1s
----
-

state
----
PreparingRebalance generation=0 type=consumer leader=a-1
  a-1 joining new
  b-1 joining new

join c version=3 protocols=(sticky)
----
c: join GROUP_MAX_SIZE_REACHED member=

join c session=5s
----
c: join INVALID_SESSION_TIMEOUT member=

join c session=31m
----
c: join INVALID_SESSION_TIMEOUT member=

join c group=
----
c: join INVALID_GROUP_ID member=

leave c
----
UNKNOWN_MEMBER_ID

advance 1s
----
a: joined generation=1 protocol=sticky leader=a-1 member=a-1 members=a-1,b-1
b: joined generation=1 protocol=sticky leader=a-1 member=b-1

# b does not sync: it is out after the rebalance timeout.
sync a assign=(a=x1,b=x2)
----
a: synced protocol=sticky assignment="x1"

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

beat b
----
b: ok

advance 9s
----
-

beat a
----
a: ok

state
----
Stable generation=1 type=consumer protocol=sticky leader=a-1
  a-1 assignment="x1"
  b-1 to-sync assignment="x2"
