// Package cost counts what is asked of the object store, by topic, and says what it costs. A Ledger counts requests and
// bytes as they are made; Report joins it with what lies in the store; Observe shows a report as metrics. It hides how
// counting stays free of locks and memory, and how a day's price is told from the hours that were seen.
//
// # Invariants
//
//   - A request is counted once, in the row of the topic whose folder its key lies in, or in ClusterRow; what deleted
//     topics used is added up in OtherRow, so totals never fall.
//   - A day's requests are those of the last day, or of the time since the start told for a day, which counts as at
//     least leastWindow.
package cost
