//go:build !linux

package vfs

// ColdRanges returns nil: nobody can say on this system.
func ColdRanges(File, int64, int64) []Range { return nil }
