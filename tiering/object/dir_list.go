package object

import (
	"context"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// List implements Store. It holds one folder's names in memory for each level of the tree.
func (d *Dir) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" {
			if err := ValidKey(strings.TrimSuffix(folder, "/")); err != nil {
				yield(Info{}, d.fail("list", prefix, err))
				return
			}
		}
		if d.away() {
			yield(Info{}, d.fail("list", prefix, fs.ErrNotExist))
			return
		}
		w := dirWalk{d: d, ctx: ctx, prefix: prefix, after: after, yield: yield}
		// A folder that is not there is empty, unless all are gone: what was not seen of them is unknown.
		if w.walk(folder) && d.away() {
			yield(Info{}, d.fail("list", prefix, fs.ErrNotExist))
		}
	}
}

type dirWalk struct {
	d             *Dir
	ctx           context.Context // of the one List that this walk belongs to
	prefix, after string
	yield         func(Info, error) bool
}

// walk yields what lies below folder ("" or ending in a slash) and reports whether to go on.
func (w *dirWalk) walk(folder string) bool {
	if err := w.ctx.Err(); err != nil {
		w.yield(Info{}, w.d.fail("list", w.prefix, err))
		return false
	}
	entries, err := os.ReadDir(filepath.Join(w.d.root, filepath.FromSlash(folder)))
	if err != nil {
		if missing(err) { // removed beside us, or never there
			return true
		}
		w.yield(Info{}, w.d.fail("list", w.prefix, err))
		return false
	}
	names := make([]string, 0, len(entries))
	byName := make(map[string]fs.DirEntry, len(entries))
	for _, e := range entries {
		name := folder + e.Name()
		if folder == "" && (e.Name() == tempFolder || e.Name() == "lost+found") || ValidKey(name) != nil {
			continue // the file system's, or others': no key of ours
		}
		if e.Type()&fs.ModeSymlink != 0 { // to where the bytes are: Get goes there too
			if st, err := os.Stat(filepath.Join(w.d.root, filepath.FromSlash(folder), e.Name())); err == nil {
				e = fs.FileInfoToDirEntry(st)
			}
		}
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		if e.IsDir() {
			name += "/" // where a folder's keys sort
		}
		names = append(names, name)
		byName[name] = e
	}
	slices.Sort(names)
	for _, name := range names {
		if !w.visit(name, byName[name]) {
			return false
		}
	}
	return true
}

func (w *dirWalk) visit(name string, e fs.DirEntry) bool {
	if e.IsDir() {
		wanted := strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)
		if !wanted || (name < w.after && !strings.HasPrefix(w.after, name)) {
			return true
		}
		return w.walk(name)
	}
	if !strings.HasPrefix(name, w.prefix) || name <= w.after {
		return true
	}
	st, err := e.Info()
	if missing(err) {
		return true
	}
	if err != nil {
		w.yield(Info{}, w.d.fail("list", w.prefix, err))
		return false
	}
	return w.yield(dirInfo(name, st), nil)
}
