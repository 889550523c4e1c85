package vfs

import (
	"os"
	"unsafe" // x/sys has no wrapper of mincore

	"golang.org/x/sys/unix"
)

const (
	coldStep   = 64 << 10  // a range is cold in steps of this: a hot page keeps its neighbours
	coldWindow = 256 << 20 // of file that is mapped at a time, a multiple of coldStep
)

// ColdRanges returns the parts of [off, off+n) of a file of which nothing is in the page cache, in order. off must be
// a multiple of 64 KiB. It reads nothing. nil where nobody can say: another system, a file in memory.
func ColdRanges(f File, off, n int64) []Range {
	o := asOS(f)
	if o == nil || n <= 0 || off%coldStep != 0 {
		return nil
	}
	var cold []Range
	page := int64(os.Getpagesize())
	for end := off + n; off < end; off += coldWindow {
		size := min(coldWindow, end-off)
		// A mapping that is never touched: it cannot fault, whatever becomes of the file.
		resident := make([]byte, (size+page-1)/page)
		err := o.control(func(fd int) error {
			b, err := unix.Mmap(fd, off, int(size), unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			err = mincore(b, resident)
			if uerr := unix.Munmap(b); err == nil {
				err = uerr
			}
			return err
		})
		if err != nil {
			return cold // unknown is not cold
		}
		for at := int64(0); at < size; at += coldStep {
			k := min(coldStep, size-at)
			if anyResident(resident[at/page : (at+k+page-1)/page]) {
				continue
			}
			if last := len(cold) - 1; last >= 0 && cold[last].Off+cold[last].Len == off+at {
				cold[last].Len += k
			} else {
				cold = append(cold, Range{Off: off + at, Len: k})
			}
		}
	}
	return cold
}

func anyResident(pages []byte) bool {
	for _, p := range pages {
		if p&1 != 0 {
			return true
		}
	}
	return false
}

// mincore says of each page of a mapping whether it is in memory.
func mincore(mapping, resident []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(mapping))), uintptr(len(mapping)),
		uintptr(unsafe.Pointer(unsafe.SliceData(resident))))
	if errno != 0 {
		return errno
	}
	return nil
}
