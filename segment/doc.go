// Package segment stores the records of partitions on the local disk: a [Dir] is
// one log directory, a [Log] one partition in it. It hides files, indexes, the
// cache of leader epochs, producer state, group commit, recovery and Kafka's file
// formats.
package segment
