// Package scenario is the main job end to end, written once and run against
// every kind of broker of package cluster: produce real input, wait until it is
// in the object store only, read it back, kill what can be killed meanwhile.
//
// A scenario takes a running broker and reports through testing.TB. It hides
// how input is made and how two readings are compared.
package scenario

import (
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Line is one record of real input: a line of a Go source file, keyed by its path.
type Line struct {
	Key, Value string
}

// Corpus is real text found on any machine that can build: the Go files of the
// toolchain and of the module cache, one record a line, at most Bytes of keys
// and values. Ranging over Lines twice gives the same lines.
type Corpus struct {
	roots []string
	Bytes int64
}

// NewCorpus finds the files.
func NewCorpus(bytes int64) (*Corpus, error) {
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	dirs := strings.Fields(string(out))
	if len(dirs) != 2 {
		return nil, fmt.Errorf("go env printed %q", out)
	}
	return &Corpus{roots: []string{filepath.Join(dirs[0], "src"), dirs[1]}, Bytes: bytes}, nil
}

var errEnough = errors.New("enough")

// maxLine is the longest line that is taken; longer ones are generated tables.
const maxLine = 64 << 10

// Lines yields the lines in order; a second value that is not nil is the last.
func (c *Corpus) Lines() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		left := c.Bytes
		for _, root := range c.roots {
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || !d.Type().IsRegular() {
					return err
				}
				return eachLine(path, func(line string) bool {
					// kcat takes an empty value for no record.
					if line == "" || len(line) > maxLine {
						return true
					}
					if left -= int64(len(path) + len(line)); left < 0 {
						return false
					}
					return yield(Line{Key: path, Value: line}, nil)
				})
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
		}
	}
}

func eachLine(path string, do func(string) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 64<<10), 16<<20)
	for s.Scan() {
		if !do(s.Text()) {
			return errEnough
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// digests makes order-dependent digests of sequences of records.
type digests struct{ seed maphash.Seed }

func newDigests() digests { return digests{maphash.MakeSeed()} }

// next extends a digest by one record.
func (d digests) next(sum uint64, key, value []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	h.Write(key)
	h.WriteByte(0)
	h.Write(value)
	return (sum ^ h.Sum64()) * 0x9E3779B97F4A7C15
}
