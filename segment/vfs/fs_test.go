package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestContract holds every implementation, bare and wrapped, to one contract.
func TestContract(t *testing.T) {
	implementations := []struct {
		name string
		make func(t *testing.T) (FS, string)
	}{
		{"os", func(t *testing.T) (FS, string) { return NewOS(), t.TempDir() }},
		{"mem", func(t *testing.T) (FS, string) { return newMemAt(t, "/data") }},
		{"mem-relative", func(t *testing.T) (FS, string) { return newMemAt(t, "data") }},
		{"faults", func(t *testing.T) (FS, string) {
			m, dir := newMemAt(t, "/data")
			return WithFaults(m, func(Op) error { return nil }), dir
		}},
		{"watch", func(t *testing.T) (FS, string) {
			return WithWatch(NewOS(), 1<<40, nil), t.TempDir()
		}},
	}
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for _, c := range contract {
				t.Run(c.name, func(t *testing.T) {
					f, dir := impl.make(t)
					c.check(t, f, func(elem ...string) string {
						return filepath.Join(append([]string{dir}, elem...)...)
					})
				})
			}
		})
	}
}

func newMemAt(t *testing.T, dir string) (FS, string) {
	m := NewMem()
	noError(t, m.MkdirAll(dir))
	return m, dir
}

var contract = []struct {
	name  string
	check func(t *testing.T, f FS, path func(...string) string)
}{
	{"file read and write", checkReadWrite},
	{"random writes equal a byte slice", checkRandomWrites},
	{"truncate", checkTruncate},
	{"preallocate keeps the size", checkPreallocate},
	{"open modes", checkOpenModes},
	{"missing names", checkMissing},
	{"directories", checkDirectories},
	{"rename", checkRename},
	{"removed file stays readable", checkRemovedOpen},
	{"closed file", checkClosed},
	{"lock", checkLock},
	{"usage", checkUsage},
	{"write file atomic", checkWriteFileAtomic},
	{"copy to", checkCopyTo},
}

func checkReadWrite(t *testing.T, f FS, path func(...string) string) {
	h := must(f.Create(path("a")))(t)
	defer closeFile(t, h)
	if got := h.Name(); got != path("a") {
		t.Errorf("Name = %q, want %q", got, path("a"))
	}
	if n, err := h.WriteAt([]byte("hello"), 10000); n != 5 || err != nil {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
	noError(t, h.Sync())
	if got := must(h.Size())(t); got != 10005 {
		t.Errorf("Size = %d, want 10005", got)
	}
	buf := make([]byte, 8)
	if n, err := h.ReadAt(buf, 10000); n != 5 || err != io.EOF || string(buf[:5]) != "hello" {
		t.Errorf("ReadAt over the end = %d, %v, %q; want 5, EOF, hello", n, err, buf[:n])
	}
	if n, err := h.ReadAt(buf[:5], 10000); n != 5 || err != nil && err != io.EOF {
		t.Errorf("ReadAt up to the end = %d, %v", n, err)
	}
	if n, err := h.ReadAt(buf, 10005); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end = %d, %v; want 0, EOF", n, err)
	}
	if n, err := h.ReadAt(buf, 9996); n != 8 || err != nil || string(buf) != "\x00\x00\x00\x00hell" {
		t.Errorf("ReadAt over a hole = %d, %v, %q", n, err, buf)
	}
	if _, err := h.ReadAt(buf, -1); err == nil {
		t.Error("ReadAt before the start: want an error")
	}
	if _, err := h.WriteAt(buf, -1); err == nil {
		t.Error("WriteAt before the start: want an error")
	}
}

func checkRandomWrites(t *testing.T, f FS, path func(...string) string) {
	const seed = 7
	rng := rand.New(rand.NewSource(seed))
	h := must(f.Create(path("a")))(t)
	defer closeFile(t, h)
	var model []byte
	for range 300 {
		switch rng.Intn(8) {
		case 0:
			size := rng.Intn(40000)
			noError(t, h.Truncate(int64(size)))
			model = append(model[:min(size, len(model)):min(size, len(model))], make([]byte, max(0, size-len(model)))...)
		case 1:
			noError(t, h.Sync())
		case 2:
			noError(t, h.Preallocate(int64(rng.Intn(40000)), int64(rng.Intn(9000))))
		default:
			off, p := rng.Intn(30000), make([]byte, rng.Intn(9000))
			rng.Read(p)
			if _, err := h.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
			if len(p) > 0 {
				model = append(model, make([]byte, max(0, off+len(p)-len(model)))...)
				copy(model[off:], p)
			}
		}
		if got := readAllOf(t, h); !bytes.Equal(got, model) {
			t.Fatalf("seed %d: file and model differ (%d and %d bytes)", seed, len(got), len(model))
		}
	}
}

