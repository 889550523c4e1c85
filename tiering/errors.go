package tiering

import "errors"

var (
	// ErrNotLeader ends work of a partition whose leadership went away meanwhile.
	ErrNotLeader = errors.New("not the leader")
	// ErrStalled ends an upload that made no progress for too long.
	ErrStalled = errors.New("no progress")
)
