package replica

// HoldLog stands for an operation that is under way on a log which this broker does
// not lead, until release.
func (p *Partition) HoldLog() (release func()) {
	p.turn.take()
	return p.turn.give
}
