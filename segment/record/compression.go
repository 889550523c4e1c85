package record

import (
	"fmt"
	"strings"
)

// Compression is a codec, as the attributes of a batch name it.
type Compression int8

// The codecs.
const (
	None   Compression = 0
	Gzip   Compression = 1
	Snappy Compression = 2
	LZ4    Compression = 3
	Zstd   Compression = 4
)

var compressionNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String returns the name used in compression.type.
func (c Compression) String() string {
	if c.Known() {
		return compressionNames[c]
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// Known reports whether there is such a codec.
func (c Compression) Known() bool { return c >= 0 && int(c) < len(compressionNames) }

// ParseCompression reads a name: none (or uncompressed), gzip, snappy, lz4, zstd.
func ParseCompression(name string) (Compression, error) {
	name = strings.ToLower(name)
	for i, n := range compressionNames {
		if n == name {
			return Compression(i), nil
		}
	}
	if name == "uncompressed" {
		return None, nil
	}
	return None, fmt.Errorf("compression %q: want none, gzip, snappy, lz4 or zstd", name)
}

// Target is the codec in which a topic stores batches: its compression.type. The
// zero value keeps what the producer chose.
type Target int8

// TargetProducer keeps the codec of the producer.
const TargetProducer Target = 0

// Target returns the target that stores batches in c.
func (c Compression) Target() Target { return Target(c) + 1 }

// ParseTarget reads a compression.type: producer, or a name of ParseCompression.
func ParseTarget(name string) (Target, error) {
	if strings.EqualFold(name, "producer") {
		return TargetProducer, nil
	}
	c, err := ParseCompression(name)
	return c.Target(), err
}

// String returns the name used in compression.type.
func (t Target) String() string {
	if t == TargetProducer {
		return "producer"
	}
	return Compression(t - 1).String()
}

// of returns the codec in which a batch that came with c is stored.
func (t Target) of(c Compression) Compression {
	if t == TargetProducer {
		return c
	}
	return Compression(t - 1)
}
