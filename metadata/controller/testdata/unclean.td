# A broker loses its disk: it leaves all in-sync replicas. What only it had has no
# leader, and an in-sync replica that is dead is waited for.

up 1
----

up 2
----

up 3
----

create t
1 2
1
2 1 3
3 1
----

down 1
----

down 3
----

plan
----
t-0 leader=2 epoch=1 isr=[2]
t-1 leader=-1 epoch=1 isr=[1]
t-3 leader=-1 epoch=1 isr=[3 1]
t-2 leader=2 epoch=0 isr=[2]

up 1 disk=new
----

plan
----
nothing

show
----
t-0 leader=2 epoch=1 isr=[2]
t-1 leader=-1 epoch=1 isr=[]
t-2 leader=2 epoch=0 isr=[2]
t-3 leader=-1 epoch=1 isr=[3]

# Asked for, a partition gets a leader that is not in sync.

elect t 1 unclean
----
t-1 leader=1 epoch=2 isr=[1] recovering

elect t 1 unclean
----
elect leader of t-1: election not needed

elect t 3 unclean
----
t-3 leader=1 epoch=2 isr=[1] recovering

# The in-sync replica that comes back finds another leader: what only it had is lost.

up 3
----

plan
----
nothing

# Allowed for the topic, it happens by itself. A disk that is older than the topic
# goes before a new one.

create u
1 2
1 2
----

isr u 0
1
----
u-0 leader=1 epoch=0 isr=[1]

isr u 1
2
----
u-1 leader=1 epoch=0 isr=[2]

down 1
----

down 2
----

plan
----
t-0 leader=-1 epoch=2 isr=[2]
t-1 leader=-1 epoch=3 isr=[1] recovering
t-2 leader=-1 epoch=1 isr=[2]
t-3 leader=-1 epoch=3 isr=[1] recovering
u-0 leader=-1 epoch=1 isr=[1]
u-1 leader=-1 epoch=1 isr=[2]

sleep
----

up 1 disk=newer
----

plan
----
nothing

up 2
----

plan unclean=t
----
t-0 leader=2 epoch=3 isr=[2]
t-1 leader=1 epoch=4 isr=[1] recovering
t-2 leader=2 epoch=2 isr=[2]
t-3 leader=3 epoch=4 isr=[3] recovering
u-1 leader=2 epoch=2 isr=[2]

plan unclean=u
----
u-0 leader=2 epoch=2 isr=[2] recovering

show
----
t-0 leader=2 epoch=3 isr=[2]
t-1 leader=1 epoch=4 isr=[1] recovering
t-2 leader=2 epoch=2 isr=[2]
t-3 leader=3 epoch=4 isr=[3] recovering
u-0 leader=2 epoch=2 isr=[2] recovering
u-1 leader=2 epoch=2 isr=[2]

# A leader that was elected so and dies stays the only one with all.

down 2
----

plan
----
t-0 leader=-1 epoch=4 isr=[2]
t-2 leader=-1 epoch=3 isr=[2]
u-0 leader=-1 epoch=3 isr=[2] recovering
u-1 leader=-1 epoch=3 isr=[2]

up 2
----

plan
----
t-0 leader=2 epoch=5 isr=[2]
t-2 leader=2 epoch=4 isr=[2]
u-0 leader=2 epoch=4 isr=[2] recovering
u-1 leader=2 epoch=4 isr=[2]

# Nobody to elect.

down 1
----

down 2
----

down 3
----

plan unclean=u
----
t-0 leader=-1 epoch=6 isr=[2]
t-1 leader=-1 epoch=5 isr=[1] recovering
t-2 leader=-1 epoch=5 isr=[2]
t-3 leader=-1 epoch=5 isr=[3] recovering
u-0 leader=-1 epoch=5 isr=[2] recovering
u-1 leader=-1 epoch=5 isr=[2]

elect u 0 unclean
----
elect leader of u-0: no eligible leader
