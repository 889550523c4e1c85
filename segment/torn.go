package segment

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// cutTail ends the log in part i where its statistics stand. What follows in the
// file, and the parts after it, were never durable: they are put aside under
// names that end with .torn, for people to look at.
func (l *Log) cutTail(i int, p *activePart, size int64, d *damage) error {
	l.log.Error("torn tail cut", "partition", l.tp, "segment", p.base, "offset", p.next,
		"bytes", size-p.size, "segments", len(l.parts)-1-i, "err", d)
	if size > p.size {
		if err := l.copyTorn(p.part, size); err != nil {
			return err
		}
		f, err := p.log.pin()
		if err != nil {
			return l.readError("open segment", p.log.name, err)
		}
		defer p.log.unpin()
		if err := f.Truncate(p.size); err != nil {
			return l.fail("cut torn tail", err)
		}
	}
	for _, q := range l.parts[i+1:] {
		for _, s := range q.list() {
			s.retire()
			err := l.fs.Rename(s.name, s.name+tornSuffix)
			if err != nil && !missing(err) {
				return l.fail("put torn segment aside", err)
			}
		}
	}
	l.parts = l.parts[: i+1 : i+1]
	return nil
}

// copyTorn keeps a copy of what will be cut, unless it is zeros or the disk is
// full, or descriptors are short: it is a courtesy.
func (l *Log) copyTorn(p *part, size int64) error {
	f, err := p.log.pin()
	if err != nil {
		return l.readError("open segment", p.log.name, err)
	}
	defer p.log.unpin()
	zeros, err := allZeros(f, p.size, size)
	if err != nil || zeros {
		return errFileRead(l, p, err)
	}
	return l.keepTorn(f, p.log.name, p.size, size)
}

// keepTorn copies what a file has between two positions.
func (l *Log) keepTorn(f vfs.File, name string, from, to int64) error {
	out, err := l.fs.Create(fmt.Sprintf("%s.%d%s", name, from, tornSuffix))
	if err == nil {
		_, err = vfs.CopyTo(&fileWriter{file: out}, f, from, to-from)
		err = errors.Join(err, out.Close())
	}
	if vfs.Heals(err) {
		l.log.Warn("no copy is kept of what is cut", "partition", l.tp, "file", name, "err", err)
		return nil
	}
	if err != nil {
		return l.fail("copy what is cut", err)
	}
	return nil
}

// CutDamage ends the log where its records are damaged, as TruncateTo does, and
// keeps a copy of the damaged segment from there on. Only for who can get the
// records from a replica, and does not lead.
func (l *Log) CutDamage(d *DamageError) error {
	f, err := l.fs.Open(d.Path)
	switch {
	case missing(err):
		return l.TruncateTo(d.Offset)
	case err != nil:
		return l.readError("open segment", d.Path, err)
	}
	size, err := f.Size()
	if err == nil && size > d.Pos {
		err = l.keepTorn(f, d.Path, d.Pos, size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return l.TruncateTo(d.Offset)
}

func errFileRead(l *Log, p *part, err error) error {
	if err == nil {
		return nil
	}
	return l.readError("read torn tail", p.log.name, err)
}

func allZeros(f vfs.File, from, to int64) (bool, error) {
	buf := pageBuffers.Get().(*[pageBuffer]byte)
	defer pageBuffers.Put(buf)
	var zero [pageBuffer]byte
	for from < to {
		b := buf[:min(to-from, pageBuffer)]
		if n, err := f.ReadAt(b, from); n < len(b) {
			return false, err
		}
		if !bytes.Equal(b, zero[:len(b)]) {
			return false, nil
		}
		from += int64(len(b))
	}
	return true, nil
}

// fileWriter writes to a file one piece after another.
type fileWriter struct {
	file vfs.File
	pos  int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.file.WriteAt(b, w.pos)
	w.pos += int64(n)
	return n, err
}
