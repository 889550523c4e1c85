package object_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// TestDirThatIsAwayIsNotEmpty: an unmounted disk leaves the folder that it was mounted on. What was in the store is
// unknown then, not gone.
func TestDirThatIsAwayIsNotEmpty(t *testing.T) {
	for _, left := range []string{"an empty folder", "nothing"} {
		t.Run(left, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s, err := object.NewDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "a/k", []byte("k"))
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if left == "an empty folder" {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, getErr := object.ReadAll(t.Context(), s, "a/k", 10)
			_, headErr := s.Head(t.Context(), "a/k")
			_, putErr := s.Put(t.Context(), "a/k", object.Bytes([]byte("k")), object.PutOptions{})
			_, listErr := listed(t.Context(), s, "", "")
			_, belowErr := listed(t.Context(), s, "a/", "")
			for op, err := range map[string]error{"get": getErr, "head": headErr, "put": putErr, "list": listErr, "list below": belowErr, "delete": s.Delete(t.Context(), "a/k")} {
				t.Run(op, func(t *testing.T) {
					wantError(t, err, object.ErrUnavailable, "mounted", dir)
					if errors.Is(err, object.ErrNotFound) {
						t.Errorf("%v says that the object is not there", err)
					}
				})
			}
			_ = os.Remove(dir)
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
			if got := get(t, s, "a/k"); string(got) != "k" {
				t.Errorf("got %q when it is back", got)
			}
		})
	}
}

// TestDirKnowsItsObjectsFromOtherFiles: what a file system or a stranger has in the directory is neither listed nor in
// the way, and objects behind a link are.
func TestDirKnowsItsObjectsFromOtherFiles(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	s, err := object.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "topics/a/1", []byte("1"))
	put(t, s, "topics/b/1", []byte("1"))
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "lost+found"), 0o000),
		os.WriteFile(filepath.Join(dir, "topics", "a\nb"), nil, 0o600),
		syscall.Mkfifo(filepath.Join(dir, "topics", "pipe"), 0o600),
		os.Symlink("nowhere", filepath.Join(dir, "topics", "broken")),
		os.Rename(filepath.Join(dir, "topics", "b"), filepath.Join(elsewhere, "b")),
		os.Symlink(filepath.Join(elsewhere, "b"), filepath.Join(dir, "topics", "b")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"topics/a/1", "topics/b/1"}
	if diff := cmp.Diff(want, list(t, s, "", "")); diff != "" {
		t.Error(diff)
	}
	for _, key := range want {
		get(t, s, key)
	}
	if err := s.Delete(t.Context(), "topics", "topics/a", "topics/none/at/all"); err != nil {
		t.Errorf("delete of what is no object: %v", err)
	}
	if diff := cmp.Diff(want, list(t, s, "", "")); diff != "" {
		t.Errorf("after the delete of folders: %s", diff)
	}
}

// TestDirThatGoesAwayEndsItsList: what was not seen of it is unknown, so the list must not end as if it were whole.
func TestDirThatGoesAwayEndsItsList(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := object.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/1", "b/1", "c/1"} {
		put(t, s, key, []byte(key))
	}
	var got []string
	var listErr error
	for info, err := range s.List(t.Context(), "", "") {
		if listErr = err; err != nil {
			break
		}
		if got = append(got, info.Key); len(got) > 1 {
			continue
		}
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"a/1"}, got); diff != "" {
		t.Error(diff)
	}
	wantError(t, listErr, object.ErrUnavailable, "mounted", dir)
}
