package segment

import (
	"container/list"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// defaultOpenFiles bounds the descriptors that a log directory keeps open for
// files nobody uses at the moment.
const defaultOpenFiles = 512

// fileCache bounds how many files of one log directory are open. Files in use
// are pinned and never closed; of the others those not used for longest are
// closed when there are too many.
//
// Lock order: fileCache.mu, then segFile.mu. Neither is held across I/O.
type fileCache struct {
	fs    vfs.FS
	limit int

	mu   sync.Mutex
	open list.List // of *segFile, most recently opened first
}

// segFile is one file of a segment, opened when it is needed.
type segFile struct {
	cache *fileCache
	name  string

	used atomic.Bool // since the cache looked last

	mu      sync.Mutex
	file    vfs.File
	pins    int
	removed bool
	elem    *list.Element // guarded by fileCache.mu
}

func (c *fileCache) file(name string) *segFile { return &segFile{cache: c, name: name} }

// pin returns the open file, readable and writable. It stays open, even if it is
// removed meanwhile, until unpin. A file that is missing or was removed is
// fs.ErrNotExist.
func (s *segFile) pin() (vfs.File, error) {
	if f, err := s.pinOpen(); f != nil || err != nil {
		return f, err
	}
	return s.open(s.cache.fs.OpenExisting)
}

// pinNew is pin, but creates a file that is missing.
func (s *segFile) pinNew() (vfs.File, error) {
	if f, err := s.pinOpen(); f != nil || err != nil {
		return f, err
	}
	return s.open(s.cache.fs.OpenReadWrite)
}

func (s *segFile) open(how func(string) (vfs.File, error)) (vfs.File, error) {
	f, err := how(s.name)
	if err != nil {
		return nil, err
	}
	return s.install(f)
}

func (s *segFile) pinOpen() (vfs.File, error) {
	s.used.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return nil, &fs.PathError{Op: "open", Path: s.name, Err: fs.ErrNotExist}
	}
	if s.file == nil {
		return nil, nil
	}
	s.pins++
	return s.file, nil
}

// install makes f the open file, unless another goroutine was faster.
func (s *segFile) install(f vfs.File) (vfs.File, error) {
	s.mu.Lock()
	switch {
	case s.removed:
		s.mu.Unlock()
		return nil, errors.Join(&fs.PathError{Op: "open", Path: s.name, Err: fs.ErrNotExist}, f.Close())
	case s.file != nil:
		s.pins++
		won := s.file
		s.mu.Unlock()
		// The loser's file holds nothing; its close error means nothing.
		_ = f.Close()
		return won, nil
	}
	s.file = f
	s.pins++
	s.mu.Unlock()
	s.cache.opened(s)
	return f, nil
}

// unpin gives a pin back. The last one closes a removed file.
func (s *segFile) unpin() {
	s.mu.Lock()
	s.pins--
	var f vfs.File
	if s.pins == 0 && s.removed {
		f, s.file = s.file, nil
	}
	s.mu.Unlock()
	if f != nil {
		_ = f.Close() // the file is unlinked: nothing of it can be lost
		s.cache.forget(s)
	}
}

// retire marks the file as removed: no new pins. The caller unlinks it.
func (s *segFile) retire() {
	s.mu.Lock()
	s.removed = true
	var f vfs.File
	if s.pins == 0 {
		f, s.file = s.file, nil
	}
	s.mu.Unlock()
	if f != nil {
		_ = f.Close() // as in unpin
		s.cache.forget(s)
	}
}

// closeIdle closes the file if it is open and nobody uses it.
func (s *segFile) closeIdle() error {
	s.mu.Lock()
	if s.pins > 0 || s.file == nil {
		s.mu.Unlock()
		return nil
	}
	f := s.file
	s.file = nil
	s.mu.Unlock()
	s.cache.forget(s)
	return f.Close()
}

func (c *fileCache) opened(s *segFile) {
	c.mu.Lock()
	if s.elem == nil {
		s.elem = c.open.PushFront(s)
	}
	var victims []*segFile
	// Second chance: a file used since the last look goes to the front once.
	for n := c.open.Len(); n > 0 && c.open.Len()-len(victims) > c.limit; n-- {
		e := c.open.Back()
		v := e.Value.(*segFile)
		c.open.MoveToFront(e)
		if v != s && !v.used.Swap(false) {
			victims = append(victims, v)
		}
	}
	c.mu.Unlock()
	for _, v := range victims {
		// Data is made durable by Sync, never by Close; an error here loses nothing.
		_ = v.closeIdle()
	}
}

func (c *fileCache) forget(s *segFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.elem != nil && s.file == nil {
		c.open.Remove(s.elem)
		s.elem = nil
	}
}

// closeAll closes every file that nobody uses.
func (c *fileCache) closeAll() {
	c.mu.Lock()
	var files []*segFile
	for e := c.open.Front(); e != nil; e = e.Next() {
		files = append(files, e.Value.(*segFile))
	}
	c.mu.Unlock()
	for _, s := range files {
		_ = s.closeIdle() // as in opened
	}
}
