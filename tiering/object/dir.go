package object

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Dir is a Store in a directory: one file an object, at the key's own path. A file appears under
// its name only when it is complete and synced (write to .uploads, sync, link or rename, sync the
// folder), so a crash leaves nothing but files in .uploads, which NewDir removes when they are a
// day old. It is the second door to the file system besides segment/vfs: objects are plain files
// whose only need is atomic appearance, and reading them through *os.File lets the kernel copy.
type Dir struct {
	root string
	bufs sync.Pool // *[]byte of copyBytes
	// Folders whose names are known to be synced, so that they are not synced for each object.
	durable sync.Map // string → struct{}
}

const (
	copyBytes    = 1 << 20
	staleUploads = 24 * time.Hour
)

// NewDir opens the directory, and creates it when it is not there.
func NewDir(path string) (*Dir, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("object store directory %s: %w", path, err)
	}
	d := &Dir{root: root}
	d.bufs.New = func() any { b := make([]byte, copyBytes); return &b }
	if err := makeRoot(root); err != nil {
		return nil, d.fail("open", "", err)
	}
	temp := filepath.Join(root, tempFolder)
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return nil, d.fail("open", "", err)
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		return nil, d.fail("open", "", err)
	}
	for _, e := range left {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleUploads {
			// Another process may have removed it first; what stays is tried again at the next start.
			_ = os.Remove(filepath.Join(temp, e.Name()))
		}
	}
	return d, nil
}

func (d *Dir) fail(op, key string, err error) error {
	e := &Error{Op: op, Key: key, Store: "directory " + d.root, Err: err}
	var body *bodyError
	switch {
	case errors.As(err, &body), errors.Is(err, ErrInvalid), errors.Is(err, ErrShortBody), errors.Is(err, ErrChecksum),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case op != "open" && missing(err) && d.away():
		// Nothing is known of the object then: a disk was unmounted, or a folder moved.
		e.Kind, e.Hint = ErrUnavailable, "the directory is not there, or no object store: is its file system mounted?"
	case missing(err):
		e.Kind = ErrNotFound
	case errors.Is(err, syscall.EXDEV):
		e.Hint = "all of the directory must be one file system"
	case errors.Is(err, fs.ErrExist):
		e.Kind = ErrExists
	case errors.Is(err, fs.ErrPermission):
		e.Kind = ErrAccess
	default: // a full or failing disk: an operator heals it while the store is in use
		e.Kind = ErrUnavailable
	}
	return e
}

// away says that what NewDir made is not there.
func (d *Dir) away() bool {
	_, err := os.Stat(filepath.Join(d.root, tempFolder))
	return errors.Is(err, fs.ErrNotExist)
}

// path checks the key and ctx, and returns the file's name.
func (d *Dir) path(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := ValidKey(key); err != nil {
		return "", err
	}
	return filepath.Join(d.root, filepath.FromSlash(key)), nil
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	info, err := d.put(ctx, key, body, o)
	if err != nil {
		return Info{}, d.fail("put", key, err)
	}
	return info, nil
}

func (d *Dir) put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	name, err := d.path(ctx, key)
	if err != nil {
		return Info{}, err
	}
	if o.IfAbsent { // cheap refusal before the copy; the link below decides
		if _, err := os.Lstat(name); err == nil {
			return Info{}, fs.ErrExist
		}
	}
	temp, sum, err := d.writeTemp(ctx, newSource(body, o), o)
	if err != nil {
		return Info{}, err
	}
	defer os.Remove(temp) // fails after a rename, which is as it should be
	if err := d.publish(temp, name, o.IfAbsent); err != nil {
		return Info{}, err
	}
	st, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	info := dirInfo(key, st)
	info.CRC32C, info.HasCRC = sum, true
	return info, nil
}

// writeTemp copies the body to a synced file in .uploads.
func (d *Dir) writeTemp(ctx context.Context, body Body, o PutOptions) (name string, sum uint32, err error) {
	f, err := os.CreateTemp(filepath.Join(d.root, tempFolder), "put-*")
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(f.Name()) // else NewDir does it a day later
		}
	}()
	buf := d.bufs.Get().(*[]byte)
	defer d.bufs.Put(buf)
	for off, size := int64(0), body.Size(); off < size; {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		b := (*buf)[:min(copyBytes, size-off)]
		if n, err := body.ReadAt(b, off); n < len(b) {
			return "", 0, shortBody(err)
		}
		sum = crc32.Update(sum, castagnoli, b)
		if _, err := f.Write(b); err != nil {
			return "", 0, err
		}
		startWriteback(f, off, int64(len(b)))
		off += int64(len(b))
	}
	if o.HasCRC && sum != o.CRC32C {
		return "", 0, ErrChecksum
	}
	if err := f.Chmod(0o644); err != nil {
		return "", 0, err
	}
	return f.Name(), sum, f.Sync()
}

