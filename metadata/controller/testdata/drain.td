# A draining broker gives its leaderships away and leaves the ISR, so that its
# end stops no producer.

up 1
----

up 2
----

create t
1 2
2 1
1
----

drain 1
----

plan
----
t-0 leader=2 epoch=1 isr=[2]
t-1 leader=2 epoch=0 isr=[2]

# What only it has, it goes on leading until it is gone.

down 1
----

plan
----
t-2 leader=-1 epoch=1 isr=[1]

# New partitions are not placed on a draining broker, unless they must be.

up 1
----

up 3
----

drain 3
----

place partitions=4 replicas=2
----
[1 2]
[2 1]
[1 2]
[2 1]

place partitions=3 replicas=3
----
[1 2 3]
[2 3 1]
[3 1 2]

place partitions=1 replicas=4
----
replication factor larger than available brokers: replication factor 4, 3 brokers
