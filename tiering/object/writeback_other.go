//go:build !linux

package object

import "os"

func startWriteback(*os.File, int64, int64) {}
