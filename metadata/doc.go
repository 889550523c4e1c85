// Package metadata holds what every broker agrees on: brokers, topics,
// partitions, configuration and the pointers to the tier's manifests.
//
// It hides where and how that is stored. Readers look at an immutable [Image];
// writers call the typed operations of [Store], each of which is one
// compare-and-swap over [github.com/coldbrook/coldbrook/metadata/kv].
package metadata
