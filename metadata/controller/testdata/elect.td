# Elections that are asked for.

up 1
----

up 2
----

up 3
----

create t
1 2 3
1 2 3
----

elect t 0
----
elect leader of t-0: election not needed

elect t 0 unclean
----
elect leader of t-0: election not needed

drain 1
----

plan
----
t-0 leader=2 epoch=1 isr=[2 3]
t-1 leader=2 epoch=1 isr=[2 3]

elect t 0
----
elect leader of t-0: preferred leader not available: broker 1 does not live, is draining or is not in sync

# It came back, but is not in sync yet.

up 1
----

elect t 0
----
elect leader of t-0: preferred leader not available: broker 1 does not live, is draining or is not in sync

isr t 0
2 3 1
----
t-0 leader=2 epoch=1 isr=[2 3 1]

elect t 0
----
t-0 leader=1 epoch=2 isr=[2 3 1]

# Dead and not yet planned for: the election that was asked for does it.

down 1
----

elect t 0 unclean
----
t-0 leader=2 epoch=3 isr=[2 3]

elect t 9
----
t-9: unknown partition

# Replay brokers hold nothing, whatever is written.

up 4 role=replay
----

create r
4 2
----

plan
----
r-0 leader=2 epoch=1 isr=[2]

place partitions=2 replicas=2
----
[2 3]
[3 2]

place partitions=1 replicas=3
----
replication factor larger than available brokers: replication factor 3, 2 brokers

elect r 0
----
elect leader of r-0: preferred leader not available: broker 4 does not live, is draining or is not in sync
