package producer

import "time"

// Guard names one verification of a transaction with its coordinator (KIP-890).
// The zero Guard verifies nothing.
type Guard uint64

// verification says that the coordinator is being asked whether a producer's
// transaction includes this partition: Kafka's VerificationStateEntry.
type verification struct {
	guard          Guard
	since          time.Time
	epoch          int16
	lowestSequence int32
	epochBump      bool
}

// HasOpenTransaction reports whether the producer has a transaction open in this
// epoch.
func (m *Manager) HasOpenTransaction(pid int64, epoch int16) bool {
	return m.producers[pid].inTransaction(epoch)
}

// StartVerification is called before the first batch of a transaction is appended
// and before the coordinator is asked whether it knows of it. The Guard it returns
// goes into BatchInfo with MustVerify: it becomes void if a batch of the producer's
// transactions or a marker is appended in between, so that an answer about an
// earlier transaction lets nothing through. It returns the zero Guard if the
// transaction is open already and needs none. epochBump says that the client
// speaks transactions v2. It also remembers the lowest sequence number seen, which
// must be appended first.
func (m *Manager) StartVerification(pid int64, epoch int16, firstSequence int32, epochBump bool, now time.Time) Guard {
	if m.HasOpenTransaction(pid, epoch) {
		return 0
	}
	v := m.verifying[pid]
	if v == nil {
		m.lastGuard++
		v = &verification{guard: m.lastGuard, since: now, epoch: epoch, lowestSequence: firstSequence, epochBump: epochBump}
		m.verifying[pid] = v
		return v.guard
	}
	if epoch == v.epoch {
		v.lowestSequence = min(v.lowestSequence, firstSequence)
	} else if epoch > v.epoch {
		v.epoch, v.lowestSequence = epoch, firstSequence
	}
	return v.guard
}

// verified reports whether b carries the guard of the verification under way.
func (m *Manager) verified(b BatchInfo) bool {
	v := m.verifying[b.ProducerID]
	return v != nil && b.Guard != 0 && v.guard == b.Guard
}
