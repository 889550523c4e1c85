package coordinator

// NoProducer is the producer id of batches outside of a transaction.
const NoProducer int64 = -1

// Record is one record to append. Apply changes the machine's state as the
// record says; it is called when, and only when, the record is in the log, with
// its offset, before the next handler runs. A nil Value is a tombstone; a nil
// Apply changes nothing.
type Record struct {
	Key, Value []byte
	Apply      func(offset int64)
}

// Replayed is one record read back from the log. Key and Value are valid until
// Replay returns; a nil Value is a tombstone. ProducerID is NoProducer outside
// of transactions.
type Replayed struct {
	Offset        int64
	ProducerID    int64
	ProducerEpoch int16
	Key, Value    []byte
}

// Update collects what a handler wants to happen after it returned.
type Update struct {
	// Split allows the records to be appended in several batches, each of
	// which takes effect alone. Otherwise they are one batch: all or nothing.
	Split bool
	// Producer makes the batch part of a transaction. Apply then means "is
	// pending"; the machine's ReplayEndTransaction decides.
	Producer *Producer

	records []Record
	done    []func(err error, next *Update)
}

// Producer identifies a transactional producer.
type Producer struct {
	ID    int64
	Epoch int16
}

// Append adds a record.
func (u *Update) Append(r Record) { u.records = append(u.records, r) }

// Records is the number of records added so far.
func (u *Update) Records() int { return len(u.records) }

// OnCommitted calls fn on the partition's goroutine when the records of this
// update are committed, or with an error when they were not appended, before
// the caller gets its answer. next takes what fn itself wants to happen. fn is
// not called when the machine is thrown away first: Machine.Unloaded is.
func (u *Update) OnCommitted(fn func(err error, next *Update)) { u.done = append(u.done, fn) }

// Machine is the state of one partition. All methods and all handlers run on
// the partition's goroutine.
type Machine interface {
	// Replay applies one record of the log. ErrUnknownRecord skips it; any
	// other error stops the load, which is tried again later.
	Replay(r Replayed) error
	// ReplayEndTransaction applies a transaction marker.
	ReplayEndTransaction(producerID int64, producerEpoch int16, commit bool)
	// Loaded is called once, after the replay and before the first handler.
	Loaded(u *Update)
	// Unloaded is called last, also after a failed load: whoever waits inside
	// of the machine must be answered. Its timers never fire again.
	Unloaded()
}
