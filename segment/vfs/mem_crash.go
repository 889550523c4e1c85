package vfs

import (
	"math/rand"
	"slices"
)

// Crash returns the file system that a restart may find if the power failed now.
// What was synced is there. Of the rest each block, each change of a file's size
// and each change of a directory is kept with a probability of keepPercent: 0 is
// the strictest disk, 100 loses nothing, as when only the process is killed. A
// size that is neither kept nor dropped whole may be any one in between; a
// block that was not kept reads as what was synced there, or as zeros. A rename
// is kept or lost as a whole.
//
// m and its open files stay usable and share nothing with the result, so several
// crashes of one moment can be explored. The same rng state gives the same crash
// as long as operations came in the same order.
func (m *Mem) Crash(rng *rand.Rand, keepPercent int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := crasher{rng: rng, keep: keepPercent, disk: &memDisk{}, nodes: map[memNode]memNode{}}
	c.drawChanges(m.root)
	root := c.dir(m.root)
	c.disk.capacity.Store(m.disk.capacity.Load())
	return &Mem{disk: c.disk, root: root, locks: map[*memFile]bool{}}
}

type crasher struct {
	rng   *rand.Rand
	keep  int
	disk  *memDisk
	kept  map[uint64]bool
	nodes map[memNode]memNode // old to new; a node lost by a rename may have two names
}

func (c *crasher) coin() bool { return c.rng.Intn(100) < c.keep }

// drawChanges decides for each unsynced directory operation whether it is kept.
func (c *crasher) drawChanges(root *memDir) {
	var seqs []uint64
	seen := map[*memDir]bool{}
	var walk func(d *memDir)
	walk = func(d *memDir) {
		if seen[d] {
			return
		}
		seen[d] = true
		for _, ch := range d.pending {
			seqs = append(seqs, ch.seq)
			if child, ok := ch.node.(*memDir); ok {
				walk(child)
			}
		}
		for _, entries := range []map[string]memNode{d.entries, d.durable} {
			for _, n := range entries {
				if child, ok := n.(*memDir); ok {
					walk(child)
				}
			}
		}
	}
	walk(root)
	slices.Sort(seqs)
	c.kept = make(map[uint64]bool, len(seqs))
	for _, seq := range slices.Compact(seqs) {
		c.kept[seq] = c.coin()
	}
}

func (c *crasher) dir(d *memDir) *memDir {
	after := make(map[string]memNode, len(d.durable))
	for name, n := range d.durable {
		after[name] = n
	}
	for _, ch := range d.pending {
		if c.kept[ch.seq] {
			ch.apply(after)
		}
	}
	out := newMemDir()
	c.nodes[d] = out
	for _, name := range sortedNames(after) {
		n := c.node(after[name])
		if n == nil {
			continue
		}
		if f, ok := n.(*memFile); ok {
			f.hold()
		}
		out.entries[name], out.durable[name] = n, n
	}
	return out
}

func (c *crasher) node(n memNode) memNode {
	if done, ok := c.nodes[n]; ok {
		if _, isDir := done.(*memDir); isDir {
			// A directory has one name: of a rename that was half lost
			// the first name found stays.
			return nil
		}
		return done
	}
	switch n := n.(type) {
	case *memDir:
		return c.dir(n)
	case *memFile:
		f := c.file(n)
		c.nodes[n] = f
		return f
	}
	panic("vfs: neither directory nor file")
}

func (c *crasher) file(f *memFile) *memFile {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := newMemFile(c.disk)
	out.modTime = f.modTime
	out.size = c.size(f.durableSize, f.size)
	blocks := slices.Clone(f.durable)
	for _, i := range sortedUnique(f.dirty) {
		if !c.coin() {
			continue
		}
		for len(blocks) <= i {
			blocks = append(blocks, nil)
		}
		blocks[i] = nil
		if i < len(f.live) && f.live[i] != nil {
			b := *f.live[i]
			blocks[i] = &b
		}
	}
	end := int((out.size + BlockSize - 1) / BlockSize)
	out.durable = slices.Clip(blocks[:min(end, len(blocks))])
	if at := out.size % BlockSize; at > 0 && end == len(out.durable) && out.durable[end-1] != nil {
		// Beyond the end of a file there are zeros, whatever a lost write left.
		b := *out.durable[end-1]
		clear(b[at:])
		out.durable[end-1] = &b
	}
	out.durableSize = out.size
	out.live = slices.Clone(out.durable)
	c.disk.used.Add(countBlocks(out.live) * BlockSize)
	return out
}

// size draws what is left of a size that was changed and not synced.
func (c *crasher) size(durable, live int64) int64 {
	if durable == live || c.coin() {
		return live
	}
	if durable < live && c.coin() {
		return durable + c.rng.Int63n(live-durable+1)
	}
	return durable
}

func sortedUnique(list []int) []int {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