func checkTruncate(t *testing.T, f FS, path func(...string) string) {
	h := must(f.Create(path("a")))(t)
	defer closeFile(t, h)
	write(t, h, strings.Repeat("x", 6000), 0)
	noError(t, h.Truncate(3))
	noError(t, h.Truncate(6))
	if got := string(readAllOf(t, h)); got != "xxx\x00\x00\x00" {
		t.Errorf("after cut and extension: %q", got)
	}
	if err := h.Truncate(-1); err == nil {
		t.Error("Truncate(-1): want an error")
	}
}

func checkPreallocate(t *testing.T, f FS, path func(...string) string) {
	h := must(f.Create(path("a")))(t)
	defer closeFile(t, h)
	write(t, h, "abc", 0)
	noError(t, h.Preallocate(0, 100000))
	noError(t, h.Preallocate(0, 0))
	if got := must(h.Size())(t); got != 3 {
		t.Errorf("Size = %d, want 3", got)
	}
	write(t, h, "def", 50000)
	if got := readAllOf(t, h); len(got) != 50003 || !bytes.Equal(got[3:50000], make([]byte, 49997)) {
		t.Errorf("reserved space does not read as zeros")
	}
}

func checkOpenModes(t *testing.T, f FS, path func(...string) string) {
	h := must(f.OpenReadWrite(path("a")))(t)
	write(t, h, "abc", 0)
	closeFile(t, h)
	h = must(f.OpenReadWrite(path("a")))(t)
	if got := string(readAllOf(t, h)); got != "abc" {
		t.Errorf("OpenReadWrite: %q, want abc", got)
	}
	closeFile(t, h)
	h = must(f.OpenExisting(path("a")))(t)
	write(t, h, "d", 3)
	if got := string(readAllOf(t, h)); got != "abcd" {
		t.Errorf("OpenExisting: %q, want abcd", got)
	}
	closeFile(t, h)
	h = must(f.Open(path("a")))(t)
	if _, err := h.WriteAt([]byte("x"), 0); err == nil {
		t.Error("WriteAt on a read-only file: want an error")
	}
	if err := h.Truncate(0); err == nil {
		t.Error("Truncate of a read-only file: want an error")
	}
	closeFile(t, h)
	h = must(f.Create(path("a")))(t)
	if got := string(readAllOf(t, h)); got != "" {
		t.Errorf("Create: %q, want nothing", got)
	}
	closeFile(t, h)
}

func checkMissing(t *testing.T, f FS, path func(...string) string) {
	_, openErr := f.Open(path("no"))
	_, createErr := f.Create(path("no", "a"))
	_, existingErr := f.OpenExisting(path("no"))
	_, listErr := f.List(path("no"))
	_, statErr := f.Stat(path("no"))
	_, usageErr := f.Usage(path("no"))
	for name, err := range map[string]error{
		"Open": openErr, "Create": createErr, "OpenExisting": existingErr, "List": listErr, "Stat": statErr, "Usage": usageErr,
		"Remove": f.Remove(path("no")), "Rename": f.Rename(path("no"), path("b")), "SyncDir": f.SyncDir(path("no")),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a missing name = %v, want fs.ErrNotExist", name, err)
		}
	}
	noError(t, f.RemoveAll(path("no")))
	noError(t, f.RemoveAll(path("no", "deeper")))
}

func checkDirectories(t *testing.T, f FS, path func(...string) string) {
	noError(t, f.MkdirAll(path("d", "e", "f")))
	noError(t, f.MkdirAll(path("d", "e", "f")))
	for _, name := range []string{"2", "10", "1"} {
		closeFile(t, must(f.Create(path("d", name)))(t))
	}
	if diff := cmp.Diff([]string{"1", "10", "2", "e"}, must(f.List(path("d")))(t)); diff != "" {
		t.Errorf("List: %s", diff)
	}
	if st := must(f.Stat(path("d")))(t); !st.IsDir {
		t.Error("Stat of a directory: IsDir is false")
	}
	if st := must(f.Stat(path("d", "1")))(t); st.IsDir || st.Size != 0 || st.ModTime.IsZero() {
		t.Errorf("Stat of a file = %+v", st)
	}
	if err := f.Remove(path("d")); err == nil {
		t.Error("Remove of a full directory: want an error")
	}
	if err := f.MkdirAll(path("d", "1", "x")); err == nil {
		t.Error("MkdirAll below a file: want an error")
	}
	if _, err := f.Create(path("d")); err == nil {
		t.Error("Create over a directory: want an error")
	}
	noError(t, f.SyncDir(path("d")))
	noError(t, f.Remove(path("d", "1")))
	noError(t, f.RemoveAll(path("d")))
	if diff := cmp.Diff([]string{}, must(f.List(path()))(t), cmp.Transformer("len", func(s []string) int { return len(s) })); diff != "" {
		t.Errorf("after RemoveAll: %s", diff)
	}
}

