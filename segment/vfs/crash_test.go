package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dump returns all files of m with their content.
func dump(t *testing.T, m *Mem) map[string]string {
	t.Helper()
	out := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		for _, name := range must(m.List(dir))(t) {
			path := filepath.Join(dir, name)
			if must(m.Stat(path))(t).IsDir {
				out[path+"/"] = ""
				walk(path)
				continue
			}
			out[path] = string(must(ReadFile(m, path, 1<<30))(t))
		}
	}
	walk("/")
	return out
}

func crash(m *Mem, seed int64, keep int) *Mem {
	return m.Crash(rand.New(rand.NewSource(seed)), keep)
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem()
	noError(t, m.MkdirAll("/d/e"))
	noError(t, m.SyncDir("/"))
	noError(t, m.SyncDir("/d"))
	h := must(m.Create("/d/e/a"))(t)
	write(t, h, strings.Repeat("a", 10000), 0)
	noError(t, h.Sync())
	noError(t, m.SyncDir("/d/e"))
	write(t, h, "unsynced", 10000)
	write(t, h, "unsynced", 0)
	noError(t, WriteFileAtomic(m, "/d/state", []byte("state")))
	want := map[string]string{"/d/": "", "/d/e/": "", "/d/e/a": strings.Repeat("a", 10000), "/d/state": "state"}
	after := crash(m, 1, 0)
	if diff := cmp.Diff(want, dump(t, after)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, dump(t, crash(after, 1, 0))); diff != "" {
		t.Errorf("a second crash changed something: %s", diff)
	}
	if got, want := after.Used(), int64(4*BlockSize); got != want {
		t.Errorf("Used after the crash = %d, want %d", got, want)
	}
}

