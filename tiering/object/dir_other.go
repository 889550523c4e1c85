//go:build !linux

package object

import "os"

func startWriteback(*os.File, int64, int64) {}

// renameAbsent gives a file a name that must be free.
func renameAbsent(temp, name string) error { return os.Link(temp, name) }
