package vfs

// Range is a part of a file.
type Range struct{ Off, Len int64 }
