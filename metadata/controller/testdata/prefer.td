# After a restart of broker 1 its leaderships go back, once it is in sync.

up 1
----

up 2
----

create t
1 2
1 2
2 1
----

down 1
----

plan
----
t-0 leader=2 epoch=1 isr=[2]
t-1 leader=2 epoch=1 isr=[2]
t-2 leader=2 epoch=0 isr=[2]

up 1
----

plan
----
nothing

prefer
----
nothing

isr t 0
2 1
----
t-0 leader=2 epoch=1 isr=[2 1]

prefer
----
t-0 leader=1 epoch=2 isr=[2 1]

# Partition 1 is still not in sync.

prefer
----
nothing
