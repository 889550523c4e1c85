# A reassignment: the target first, then what goes. It ends when all of the target
# is in sync; the leader moves with it.

up 1
----

up 2
----

up 3
----

up 4
----

up 5 role=replay
----

create t
1 2
1 2 3
1 2
----

reassign t 0
3 4
----
t-0 leader=1 epoch=0 isr=[1 2] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

plan
----
nothing

# 3 caught up: still not all of the target.

isr t 0
1 2 3
----
t-0 leader=1 epoch=0 isr=[1 2 3] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

plan
----
nothing

isr t 0
1 2 3 4
----
t-0 leader=1 epoch=0 isr=[1 2 3 4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

plan
----
t-0 leader=3 epoch=1 isr=[3 4]

# One that keeps its leader: a replica goes, so the epoch grows.

reassign t 1
4 1 2
----
t-1 leader=1 epoch=0 isr=[1 2 3] replicas=[4 1 2 3] adding=[4] removing=[3]

isr t 1
1 2 3 4
----
t-1 leader=1 epoch=0 isr=[1 2 3 4] replicas=[4 1 2 3] adding=[4] removing=[3]

plan
----
t-1 leader=1 epoch=1 isr=[1 2 4]

# Another order only: nothing is copied, and the leader stays until it is asked to go.

reassign t 1
2 4 1
----
t-1 leader=1 epoch=1 isr=[1 2 4]

elect t 1
----
t-1 leader=2 epoch=2 isr=[1 2 4]

# The same again changes nothing.

reassign t 1
2 4 1
----
nothing

# Given up: what was added goes, even if it is in sync already.

reassign t 2
3 4
----
t-2 leader=1 epoch=0 isr=[1 2] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

isr t 2
2 4
----
t-2 leader=1 epoch=0 isr=[2 4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

plan
----
t-2 leader=4 epoch=1 isr=[2 4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

reassign t 2
----
t-2 leader=2 epoch=2 isr=[2]

reassign t 2
----
reassign t-2: no reassignment in progress

# Not given up where nothing in sync would be left.

reassign t 2
3 4
----
t-2 leader=2 epoch=2 isr=[2] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

isr t 2
2 4
----
t-2 leader=2 epoch=2 isr=[2 4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

isr t 2
4
----
t-2 leader=2 epoch=2 isr=[4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

plan
----
t-2 leader=4 epoch=3 isr=[4] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

reassign t 2
----
reassign t-2: invalid replicas: all in-sync replicas [4] are among those that were being added and would go

# Another target while one is worked on: 3, which only the first one added, goes
# at once. What is in sync stays in sync.

isr t 2
4 2
----
t-2 leader=4 epoch=3 isr=[4 2] replicas=[3 4 1 2] adding=[3 4] removing=[1 2]

reassign t 2
4 1
----
t-2 leader=4 epoch=4 isr=[4 2] replicas=[4 1 2] adding=[4] removing=[2]

isr t 2
4 2 1
----
t-2 leader=4 epoch=4 isr=[4 2 1] replicas=[4 1 2] adding=[4] removing=[2]

plan
----
t-2 leader=4 epoch=5 isr=[4 1]

# The target is checked.

reassign t 2
4 4
----
reassign t-2: invalid replicas: broker 4 is named twice in [4 4]

reassign t 2
4 9
----
reassign t-2: invalid replicas: no broker 9 is registered

reassign t 2
4 5
----
reassign t-2: invalid replicas: broker 5 has the role "replay" and holds no partitions

reassign t 7
1
----
reassign t-7: t-7: unknown partition

# A dead member of the target is waited for. A leader that dies meanwhile is
# replaced as ever.

reassign t 0
1 2
----
t-0 leader=3 epoch=1 isr=[3 4] replicas=[1 2 3 4] adding=[1 2] removing=[3 4]

isr t 0
3 4 1 2
----
t-0 leader=3 epoch=1 isr=[3 4 1 2] replicas=[1 2 3 4] adding=[1 2] removing=[3 4]

down 2
----

plan
----
t-1 leader=4 epoch=3 isr=[1 4]
t-0 leader=3 epoch=1 isr=[3 4 1] replicas=[1 2 3 4] adding=[1 2] removing=[3 4]

down 3
----

plan
----
t-0 leader=1 epoch=2 isr=[4 1] replicas=[1 2 3 4] adding=[1 2] removing=[3 4]

up 2
----

plan
----
nothing

isr t 0
4 1 2
----
t-0 leader=1 epoch=2 isr=[4 1 2] replicas=[1 2 3 4] adding=[1 2] removing=[3 4]

plan
----
t-0 leader=1 epoch=3 isr=[1 2]

# To one replica and back.

reassign t 0
2
----
t-0 leader=2 epoch=4 isr=[2]

reassign t 0
1 2
----
t-0 leader=2 epoch=4 isr=[2] replicas=[1 2] adding=[1] removing=[]

isr t 0
2 1
----
t-0 leader=2 epoch=4 isr=[2 1] replicas=[1 2] adding=[1] removing=[]

plan
----
t-0 leader=2 epoch=4 isr=[2 1]
