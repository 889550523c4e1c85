package vfs

import (
	"slices"
	"syscall"
	"time"
)

// memDir holds live entries and those that a power loss would leave, plus the
// operations between the two, oldest first.
type memDir struct {
	entries map[string]memNode
	durable map[string]memNode
	pending []memChange
	modTime time.Time
}

// memChange is one unsynced change of a directory. The changes that belong to one
// operation, as the two of a rename do, share seq: a power loss keeps all or none
// of them.
type memChange struct {
	seq  uint64
	name string
	node memNode // nil: removed
}

func newMemDir() *memDir {
	return &memDir{entries: map[string]memNode{}, durable: map[string]memNode{}, modTime: time.Now()}
}

func (d *memDir) info() Info { return Info{IsDir: true, ModTime: d.modTime} }

// changeLocked sets, or with a nil node removes, an entry as part of operation seq.
func (d *memDir) changeLocked(seq uint64, name string, node memNode) {
	if node == nil {
		delete(d.entries, name)
	} else {
		d.entries[name] = node
	}
	d.modTime = time.Now()
	d.pending = append(d.pending, memChange{seq: seq, name: name, node: node})
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.ops.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	switch n := dir.entries[base].(type) {
	case nil:
		return pathError("remove", name, syscall.ENOENT)
	case *memDir:
		if len(n.entries) > 0 {
			return pathError("remove", name, syscall.ENOTEMPTY)
		}
	case *memFile:
		n.release()
	}
	dir.changeLocked(m.nextLocked(), base, nil)
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.ops.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked(name)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return pathError("removeall", name, err)
	}
	m.removeTreeLocked(dir, base)
	return nil
}

// removeTreeLocked removes bottom up, each entry an operation of its own: a power
// loss may leave any part of the tree.
func (m *Mem) removeTreeLocked(dir *memDir, base string) {
	switch n := dir.entries[base].(type) {
	case nil:
		return
	case *memDir:
		for _, child := range sortedNames(n.entries) {
			m.removeTreeLocked(n, child)
		}
	case *memFile:
		n.release()
	}
	dir.changeLocked(m.nextLocked(), base, nil)
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.ops.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.renameLocked(oldName, newName); err != nil {
		return pathError("rename", oldName, err)
	}
	return nil
}

func (m *Mem) renameLocked(oldName, newName string) error {
	from, oldBase, err := m.parentLocked(oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.parentLocked(newName)
	if err != nil {
		return err
	}
	node := from.entries[oldBase]
	if node == nil {
		return syscall.ENOENT
	}
	if isBelow(split(newName), split(oldName)) {
		return syscall.EINVAL
	}
	target := to.entries[newBase]
	if target == node && !isDir(node) {
		return nil
	}
	if err := replaceable(target, node); err != nil {
		return err
	}
	if f, ok := target.(*memFile); ok {
		f.release()
	}
	seq := m.nextLocked()
	from.changeLocked(seq, oldBase, nil)
	to.changeLocked(seq, newBase, node)
	return nil
}

func isDir(n memNode) bool {
	_, ok := n.(*memDir)
	return ok
}

// isBelow reports whether path lies strictly under dir.
func isBelow(path, dir []string) bool {
	return len(path) > len(dir) && slices.Equal(path[:len(dir)], dir)
}

// replaceable says, as os.Rename does, whether node may take target's place.
func replaceable(target, node memNode) error {
	if isDir(target) {
		return syscall.EEXIST
	}
	if isDir(node) && target != nil {
		return syscall.ENOTDIR
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.ops.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.root
	for _, name := range split(dir) {
		switch n := d.entries[name].(type) {
		case nil:
			child := newMemDir()
			d.changeLocked(m.nextLocked(), name, child)
			d = child
		case *memDir:
			d = n
		default:
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.ops.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.dirLocked(split(dir))
	if err != nil {
		return pathError("open", dir, err)
	}
	for _, c := range d.pending {
		c.apply(d.durable)
	}
	d.pending = nil
	return nil
}

func (c memChange) apply(entries map[string]memNode) {
	if c.node == nil {
		delete(entries, c.name)
	} else {
		entries[c.name] = c.node
	}
}
