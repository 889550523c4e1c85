package record

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Pools of writers, one for each codec: their tables are large.
var (
	gzipWriters   = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	lz4Writers    = sync.Pool{New: newLZ4Writer}
	zstdWriters   = sync.Pool{New: newZstdWriter}
	snappyWriters = sync.Pool{New: func() any { return new(xerialWriter) }}
)

// newLZ4Writer makes what Kafka makes: 64 KiB blocks, independent, no checksum of
// the content.
func newLZ4Writer() any {
	w := lz4.NewWriter(io.Discard)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1)); err != nil {
		panic(fmt.Sprintf("record: lz4 options: %v", err))
	}
	return w
}

// newZstdWriter bounds the window, and with it what a reader must allocate.
func newZstdWriter() any {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(fmt.Sprintf("record: zstd options: %v", err))
	}
	return w
}

// compressor is a writer of one codec, from a pool.
type compressor struct {
	io.WriteCloser
	pool *sync.Pool
}

func newCompressor(c Compression, out io.Writer) compressor {
	switch c {
	case Gzip:
		w := gzipWriters.Get().(*gzip.Writer)
		w.Reset(out)
		return compressor{w, &gzipWriters}
	case LZ4:
		w := lz4Writers.Get().(*lz4.Writer)
		w.Reset(out)
		return compressor{w, &lz4Writers}
	case Zstd:
		w := zstdWriters.Get().(*zstd.Encoder)
		w.Reset(out)
		return compressor{w, &zstdWriters}
	case Snappy:
		w := snappyWriters.Get().(*xerialWriter)
		w.reset(out)
		return compressor{w, &snappyWriters}
	}
	return compressor{plainWriter{out}, nil}
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// finish ends the stream and gives the writer back.
func (c compressor) finish() error {
	err := c.Close()
	if c.pool != nil && err == nil {
		c.pool.Put(c.WriteCloser)
	}
	return err
}

// Compress appends data, compressed as Kafka's clients expect it, to dst.
func Compress(dst []byte, c Compression, data []byte) ([]byte, error) {
	if !c.Known() {
		return dst, fmt.Errorf("compress: unknown %v", c)
	}
	if c == None {
		return append(dst, data...), nil
	}
	out := bytes.NewBuffer(dst)
	w := newCompressor(c, out)
	if _, err := w.Write(data); err != nil {
		return dst, fmt.Errorf("compress %v: %w", c, err)
	}
	if err := w.finish(); err != nil {
		return dst, fmt.Errorf("compress %v: %w", c, err)
	}
	return out.Bytes(), nil
}

// Decompress appends what payload, compressed by c, decompresses to; d nil
// stands for one with the default limit.
func Decompress(dst []byte, c Compression, payload []byte, d *Decompressor) ([]byte, error) {
	if c == None {
		return append(dst, payload...), nil
	}
	if d == nil {
		d = decompressors.Get().(*Decompressor)
		defer decompressors.Put(d)
	}
	if err := d.open(c, payload, 0); err != nil {
		return dst, err
	}
	defer d.close()
	for {
		err := d.fill()
		dst = append(dst, d.buf...)
		d.buf = d.buf[:0]
		if err == io.EOF {
			return dst, d.end()
		}
		if err != nil {
			return dst, err
		}
	}
}

// copyRecords writes the records of b, decompressed, to w.
func copyRecords(w io.Writer, b Batch, maxDecompressed int64) error {
	if b.Compression() == None || len(b.Records()) == 0 {
		_, err := w.Write(b.Records())
		return err
	}
	d := decompressors.Get().(*Decompressor)
	defer decompressors.Put(d)
	if err := d.open(b.Compression(), b.Records(), maxDecompressed); err != nil {
		return err
	}
	defer d.close()
	for {
		err := d.fill()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(d.buf); err != nil {
			return err
		}
		d.buf = d.buf[:0]
	}
}
