// Package config knows every setting of Coldbrook: one table of names, types, defaults, ranges and
// docs, in Kafka's words, from which come the parser, the validation, DescribeConfigs, the reference
// manual and the typed structs [Broker] and [Topic] that the rest of the broker reads.
//
// It hides where a value came from. Layers, the strongest first:
//
//	per-broker dynamic      IncrementalAlterConfigs on this broker
//	cluster-wide dynamic    IncrementalAlterConfigs on the default broker ("")
//	flag                    serve --listen …
//	environment             COLDBROOK_LOG_RETENTION_MS=…
//	file                    log.retention.ms=… (Kafka's properties format)
//	default                 the table
//
// A topic's setting adds one layer above them all, its own override, and falls through to the
// broker's setting it is a synonym of (retention.ms → log.retention.ms → log.retention.minutes →
// log.retention.hours), with the unit converted.
//
// [Settings] is immutable: a dynamic change makes a new one ([Settings.With]). All functions are safe
// for concurrent use and do no I/O, except Load, which reads the file it is given.
//
// Where we depart from Kafka's defaults, the Doc of the setting says so. The ones that matter:
// log.flush.interval.messages is 1 (an acknowledged record has been synced to disk; Kafka leaves that
// to the page cache and to replicas, which one broker does not have), remote.storage.enable is true
// for topics that are not compacted (there always is an object store), listeners is the loopback
// address (nothing is open to the network unless asked for), and queued.max.request.bytes is bounded.
package config
