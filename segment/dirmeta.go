package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Meta is what meta.properties says of a log directory: whose it is.
type Meta struct {
	ClusterID   string
	NodeID      metadata.BrokerID
	DirectoryID string
}

const (
	metaFile          = "meta.properties"
	metaVersion       = "1"
	partitionMetaFile = "partition.metadata"
	maxMetaFile       = 64 << 10
)

// EncodeMeta returns the bytes of meta.properties, version 1.
func EncodeMeta(m Meta) []byte {
	return fmt.Appendf(nil, "#\ncluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=%s\n", m.ClusterID, m.DirectoryID, m.NodeID, metaVersion)
}

// DecodeMeta reads a meta.properties, in any order and with whatever else Kafka
// put in, or ErrCorrupt.
func DecodeMeta(b []byte) (Meta, error) {
	m := Meta{NodeID: metadata.NoBroker}
	version := ""
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return Meta{}, fmt.Errorf("%s line %d: no '=': %w", metaFile, n+1, ErrCorrupt)
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch key {
		case "version":
			version = value
		case "cluster.id":
			m.ClusterID = value
		case "directory.id":
			m.DirectoryID = value
		case "node.id", "broker.id":
			id, err := strconv.ParseInt(value, 10, 32)
			if err != nil || id < 0 {
				return Meta{}, fmt.Errorf("%s line %d: %s %.20q: %w", metaFile, n+1, key, value, ErrCorrupt)
			}
			m.NodeID = metadata.BrokerID(id)
		}
	}
	if version != metaVersion && version != "0" {
		return Meta{}, fmt.Errorf("%s: version %.20q, want %s: %w", metaFile, version, metaVersion, ErrCorrupt)
	}
	return m, nil
}

func readMeta(fsys vfs.FS, dir string) (*Meta, error) {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, metaFile), maxMetaFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := DecodeMeta(b)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Meta returns what meta.properties says. False means that there is none yet.
func (d *Dir) Meta() (Meta, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return Meta{}, false
	}
	return *d.meta, true
}

// SetMeta writes meta.properties.
func (d *Dir) SetMeta(m Meta) error {
	if err := d.Offline(); err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(d.fs, filepath.Join(d.path, metaFile), EncodeMeta(m)); err != nil {
		return d.fail(err)
	}
	d.mu.Lock()
	d.meta = &m
	d.mu.Unlock()
	return nil
}

// encodeTopicID returns the bytes of partition.metadata.
func encodeTopicID(id metadata.TopicID) []byte {
	return fmt.Appendf(nil, "version: 0\ntopic_id: %s", id)
}

// decodeTopicID reads a partition.metadata.
func decodeTopicID(b []byte) (metadata.TopicID, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "version: 0\n")
	if ok {
		text, ok = strings.CutPrefix(text, "topic_id: ")
	}
	if !ok {
		return metadata.TopicID{}, fmt.Errorf("%s: %.60q: %w", partitionMetaFile, b, ErrCorrupt)
	}
	id, err := metadata.ParseTopicID(text)
	if err != nil {
		return metadata.TopicID{}, fmt.Errorf("%s: %w: %w", partitionMetaFile, ErrCorrupt, err)
	}
	return id, nil
}

// readTopicID reads the partition.metadata in dir; none is the zero id.
func readTopicID(fsys vfs.FS, dir string) (metadata.TopicID, error) {
	name := filepath.Join(dir, partitionMetaFile)
	b, err := vfs.ReadFile(fsys, name, maxMetaFile)
	if errors.Is(err, fs.ErrNotExist) {
		return metadata.TopicID{}, nil
	}
	if err != nil {
		return metadata.TopicID{}, err
	}
	id, err := decodeTopicID(b)
	if err != nil {
		return metadata.TopicID{}, fmt.Errorf("%s: %w", name, err)
	}
	return id, nil
}

// dirKind is what the name of an entry of a log directory says it is.
type dirKind int8

const (
	otherEntry dirKind = iota
	partitionDir
	deletedDir
)

const (
	deletedDirSuffix = "-delete"
	strayDirSuffix   = "-stray" // LogManager.StrayDirSuffix; a start leaves them alone
)

// parseDirName reads "<topic>-<partition>", and knows the names of deleted
// partitions, "<topic>-<partition>.<uuid>-delete".
func parseDirName(name string) (metadata.TopicPartition, dirKind) {
	if strings.HasSuffix(name, deletedDirSuffix) {
		if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i == 1+32+len(deletedDirSuffix) {
			return metadata.TopicPartition{}, deletedDir
		}
	}
	i := strings.LastIndexByte(name, '-')
	if i <= 0 {
		return metadata.TopicPartition{}, otherEntry
	}
	partition, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || partition < 0 || strconv.FormatInt(partition, 10) != name[i+1:] || metadata.ValidTopicName(name[:i]) != nil {
		return metadata.TopicPartition{}, otherEntry
	}
	return metadata.TopicPartition{Topic: name[:i], Partition: int32(partition)}, partitionDir
}

// besideName returns the name that a partition's directory gets when it is deleted
// or put aside. It shortens the topic, as Kafka does, so that it fits 255 bytes.
func besideName(tp metadata.TopicPartition, unique, suffix string) string {
	suffix = fmt.Sprintf("-%d.%s%s", tp.Partition, unique, suffix)
	return tp.Topic[:min(len(tp.Topic), 255-len(suffix))] + suffix
}
