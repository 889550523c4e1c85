package cache

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

var write = flag.Bool("write", false, "write the golden files that are missing")

func encoded(name string, chunk int64, data []byte, size int) []byte {
	b := make([]byte, pieceHeader, pieceHeader+len(data))
	encodePiece(b, name, chunk, data, size)
	return append(b, data...)
}

// decode reads b as the file of a piece.
func decode(t testing.TB, b []byte, name string, chunk int64, dst []byte) (int, error) {
	t.Helper()
	fs := vfs.NewMem()
	f, err := fs.Create("piece")
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readPiece(f, name, chunk, dst)
}

func TestPieceOfVersion1IsReadForEver(t *testing.T) {
	name, data := "cluster/topics/orders.AAAAAAAAAAAAAAAAAAAAAA/0/segments/00000000000000000007-1-x.log", []byte("what was in the object")
	file := filepath.Join("testdata", "v1.piece")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) && *write {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, encoded(name, 4096, data, 30), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 30)
	if n, err := decode(t, b, name, 4096, dst); err != nil || !bytes.Equal(dst[:n], data) {
		t.Errorf("%q, %v", dst[:n], err)
	}
	if !bytes.Equal(b, encoded(name, 4096, data, 30)) {
		t.Error("the same piece is written differently now: that is a new version")
	}
	if got := idOf(name, 4096).file(); got != "273a170ac34afd6c87c7147fb1046a3d-0000000000001000.piece" {
		t.Errorf("file name %s", got)
	}
}

func TestFileNamesOfPiecesAreReadBack(t *testing.T) {
	for _, chunk := range []int64{0, 1, 1 << 40, -1, -1 << 63} {
		id := idOf("a", chunk)
		if got, ok := parsePieceFile(id.file()); !ok || got != id {
			t.Errorf("%s: %v, %v", id.file(), got, ok)
		}
	}
}

// Whatever a file holds: what is taken for the piece is what was written, and dst bounds it.
func FuzzPiece(f *testing.F) {
	name, data := "c/a", []byte("some bytes of an object")
	good := encoded(name, 7, data, 40)
	f.Add(good)
	f.Add(encoded("c/b", 7, data, 40))
	f.Add(encoded(name, 7, data, 41))
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		dst := make([]byte, 40)
		n, err := decode(t, b, name, 7, dst)
		switch {
		case err == nil && !bytes.Equal(b, encoded(name, 7, dst[:n], 40)):
			t.Errorf("%d bytes taken from a file that was not written so", n)
		case err != nil && !errors.Is(err, errBadPiece) && !errors.Is(err, errOtherPiece):
			t.Error(err)
		}
	})
}
