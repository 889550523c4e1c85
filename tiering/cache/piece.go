package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/segment/vfs"
)

// A piece's file, big-endian:
//
//	   0  8  magic "CBRKPCE\n"
//	   8  2  version, 1
//	  10  2  bytes of the name
//	  12  4  CRC32C of the data
//	  16  8  chunk
//	  24  8  bytes of the data
//	  32  8  bytes that were asked for; more than the data only where the object ends
//	  40     name: scope, "/", object; then zeros
//	4092  4  CRC32C of all bytes before it
//	4096     the data
const (
	pieceMagic   = "CBRKPCE\n"
	pieceVersion = 1
	pieceHeader  = 4096
	pieceFixed   = 40
	maxPieceName = pieceHeader - pieceFixed - 4

	pieceSuffix = ".piece"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errBadPiece   = errors.New("bad piece")             // not what was written
	errOtherPiece = errors.New("piece of another size") // good, and of no use any more
)

// pieceID stands for a key: what a file name can say of it.
type pieceID struct {
	object [16]byte
	chunk  int64
}

func idOf(name string, chunk int64) pieceID {
	id := pieceID{chunk: chunk}
	sum := sha256.Sum256([]byte(name))
	copy(id.object[:], sum[:])
	return id
}

// file is the base name of a piece's file.
func (id pieceID) file() string {
	return fmt.Sprintf("%x-%016x"+pieceSuffix, id.object, uint64(id.chunk))
}

// parsePieceFile is the reverse of file; it takes nothing that file does not make.
func parsePieceFile(name string) (id pieceID, ok bool) {
	object, chunk, _ := strings.Cut(strings.TrimSuffix(name, pieceSuffix), "-")
	b, err := hex.DecodeString(object)
	if err != nil || len(b) != len(id.object) {
		return pieceID{}, false
	}
	n, err := strconv.ParseUint(chunk, 16, 64)
	if err != nil {
		return pieceID{}, false
	}
	copy(id.object[:], b)
	id.chunk = int64(n)
	return id, id.file() == name
}

// encodePiece writes the header of the data into h, which has pieceHeader bytes.
func encodePiece(h []byte, name string, chunk int64, data []byte, size int) {
	be := binary.BigEndian
	clear(h)
	copy(h, pieceMagic)
	be.PutUint16(h[8:], pieceVersion)
	be.PutUint16(h[10:], uint16(len(name)))
	be.PutUint32(h[12:], crc32.Checksum(data, castagnoli))
	be.PutUint64(h[16:], uint64(chunk))
	be.PutUint64(h[24:], uint64(len(data)))
	be.PutUint64(h[32:], uint64(size))
	copy(h[pieceFixed:], name)
	be.PutUint32(h[pieceHeader-4:], crc32.Checksum(h[:pieceHeader-4], castagnoli))
}

// readPiece fills dst with the data of f when f holds exactly the piece that was asked for. Errors: errBadPiece,
// errOtherPiece, those of f.
func readPiece(f vfs.File, name string, chunk int64, dst []byte) (n int, err error) {
	var h [pieceHeader]byte
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if err := readFull(f, h[:], 0); err != nil {
		return 0, err
	}
	be := binary.BigEndian
	switch {
	case crc32.Checksum(h[:pieceHeader-4], castagnoli) != be.Uint32(h[pieceHeader-4:]) || string(h[:8]) != pieceMagic:
		return 0, fmt.Errorf("header: %w", errBadPiece)
	case be.Uint16(h[8:]) != pieceVersion:
		return 0, fmt.Errorf("version %d: %w", be.Uint16(h[8:]), errOtherPiece)
	case int(be.Uint16(h[10:])) != len(name) || !bytes.HasPrefix(h[pieceFixed:], []byte(name)) || int64(be.Uint64(h[16:])) != chunk:
		return 0, fmt.Errorf("it belongs to another name: %w", errBadPiece)
	}
	length, asked := be.Uint64(h[24:]), be.Uint64(h[32:])
	switch {
	case asked != uint64(len(dst)):
		return 0, fmt.Errorf("%d bytes were asked for, want %d: %w", asked, len(dst), errOtherPiece)
	case length > asked || size != pieceHeader+int64(length):
		return 0, fmt.Errorf("%d bytes of data in %d: %w", length, size, errBadPiece)
	}
	dst = dst[:length]
	if err := readFull(f, dst, pieceHeader); err != nil {
		return 0, err
	}
	if got, want := crc32.Checksum(dst, castagnoli), be.Uint32(h[12:]); got != want {
		return 0, fmt.Errorf("checksum %08x, want %08x: %w", got, want, errBadPiece)
	}
	return len(dst), nil
}

func readFull(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return fmt.Errorf("it ends after %d bytes: %w", off+int64(n), errBadPiece)
	}
	return err
}
