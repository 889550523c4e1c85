// Package metadata holds what every broker agrees on: brokers, topics,
// partitions, configuration and the pointers to the tier's manifests.
//
// It hides where and how that is stored. Readers look at an immutable [Image],
// which [Store.Run] keeps by one watch; writers call the typed operations of
// [Store], each of which is a compare-and-swap.
//
// # Keys
//
// All keys lie under /coldbrook/<cluster>/ and hold JSON for people with etcdctl:
//
//	cluster                        {"id": …}             made once
//	controller                     {"broker": …}         leased; the create revision is the controller's epoch
//	brokers/<id>                   Broker                leased; the create revision is the broker's epoch
//	nodes/<id>                     Node                  kept until UnregisterBroker
//	topics/<name>                  id, number of partitions
//	partitions/<topic-id>/<p>      Partition
//	remote/<topic-id>/<p>          RemotePointer
//	configs/topics/<name>          overrides
//	configs/brokers/<id>|default   overrides
//	tombstones/<topic-id>          a deleted topic, or one that is being created
//	producer-ids                   {"next": …}
//	restore                        a restore that is not complete, or whose groups are still to be imported
//
// There is no key per segment, offset or record, and nothing is written but for
// a decision: the store grows with the cluster, not with its traffic.
//
// # Order of writes
//
// A topic is there when its topics/ key is; that key says how many partitions
// count. What does not fit into one transaction (external etcd takes 128
// operations) is written partitions first and the topic's key last, under a
// tombstone that marks the creation as unfinished and that the last transaction
// removes; the controller works off what a crash left. Deleting swaps the topic's
// key for a tombstone in one transaction of a few operations and leaves the
// partitions' and pointers' keys to the tombstone, so all of the topic's state is
// there until FinishTombstone.
//
// # Formats
//
// A value is a JSON object. What a release does not know of one is kept when it
// writes the object again, so brokers of two releases share them: a release adds
// members which those before may keep and ignore. One that means by a value what
// those before must not act on raises the number in its member "format", 1 where
// there is none. Who meets a higher number than it reads does not start, or stops,
// and names the key: that is no damage. A value that is damaged is left out, with a
// complaint, and nobody writes over it.
//
//	value           format  members that were added, and what a release does that has not got them
//	all             1       "format", and the keeping of others: it reads on, and drops what it does not know
//	brokers/<id>    1       "role", "http": takes the broker for one that holds partitions, or has no HTTP
//	nodes/<id>      1       the whole key: does not notice a lost disk
//	partitions/…    1       "recovering": leads before it has what the tier has
//	                        "offline": may elect such a replica, whose broker then hands over
//	                        "found": elects the first live replica of a restored partition
//	others          1       none
//
// # Fresh and late images
//
// An image is what its watch has brought, and a watch that is late does not say so.
// [Store.Confirm] is for who must not act on a late one: it asks the store where it
// is and waits until the image has come there. The same question finds a store that
// was set back to an earlier state, which has nothing to tell its watches: the
// revision that wrote the image's last change did not write it there. Then
// everything is read anew.
//
// # Lost disks
//
// The in-sync replicas of a partition are those brokers on whose disks all is that
// was acked. A broker that registers with another data directory than nodes/<id>
// has, lost what it held: RegisterBroker first takes it out of all in-sync replicas
// and then writes brokers/<id> and nodes/<id> in one transaction, so a crash in
// between leaves a broker that is not registered and does it again. Meanwhile nobody
// takes it in again: who joins the in-sync replicas does so in a transaction that
// holds only while the registration lasts under which it was found to have all.
//
// # Locks
//
// Store.turn is held by who makes the next image, Run or, before it has begun, an
// operation that waits for its own write; being a channel it may be held across
// calls to the key-value store. Store.mu guards the publication of images and what
// was registered, and is held across no call.
package metadata
