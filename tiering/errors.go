package tiering

import "errors"

// ErrNotLeader ends work of a partition whose leadership went away meanwhile.
var ErrNotLeader = errors.New("not the leader")