// publish gives the file its name and makes the name durable.
func (d *Dir) publish(temp, name string, ifAbsent bool) error {
	move := os.Rename
	if ifAbsent {
		move = renameAbsent
	}
	folder := filepath.Dir(name)
	for attempt := 0; ; attempt++ {
		err := d.mkdirs(folder)
		if err == nil {
			err = move(temp, name)
		}
		if err == nil {
			return syncFolder(folder)
		}
		// A Delete beside us may have removed the folder it emptied.
		if !errors.Is(err, fs.ErrNotExist) || attempt == 100 || d.away() {
			return err
		}
		d.durable.Delete(folder)
	}
}

// mkdirs creates folder where it is missing, and makes its name durable all the way down from the
// root, also when somebody else has made it and may not have synced it yet.
func (d *Dir) mkdirs(folder string) error {
	if len(folder) <= len(d.root) {
		return nil
	}
	if _, ok := d.durable.Load(folder); ok {
		return nil
	}
	parent := filepath.Dir(folder)
	if err := d.mkdirs(parent); err != nil {
		return err
	}
	err := os.Mkdir(folder, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		d.durable.Delete(parent)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncFolder(parent); err != nil {
		return err
	}
	d.durable.Store(folder, struct{}{})
	return nil
}

// makeRoot creates root and what is missing above it, each name durable, so that a power loss
// does not take the whole store with one of them.
func makeRoot(root string) error {
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(root)
	if err := makeRoot(parent); err != nil {
		return err
	}
	if err := os.Mkdir(root, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Get implements Store. The body reads with pread straight into the caller's buffer, and its
// WriteTo lets the kernel copy when the writer is a socket.
func (d *Dir) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	name, err := d.path(ctx, key)
	if err != nil {
		return nil, d.fail("get", key, err)
	}
	if n == 0 {
		return emptyBody{}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, d.fail("get", key, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err == nil {
		if n, err = checkRange(st.Size(), off, n); err != nil {
			err = fmt.Errorf("%w: %w", ErrShortBody, err)
		}
	}
	if err != nil {
		_ = f.Close() // read-only
		return nil, d.fail("get", key, err)
	}
	return &dirBody{f: f, off: off, end: off + n, ctx: ctx, d: d, key: key}, nil
}

type dirBody struct {
	f        *os.File
	off, end int64
	ctx      context.Context // of the one Get that this body belongs to
	d        *Dir
	key      string
}

func (b *dirBody) Read(p []byte) (int, error) {
	if b.off == b.end {
		return 0, io.EOF
	}
	if err := b.ctx.Err(); err != nil {
		return 0, b.d.fail("get", b.key, err)
	}
	n, err := b.f.ReadAt(p[:min(int64(len(p)), b.end-b.off)], b.off)
	b.off += int64(n)
	if err == io.EOF { // somebody cut the file
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = b.d.fail("get", b.key, err)
	}
	return n, err
}

func (b *dirBody) WriteTo(w io.Writer) (int64, error) {
	if _, err := b.f.Seek(b.off, io.SeekStart); err != nil {
		return 0, b.d.fail("get", b.key, err)
	}
	n, err := io.CopyN(w, b.f, b.end-b.off)
	b.off += n
	if err == io.EOF {
		err = b.d.fail("get", b.key, io.ErrUnexpectedEOF)
	}
	return n, err
}

func (b *dirBody) Close() error { return b.f.Close() }

// Head implements Store.
func (d *Dir) Head(ctx context.Context, key string) (Info, error) {
	name, err := d.path(ctx, key)
	if err != nil {
		return Info{}, d.fail("head", key, err)
	}
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, d.fail("head", key, err)
	}
	return dirInfo(key, st), nil
}

func dirInfo(key string, st fs.FileInfo) Info {
	return Info{Key: key, Size: st.Size(), Modified: st.ModTime(),
		ETag: strconv.FormatInt(st.Size(), 10) + "-" + strconv.FormatInt(st.ModTime().UnixNano(), 16)}
}

// Delete implements Store. It also removes the folders that it empties. Removal is not synced: an
// object that comes back after a power loss is found again by whoever lists.
func (d *Dir) Delete(ctx context.Context, keys ...string) error {
	var errs []error
	for _, key := range keys {
		name, err := d.path(ctx, key)
		if err == nil {
			err = removeFile(name)
		}
		if err != nil && (!missing(err) || d.away()) {
			errs = append(errs, d.fail("delete", key, err))
			continue
		}
		for folder := filepath.Dir(name); len(folder) > len(d.root); folder = filepath.Dir(folder) {
			if os.Remove(folder) != nil { // not empty, or gone
				break
			}
			d.durable.Delete(folder)
		}
	}
	return errors.Join(errs...)
}

// removeFile leaves a folder alone, which is no object.
func removeFile(name string) error {
	st, err := os.Lstat(name)
	if err == nil && st.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	return os.Remove(name)
}

// missing also covers a key below a file (a/b where a is an object).
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Close implements Store.
func (d *Dir) Close() error { return nil }