func TestCrashForgetsUnsyncedEntries(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, m *Mem)
		want map[string]string // with nothing unsynced kept
	}{
		{"synced file, unsynced name", func(t *testing.T, m *Mem) {
			h := must(m.Create("/d/new"))(t)
			write(t, h, "x", 0)
			noError(t, h.Sync())
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"synced name, unsynced file", func(t *testing.T, m *Mem) {
			h := must(m.Create("/d/new"))(t)
			write(t, h, "x", 0)
			noError(t, m.SyncDir("/d"))
		}, map[string]string{"/d/": "", "/d/a": "old", "/d/new": ""}},
		{"rename", func(t *testing.T, m *Mem) {
			noError(t, m.Rename("/d/a", "/d/b"))
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"removal", func(t *testing.T, m *Mem) {
			noError(t, m.Remove("/d/a"))
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"removal of the tree", func(t *testing.T, m *Mem) {
			noError(t, m.RemoveAll("/d"))
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"synced removal", func(t *testing.T, m *Mem) {
			noError(t, m.RemoveAll("/d"))
			noError(t, m.SyncDir("/"))
		}, map[string]string{}},
		{"directory", func(t *testing.T, m *Mem) {
			noError(t, m.MkdirAll("/d/e/f"))
			noError(t, m.SyncDir("/d/e"))
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"size cut", func(t *testing.T, m *Mem) {
			h := must(m.OpenReadWrite("/d/a"))(t)
			noError(t, h.Truncate(1))
		}, map[string]string{"/d/": "", "/d/a": "old"}},
		{"emptied and rewritten", func(t *testing.T, m *Mem) {
			h := must(m.Create("/d/a"))(t)
			write(t, h, "newer", 0)
		}, map[string]string{"/d/": "", "/d/a": "old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMem()
			noError(t, m.MkdirAll("/d"))
			noError(t, m.SyncDir("/"))
			noError(t, WriteFileAtomic(m, "/d/a", []byte("old")))
			c.do(t, m)
			if diff := cmp.Diff(c.want, dump(t, crash(m, 1, 0))); diff != "" {
				t.Errorf("nothing kept: %s", diff)
			}
			if diff := cmp.Diff(dump(t, m), dump(t, crash(m, 1, 100))); diff != "" {
				t.Errorf("everything kept: %s", diff)
			}
		})
	}
}

// TestRenameIsKeptOrLostWhole checks that a power loss never loses, or doubles, a
// file that is being renamed.
func TestRenameIsKeptOrLostWhole(t *testing.T) {
	m := NewMem()
	noError(t, m.MkdirAll("/d"))
	noError(t, m.MkdirAll("/e"))
	noError(t, m.SyncDir("/"))
	noError(t, WriteFileAtomic(m, "/d/a", []byte("x")))
	noError(t, m.Rename("/d/a", "/e/b"))
	seen := map[string]bool{}
	for seed := range int64(50) {
		files := dump(t, crash(m, seed, 50))
		_, old := files["/d/a"]
		_, renamed := files["/e/b"]
		if old == renamed {
			t.Fatalf("seed %d: %v", seed, files)
		}
		seen[fmt.Sprint(old)] = true
	}
	if len(seen) != 2 {
		t.Error("50 crashes all ended the same way")
	}
}

// TestCrashKeepsBlocksApart checks that unsynced blocks survive independently and
// whole.
func TestCrashKeepsBlocksApart(t *testing.T) {
	m := NewMem()
	h := must(m.Create("/a"))(t)
	noError(t, h.Truncate(8*BlockSize))
	noError(t, h.Sync())
	noError(t, m.SyncDir("/"))
	write(t, h, strings.Repeat("n", 8*BlockSize), 0)
	states := map[string]bool{}
	for seed := range int64(30) {
		data := must(ReadFile(crash(m, seed, 50), "/a", 1<<20))(t)
		var state strings.Builder
		for i := 0; i < len(data); i += BlockSize {
			b := data[i : i+BlockSize]
			if !bytes.Equal(b, bytes.Repeat(b[:1], BlockSize)) {
				t.Fatalf("seed %d: block %d is torn", seed, i/BlockSize)
			}
			state.WriteByte(b[0])
		}
		states[state.String()] = true
	}
	if len(states) < 20 {
		t.Errorf("30 crashes gave only %d states", len(states))
	}
}

// TestCrashOfGrowingFile checks that what is synced stays below any size a crash
// leaves, and that nothing but zeros and written bytes appears above it.
func TestCrashOfGrowingFile(t *testing.T) {
	m := NewMem()
	h := must(m.Create("/a"))(t)
	write(t, h, strings.Repeat("s", 5000), 0)
	noError(t, h.Sync())
	noError(t, m.SyncDir("/"))
	write(t, h, strings.Repeat("u", 20000), 5000)
	sizes := map[int]bool{}
	for seed := range int64(100) {
		data := must(ReadFile(crash(m, seed, 40), "/a", 1<<20))(t)
		if len(data) < 5000 || string(data[:5000]) != strings.Repeat("s", 5000) {
			t.Fatalf("seed %d: synced bytes lost: %d", seed, len(data))
		}
		if rest := strings.Trim(string(data[5000:]), "u\x00"); rest != "" {
			t.Fatalf("seed %d: foreign bytes %q", seed, rest)
		}
		sizes[len(data)] = true
	}
	if !sizes[5000] || !sizes[25000] || len(sizes) < 5 {
		t.Errorf("sizes after the crash: %v", sizes)
	}
}

// TestWriteFileAtomicSurvivesCrashAnywhere stops the disk before each operation
// and looks at what is left.
func TestWriteFileAtomicSurvivesCrashAnywhere(t *testing.T) {
	const before = 7 // operations until the old state is durable
	old, fresh := strings.Repeat("old", 3000), strings.Repeat("new!", 3000)
	for stop := int64(0); ; stop++ {
		m := NewMem()
		noError(t, m.MkdirAll("/d"))
		noError(t, m.SyncDir("/"))
		noError(t, WriteFileAtomic(m, "/d/state", []byte(old)))
		if got := m.Ops(); got != before {
			t.Fatalf("set-up took %d operations", got)
		}
		f := WithFaults(m, PowerLoss(stop))
		err := WriteFileAtomic(f, "/d/state", []byte(fresh))
		for seed := range int64(20) {
			for _, keep := range []int{0, 50, 100} {
				got := string(must(ReadFile(crash(m, seed, keep), "/d/state", 1<<20))(t))
				if got != fresh && (got != old || err == nil) {
					t.Fatalf("stop %d (%v), seed %d, keep %d: %d bytes", stop, err, seed, keep, len(got))
				}
			}
		}
		if err == nil {
			if stop != 5 {
				t.Errorf("WriteFileAtomic took %d operations, want 5: create, write, sync, rename, sync-dir", stop)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
	}
}

// TestCrashAgainstModel runs random operations beside a model of what is live and
// what is durable, and crashes at random moments.
func TestCrashAgainstModel(t *testing.T) {
	for seed := range int64(20) {
		rng := rand.New(rand.NewSource(seed))
		m := NewMem()
		live, synced, durable := map[string]string{}, map[string]string{}, map[string]string{}
		for range 200 {
			name := fmt.Sprintf("/%d", rng.Intn(4))
			switch rng.Intn(7) {
			case 0, 1:
				h := must(m.OpenReadWrite(name))(t)
				data := strings.Repeat(string(rune('a'+rng.Intn(26))), rng.Intn(9000))
				write(t, h, data, int64(len(live[name])))
				closeFile(t, h)
				live[name] += data
			case 2:
				if _, ok := live[name]; ok {
					h := must(m.OpenReadWrite(name))(t)
					noError(t, h.Sync())
					closeFile(t, h)
					synced[name] = live[name]
					if _, ok := durable[name]; ok {
						durable[name] = live[name]
					}
				}
			case 3:
				if _, ok := live[name]; ok && rng.Intn(3) == 0 {
					noError(t, m.Remove(name))
					noError(t, m.SyncDir("/"))
					delete(live, name)
					delete(synced, name)
					durable = cloneKeys(live, synced)
				}
			case 4:
				noError(t, m.SyncDir("/"))
				durable = cloneKeys(live, synced)
			case 5:
				if data, ok := live[name]; ok {
					h := must(m.OpenReadWrite(name))(t)
					data = data[:rng.Intn(len(data)+1)]
					noError(t, h.Truncate(int64(len(data))))
					closeFile(t, h)
					live[name] = data
				}
			case 6:
				if diff := cmp.Diff(durable, dump(t, crash(m, seed, 0))); diff != "" {
					t.Fatalf("seed %d: %s", seed, diff)
				}
				if diff := cmp.Diff(live, dump(t, crash(m, seed, 100))); diff != "" {
					t.Fatalf("seed %d: %s", seed, diff)
				}
			}
		}
	}
}

// cloneKeys returns for each live name what of it is synced.
func cloneKeys(live, synced map[string]string) map[string]string {
	out := map[string]string{}
	for name := range live {
		out[name] = synced[name]
	}
	return out
}

// TestCrashesOfOneMomentShareNothing checks that exploring one crash does not
// change another, nor the file system that crashed.
func TestCrashesOfOneMomentShareNothing(t *testing.T) {
	m := NewMem()
	h := must(m.Create("/a"))(t)
	write(t, h, "before", 0)
	noError(t, h.Sync())
	noError(t, m.SyncDir("/"))
	write(t, h, "B", 0)
	one, two := crash(m, 1, 100), crash(m, 1, 100)
	write(t, h, "xxxxxx", 0)
	write(t, must(one.OpenReadWrite("/a"))(t), "yyyyyy", 0)
	for name, fs := range map[string]*Mem{"xxxxxx": m, "yyyyyy": one, "Before": two} {
		if got := string(must(ReadFile(fs, "/a", 10))(t)); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
}
