package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/memory"
)

// run is the writer: the only one that writes files and that removes good ones. It ends with ctx, after the piece
// it is at.
func (d *Disk) run(ctx context.Context, c *Cache) {
	for {
		err := d.scan(ctx)
		if err == nil {
			break
		}
		d.failed(&d.writes, fmt.Errorf("list the pieces: %w", err))
		select {
		case <-time.After(d.pause()):
		case <-ctx.Done():
			return
		}
	}
	buf := memory.New(pieceHeader + c.chunk)
	defer buf.Free()
	for ctx.Err() == nil {
		d.tidy()
		if key, size, n, ok := c.takeOffer(buf.Bytes()[pieceHeader:]); ok {
			d.write(key, size, buf.Bytes()[:pieceHeader+n])
			continue
		}
		select {
		case <-d.wake:
		case <-ctx.Done():
		}
	}
}

// pause is how long the writer waits after a failed listing.
func (d *Disk) pause() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes.wait
}

// close gives the directory up.
func (d *Disk) close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock the disk cache: %w", err)
	}
	return nil
}

// scan puts the files of former lives into the index, behind what was used since the start.
func (d *Disk) scan(ctx context.Context) error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return err
	}
	var found []*piece
	var foreign []string
	for _, name := range names {
		id, ok := parsePieceFile(strings.TrimSuffix(name, vfs.TempSuffix))
		switch {
		case !ok:
			if name != lockFile && strings.TrimSuffix(name, vfs.TempSuffix) != tagFile {
				foreign = append(foreign, name)
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.HasSuffix(name, vfs.TempSuffix):
			if err := d.remove(name); err != nil {
				return err
			}
			continue
		}
		info, err := d.fs.Stat(d.path(name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // a load found it bad
		case err != nil:
			return err
		default:
			found = append(found, &piece{id: id, size: info.Size, touched: info.ModTime})
		}
	}
	if len(foreign) > 0 {
		d.log.Warn("files in the disk cache are not its own, left alone", "count", len(foreign), "file", foreign[0])
	}
	d.adopt(found)
	return d.makeRoom(0)
}

func (d *Disk) adopt(found []*piece) {
	slices.SortFunc(found, func(a, b *piece) int {
		return cmp.Or(b.touched.Compare(a.touched), cmp.Compare(a.id.chunk, b.id.chunk))
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range found {
		switch {
		case d.index[p.id] != nil:
		case d.forgotten[p.id.object]:
			d.doomed = append(d.doomed, p.id)
		default:
			d.index[p.id] = d.lru.PushBack(p)
			d.used += p.space()
		}
	}
	d.scanned, d.forgotten = true, nil
	d.log.Info("disk cache found", "pieces", d.lru.Len(), "bytes", d.used)
}

// remove removes a file that may be gone already.
func (d *Disk) remove(base string) error {
	if err := d.fs.Remove(d.path(base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeRoom removes the least recently used pieces until n more bytes fit.
func (d *Disk) makeRoom(n int64) error {
	for {
		d.mu.Lock()
		el := d.lru.Back()
		if el == nil || d.used+n <= d.max {
			d.mu.Unlock()
			return nil
		}
		p := el.Value.(*piece)
		d.removeLocked(el)
		d.mu.Unlock()
		err := d.remove(p.id.file())
		d.mu.Lock()
		if err != nil {
			d.index[p.id] = d.lru.PushBack(p)
			d.used += p.space()
		} else {
			d.stats.Evicted++
		}
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// tidy does what others left to the writer.
func (d *Disk) tidy() {
	d.mu.Lock()
	doomed, touches := d.doomed, d.touches
	d.doomed, d.touches = nil, nil
	d.mu.Unlock()
	for _, id := range doomed {
		if err := d.remove(id.file()); err != nil {
			d.failed(&d.writes, err)
		}
	}
	for _, p := range touches {
		if err := d.touch(p); err != nil {
			d.failed(&d.writes, err)
			return
		}
	}
}

// touch renews the time of a file, by setting the size that it has.
func (d *Disk) touch(p *piece) error {
	d.mu.Lock()
	_, ok := d.index[p.id]
	ok = ok && time.Now().After(d.writes.until)
	d.mu.Unlock()
	if !ok {
		return nil
	}
	f, err := d.fs.OpenReadWrite(d.path(p.id.file()))
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size == p.size {
		err = f.Truncate(size)
	}
	err = errors.Join(err, f.Close())
	if err == nil && size == 0 { // a load found it bad and removed it, and opening made it anew
		err = d.remove(p.id.file())
	}
	return err
}

// write makes a file of a piece: b is room for the header and the data.
func (d *Disk) write(key Key, size int, b []byte) {
	name := d.name(key)
	now := time.Now()
	p := &piece{id: idOf(name, key.Chunk), size: int64(len(b)), touched: now}
	if len(name) > maxPieceName {
		d.dropped()
		return
	}
	if !d.wants(p, now) {
		return
	}
	encodePiece(b[:pieceHeader], name, key.Chunk, b[pieceHeader:], size)
	err := d.makeRoom(p.space())
	if err == nil {
		err = d.put(p.id.file(), b)
	}
	if d.endWrite(p, err) {
		err = d.remove(p.id.file())
	}
	switch {
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, syscall.EDQUOT):
		// Others need the space too: give some back.
		d.failed(&d.writes, errors.Join(err, d.shrink()))
	case err != nil:
		d.failed(&d.writes, err)
	default:
		d.worked(&d.writes, now)
	}
}

// wants says whether to write p, for which a file of the same name may be there.
func (d *Disk) wants(p *piece, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	el := d.index[p.id]
	switch {
	case now.Before(d.writes.until) || p.space() > d.max:
		d.stats.Dropped++
		return false
	case el != nil && el.Value.(*piece).size == p.size:
		d.lru.MoveToFront(el) // it was not looked for, during an outage
		return false
	}
	return true
}

// endWrite puts what was written into the index, and says whether it must go again.
func (d *Disk) endWrite(p *piece, err error) (unwanted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	unwanted = err == nil && d.cancelled
	if err != nil || unwanted {
		d.stats.Dropped++
		return unwanted
	}
	if el := d.index[p.id]; el != nil {
		d.removeLocked(el) // replaced
	}
	d.pushLocked(p)
	d.stats.Written++
	d.stats.WrittenBytes += p.size - pieceHeader
	return false
}

// put writes a file under a temporary name first, so that no name ever stands for a part of a piece as long as
// the machine runs. After a power loss it may: the checksums tell.
func (d *Disk) put(base string, b []byte) error {
	temp := base + vfs.TempSuffix
	err := d.putTemp(temp, b)
	if err == nil {
		err = d.fs.Rename(d.path(temp), d.path(base))
	}
	if err != nil {
		return errors.Join(err, d.remove(temp))
	}
	return nil
}

func (d *Disk) putTemp(temp string, b []byte) error {
	f, err := d.fs.Create(d.path(temp))
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		// Written now and dropped from the page cache, where it would displace what is hot. Waiting also keeps
		// a slow disk from being handed more than it takes: what comes meanwhile is not cached.
		vfs.WaitWriteback(f, 0, int64(len(b)))
		vfs.DropCache(f, 0, int64(len(b)))
	}
	return errors.Join(err, f.Close())
}

// begin notes what the writer took, so that forget can still cancel it.
func (d *Disk) begin(key Key) {
	id := idOf(d.name(key), key.Chunk)
	d.mu.Lock()
	d.writing, d.cancelled = id, false
	d.mu.Unlock()
}

// dropped counts a piece that was not even queued, or gone before its turn.
func (d *Disk) dropped() {
	d.mu.Lock()
	d.stats.Dropped++
	d.mu.Unlock()
}

// shrink gives an eighth of the space back.
func (d *Disk) shrink() error {
	d.mu.Lock()
	give := d.max - d.used + d.used/8 + 1
	d.mu.Unlock()
	return d.makeRoom(give)
}
