# A producer starts anywhere when it is unknown (KIP-360), then goes on without gaps.
run
append pid=1 epoch=0 seq=0..4
append pid=1 epoch=0 seq=5..5
append pid=1 epoch=0 seq=7
append pid=2 epoch=0 seq=100
append pid=2 epoch=0 seq=101
----
at 0-4, stable
at 5-5, stable
out of order sequence number
at 6-6, stable
at 7-7, stable

# Retries of the last five batches are answered from memory.
run
append pid=3 epoch=0 seq=0..1
append pid=3 epoch=0 seq=2
append pid=3 epoch=0 seq=3..5
append pid=3 epoch=0 seq=6
append pid=3 epoch=0 seq=7
append pid=3 epoch=0 seq=0..1
append pid=3 epoch=0 seq=7
append pid=3 epoch=0 seq=8
append pid=3 epoch=0 seq=2
append pid=3 epoch=0 seq=3..5
----
at 8-9, stable
at 10-10, stable
at 11-13, stable
at 14-14, stable
at 15-15, stable
duplicate of 8-9
duplicate of 15-15
at 16-16, stable
duplicate of 10-10
duplicate of 11-13

# Older ones were appended for sure, if the whole run from there on was seen.
run
append pid=3 epoch=0 seq=0..1
append pid=3 epoch=0 seq=0
append pid=3 epoch=0 seq=4..8
append pid=3 epoch=0 seq=4..9
append pid=3 epoch=0 seq=9
----
duplicate sequence number
duplicate sequence number
duplicate sequence number
out of order sequence number
at 17-17, stable

# A producer that was unknown may have lost what came before.
run
append pid=4 epoch=0 seq=10..14
append pid=4 epoch=0 seq=5..9
append pid=4 epoch=0 seq=12
append pid=4 epoch=0 seq=8..12
----
at 18-22, stable
out of order sequence number
duplicate sequence number
out of order sequence number

# Sequence numbers wrap.
run
append pid=5 epoch=0 seq=2147483645..2147483646
append pid=5 epoch=0 seq=2147483647..2
append pid=5 epoch=0 seq=3
append pid=5 epoch=0 seq=2147483647..2
append pid=5 epoch=0 seq=2147483646
append pid=5 epoch=0 seq=2147483644
----
at 23-24, stable
at 25-28, stable
at 29-29, stable
duplicate of 25-28
duplicate sequence number
out of order sequence number

run
append pid=6 epoch=0 seq=2147483647
append pid=6 epoch=0 seq=0
append pid=6 epoch=0 seq=2
----
at 30-30, stable
at 31-31, stable
out of order sequence number

# A new epoch fences the old one and starts at 0.
run
append pid=7 epoch=3 seq=0..9
append pid=7 epoch=2 seq=10
append pid=7 epoch=4 seq=10
append pid=7 epoch=4 seq=0
append pid=7 epoch=4 seq=0
append pid=7 epoch=3 seq=10
append pid=7 epoch=4 seq=1
----
at 32-41, stable
invalid producer epoch
out of order sequence number
at 42-42, stable
duplicate of 42-42
invalid producer epoch
at 43-43, stable

# Coordinators write without sequence numbers; epochs count.
run
append pid=8 epoch=1 seq=-1 txn broker n=2
append pid=8 epoch=1 seq=-1 txn broker
append pid=8 epoch=0 seq=-1 txn broker
append pid=8 epoch=2 seq=-1 txn broker
----
at 44-45, unstable from 44
at 46-46, unstable from 44
invalid producer epoch
at 47-47, unstable from 44

# A follower takes what the leader has.
run
replicate pid=9 epoch=5 seq=17
replicate pid=9 epoch=4 seq=3
replicate pid=9 epoch=4 seq=9
append pid=9 epoch=4 seq=10
append pid=9 epoch=4 seq=3
append pid=-1 epoch=-1 seq=-1
state
----
at 48-48, unstable from 44
at 49-49, unstable from 44
at 50-50, unstable from 44
at 51-51, unstable from 44
duplicate of 49-49
at 52-52, unstable from 44
pid=1 epoch=0 seq=5 offset=5 ts=1000 coordinator=-1 txn=-1
pid=2 epoch=0 seq=101 offset=7 ts=1000 coordinator=-1 txn=-1
pid=3 epoch=0 seq=9 offset=17 ts=1000 coordinator=-1 txn=-1
pid=4 epoch=0 seq=14 offset=22 ts=1000 coordinator=-1 txn=-1
pid=5 epoch=0 seq=3 offset=29 ts=1000 coordinator=-1 txn=-1
pid=6 epoch=0 seq=0 offset=31 ts=1000 coordinator=-1 txn=-1
pid=7 epoch=4 seq=1 offset=43 ts=1000 coordinator=-1 txn=-1
pid=8 epoch=2 seq=-1 offset=47 ts=1000 coordinator=-1 txn=44
pid=9 epoch=4 seq=10 offset=51 ts=1000 coordinator=-1 txn=-1
end 53, unstable from 44

# A snapshot holds the last batch of each producer.
run
append pid=10 epoch=0 seq=0..1
append pid=10 epoch=0 seq=2..4
reload
append pid=10 epoch=0 seq=2..4
append pid=10 epoch=0 seq=0..1
append pid=10 epoch=0 seq=3
append pid=10 epoch=0 seq=5
state
----
at 53-54, unstable from 44
at 55-57, unstable from 44
10 producers, end 58, unstable from 44
duplicate of 55-57
out of order sequence number
duplicate sequence number
at 58-58, unstable from 44
pid=1 epoch=0 seq=5 offset=5 ts=1000 coordinator=-1 txn=-1
pid=2 epoch=0 seq=101 offset=7 ts=1000 coordinator=-1 txn=-1
pid=3 epoch=0 seq=9 offset=17 ts=1000 coordinator=-1 txn=-1
pid=4 epoch=0 seq=14 offset=22 ts=1000 coordinator=-1 txn=-1
pid=5 epoch=0 seq=3 offset=29 ts=1000 coordinator=-1 txn=-1
pid=6 epoch=0 seq=0 offset=31 ts=1000 coordinator=-1 txn=-1
pid=7 epoch=4 seq=1 offset=43 ts=1000 coordinator=-1 txn=-1
pid=8 epoch=2 seq=-1 offset=47 ts=1000 coordinator=-1 txn=44
pid=9 epoch=4 seq=10 offset=51 ts=1000 coordinator=-1 txn=-1
pid=10 epoch=0 seq=5 offset=58 ts=1000 coordinator=-1 txn=-1
end 59, unstable from 44
