package broker

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// ErrFewFiles means that this process may not have enough files open to be a broker.
var ErrFewFiles = errors.New("too few open files are allowed")

// What a broker needs before the first partition and client. etcd ends the process by itself, without a reason that
// helps, where fewer than 150 are allowed in all, and takes that many out of the count of its clients.
const (
	leastFiles         = 128
	leastFilesWithEtcd = 256
)

// enoughFiles refuses to run where some part would soon find no file descriptor.
func (b *Broker) enoughFiles(context.Context, *layers) error {
	least := int64(leastFiles)
	if b.o.KV == nil && b.settings.Load().Broker().Etcd.Embedded {
		least = leastFilesWithEtcd
	}
	if most := openFiles(); most < least {
		return fmt.Errorf("%w: %d, and a broker needs at least %d before it has partitions and clients", ErrFewFiles, most, least)
	}
	return nil
}

// openFiles is how many files this process may have open: Go has raised the soft limit to the hard one.
func openFiles() int64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || int64(r.Cur) < 0 {
		return 1<<63 - 1 // unknown or unlimited
	}
	return int64(r.Cur)
}

// connectionLimit leaves a quarter of the files to logs, etcd and the object store: clients that connect without end are
// turned away at the listener, where that costs them nothing but their own connection.
func connectionLimit(set int, files int64) int {
	return int(min(int64(set), files/4*3))
}
