# Commits by nobody, members, and former members; deletion; expiry.

config initial-delay=0s retention=1h metadata=4
----
ok

commit nobody t-0=1 t-1=2 u-0=3
----
nobody: commit t-0 ok, t-1 ok, u-0 ok

commit nobody t-0=1 metadata=abcde
----
nobody: commit t-0 OFFSET_METADATA_TOO_LARGE

fetch t-0 t-7
----
fetched ok
  t-0 ok offset=1 metadata=""
  t-7 ok offset=-1 metadata=""

fetch
----
fetched ok
  t-0 ok offset=1 metadata=""
  t-1 ok offset=2 metadata=""
  u-0 ok offset=3 metadata=""

list
----
ok
g Classic Empty ""

join a version=3
----
a: joined generation=1 protocol=range leader=a-1 member=a-1 members=a-1

commit a t-0=5
----
a: commit t-0 REBALANCE_IN_PROGRESS

sync a assign=(a=x)
----
a: synced protocol=range assignment="x"

commit a t-0=6 metadata=abcd
----
a: commit t-0 ok

commit nobody t-0=7
----
nobody: commit t-0 UNKNOWN_MEMBER_ID

beat a
----
a: ok

delete-group
----
NON_EMPTY_GROUP

# a consumes t.
delete-offsets t-0 u-0 u-9
----
ok t-0=GROUP_SUBSCRIBED_TO_TOPIC u-0=ok u-9=ok

fetch
----
fetched ok
  t-0 ok offset=6 metadata="abcd"
  t-1 ok offset=2 metadata=""

leave a
----
ok

commit nobody t-0=8
----
nobody: commit t-0 ok

# A commit of a group that does not exist.
commit a t-0=9 group=other
----
a: commit t-0 GROUP_ID_NOT_FOUND

commit a t-0=9 group=other version=8
----
a: commit t-0 ILLEGAL_GENERATION

delete-topic t
----
ok

fetch
----
fetched ok

delete-offsets t-0 group=other
----
GROUP_ID_NOT_FOUND

commit nobody v-0=1
----
nobody: commit v-0 ok

# Retention counts from when the group became empty.
advance 50m
----
-

state
----
Empty generation=2 type=consumer
  v-0 at 1

advance 20m
----
-

state
----
no such group

# That of a group without membership counts from each commit.
commit nobody t-0=1 group=simple
----
nobody: commit t-0 ok

advance 40m
----
-

commit nobody t-1=1 group=simple
----
nobody: commit t-1 ok

advance 35m
----
-

fetch group=simple
----
fetched ok
  t-1 ok offset=1 metadata=""

advance 60m
----
-

state group=simple
----
no such group

commit nobody t-0=1 group=simple
----
nobody: commit t-0 ok

delete-group group=simple
----
ok

delete-group group=simple
----
GROUP_ID_NOT_FOUND

log
----
0 g t-0: offset=1 metadata=""
1 g t-1: offset=2 metadata=""
2 g u-0: offset=3 metadata=""
3 g: generation=1 type="consumer" protocol=range leader=a-1 a-1="x"
4 g t-0: offset=6 metadata="abcd"
5 g u-0: tombstone
6 g: generation=2 type="consumer" protocol= leader=
7 g t-0: offset=8 metadata=""
8 g t-0: tombstone
9 g t-1: tombstone
10 g v-0: offset=1 metadata=""
11 g v-0: tombstone
12 g: tombstone
13 simple t-0: offset=1 metadata=""
14 simple t-1: offset=1 metadata=""
15 simple t-0: tombstone
16 simple t-1: tombstone
17 simple: tombstone
18 simple t-0: offset=1 metadata=""
19 simple t-0: tombstone
20 simple: tombstone
