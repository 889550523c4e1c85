up 1
----

up 2
----

up 3
----

up 4
----

# Leaders go round, followers shift by one more each round.

place partitions=8 replicas=3
----
[1 2 3]
[2 3 4]
[3 4 1]
[4 1 2]
[1 3 4]
[2 4 1]
[3 1 2]
[4 2 3]

place partitions=2 replicas=2 start=3
----
[4 1]
[1 2]

# Racks: replicas are on different ones.

up 1 rack=a
----

up 2 rack=a
----

up 3 rack=b
----

up 4 rack=b
----

place partitions=8 replicas=2
----
[1 3]
[3 2]
[2 4]
[4 1]
[1 4]
[3 1]
[2 3]
[4 2]

place partitions=2 replicas=3
----
[1 3 2]
[3 2 4]

# A rack that is not known of one broker: no racks.

up 4
----

place partitions=4 replicas=2
----
[1 2]
[2 3]
[3 4]
[4 1]