func checkRename(t *testing.T, f FS, path func(...string) string) {
	for _, name := range []string{"a", "b"} {
		h := must(f.Create(path(name)))(t)
		write(t, h, name, 0)
		closeFile(t, h)
	}
	noError(t, f.Rename(path("a"), path("b")))
	if got := string(must(ReadFile(f, path("b"), 10))(t)); got != "a" {
		t.Errorf("b holds %q, want a", got)
	}
	noError(t, f.MkdirAll(path("d", "e")))
	noError(t, f.Rename(path("b"), path("d", "e", "c")))
	noError(t, f.Rename(path("d"), path("g")))
	if got := string(must(ReadFile(f, path("g", "e", "c"), 10))(t)); got != "a" {
		t.Errorf("g/e/c holds %q, want a", got)
	}
	if err := f.Rename(path("g"), path("g", "e", "x")); err == nil {
		t.Error("Rename of a directory below itself: want an error")
	}
	noError(t, f.MkdirAll(path("full", "x")))
	if err := f.Rename(path("g"), path("full")); !errors.Is(err, fs.ErrExist) {
		t.Error("Rename over a directory: want fs.ErrExist")
	}
	noError(t, f.Rename(path("g", "e", "c"), path("g", "e", "c")))
}

func checkRemovedOpen(t *testing.T, f FS, path func(...string) string) {
	h := must(f.Create(path("a")))(t)
	write(t, h, "abc", 0)
	noError(t, f.Remove(path("a")))
	if got := string(readAllOf(t, h)); got != "abc" {
		t.Errorf("open file after Remove: %q, want abc", got)
	}
	write(t, h, "d", 3)
	noError(t, h.Sync())
	closeFile(t, h)
}

func checkClosed(t *testing.T, f FS, path func(...string) string) {
	h := must(f.Create(path("a")))(t)
	closeFile(t, h)
	_, readErr := h.ReadAt(make([]byte, 1), 0)
	_, writeErr := h.WriteAt(make([]byte, 1), 0)
	_, sizeErr := h.Size()
	for name, err := range map[string]error{
		"ReadAt": readErr, "WriteAt": writeErr, "Size": sizeErr, "Close": h.Close(), "Sync": h.Sync(),
		"Truncate": h.Truncate(0), "Preallocate": h.Preallocate(0, 1),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close = %v, want fs.ErrClosed", name, err)
		}
	}
}

func checkLock(t *testing.T, f FS, path func(...string) string) {
	l := must(f.Lock(path(".lock")))(t)
	if _, err := f.Lock(path(".lock")); !errors.Is(err, ErrLocked) {
		t.Errorf("second Lock = %v, want ErrLocked", err)
	}
	noError(t, l.Close())
	l = must(f.Lock(path(".lock")))(t)
	noError(t, l.Close())
}

func checkUsage(t *testing.T, f FS, path func(...string) string) {
	u := must(f.Usage(path()))(t)
	if u.Total == 0 || u.Free > u.Total {
		t.Errorf("Usage = %+v", u)
	}
}

func checkWriteFileAtomic(t *testing.T, f FS, path func(...string) string) {
	for _, data := range []string{"old", "new and longer", ""} {
		noError(t, WriteFileAtomic(f, path("state"), []byte(data)))
		if got := string(must(ReadFile(f, path("state"), 14))(t)); got != data {
			t.Errorf("read %q, want %q", got, data)
		}
	}
	if diff := cmp.Diff([]string{"state"}, must(f.List(path()))(t)); diff != "" {
		t.Errorf("left behind: %s", diff)
	}
	noError(t, WriteFileAtomic(f, path("state"), []byte("12345")))
	if _, err := ReadFile(f, path("state"), 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ReadFile over the limit = %v, want ErrTooLarge", err)
	}
}

func checkCopyTo(t *testing.T, f FS, path func(...string) string) {
	data := make([]byte, 300000)
	rand.New(rand.NewSource(1)).Read(data)
	h := must(f.Create(path("a")))(t)
	defer closeFile(t, h)
	write(t, h, string(data), 0)
	var out bytes.Buffer
	if n, err := CopyTo(&out, h, 1000, 250000); n != 250000 || err != nil || !bytes.Equal(out.Bytes(), data[1000:251000]) {
		t.Errorf("CopyTo = %d, %v", n, err)
	}
	out.Reset()
	if n, err := CopyTo(&out, h, 299990, 20); n != 10 || err != io.ErrUnexpectedEOF {
		t.Errorf("CopyTo over the end = %d, %v; want 10, ErrUnexpectedEOF", n, err)
	}
	if n, err := CopyTo(&out, h, 0, 0); n != 0 || err != nil {
		t.Errorf("CopyTo of nothing = %d, %v", n, err)
	}
	Prefetch(h, 0, 300000)
	StartWriteback(h, 0, 300000)
	DropCache(h, 0, 300000)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		noError(t, err)
		return v
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closeFile(t *testing.T, c io.Closer) {
	t.Helper()
	noError(t, c.Close())
}

func write(t *testing.T, f File, data string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(data), off); n != len(data) || err != nil {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
}

func readAllOf(t *testing.T, f File) []byte {
	t.Helper()
	return must(readAll(f, 1<<30))(t)
}
