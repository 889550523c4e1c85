# Three brokers, one topic. Nothing is to be decided for a topic that was just
# created under live leaders.

up 1
----

up 2
----

up 3
----

create t
1 2 3
2 3 1
3 1 2
----

plan
----
nothing

# A dead broker loses its leaderships to the next replica and leaves every ISR.

down 1
----

plan
----
t-0 leader=2 epoch=1 isr=[2 3]
t-1 leader=2 epoch=0 isr=[2 3]
t-2 leader=3 epoch=0 isr=[3 2]

plan
----
nothing

# Only in-sync replicas are elected: 3 dies while 2 is not in sync with it.

isr t 2
3
----
t-2 leader=3 epoch=0 isr=[3]

down 3
----

plan
----
t-2 leader=-1 epoch=1 isr=[3]
t-0 leader=2 epoch=1 isr=[2]
t-1 leader=2 epoch=0 isr=[2]

# The last in-sync replica is remembered while it is away, and comes back as
# leader with the next epoch. Broker 1 was not in sync, so it stays out.

up 1
----

plan
----
nothing

up 3
----

plan
----
t-2 leader=3 epoch=2 isr=[3]

# A broker that restarts before anybody noticed keeps leading with a new epoch.

up 2
----

plan
----
t-0 leader=2 epoch=2 isr=[2]
t-1 leader=2 epoch=1 isr=[2]

# All gone: nobody leads, nothing in sync is forgotten.

down 1
----

down 2
----

down 3
----

plan
----
t-0 leader=-1 epoch=3 isr=[2]
t-1 leader=-1 epoch=2 isr=[2]
t-2 leader=-1 epoch=3 isr=[3]

up 2
----

plan
----
t-0 leader=2 epoch=4 isr=[2]
t-1 leader=2 epoch=3 isr=[2]
