package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/coldbrook/coldbrook/metadata"
)

// Parts of the keys of a cluster's objects, below its prefix.
const (
	TopicsDir   = "topics/"
	SegmentsDir = "segments/"
	ManifestDir = "manifest/"
	LogSuffix   = ".log"
	IndexSuffix = ".idx"
	JSONSuffix  = ".json"
	TopicFile   = "topic.json" // in a topic's folder
	maxNameLen  = 1024         // S3's limit on a key
)

// TopicDir is the folder of a topic below the cluster's prefix, with a slash at its end.
func TopicDir(name string, id metadata.TopicID) string {
	return TopicsDir + name + "." + id.String() + "/"
}

// PartitionDir is the folder of one partition, with a slash at its end.
func PartitionDir(name string, tip metadata.TopicIDPartition) string {
	return TopicDir(name, tip.Topic) + strconv.Itoa(int(tip.Partition)) + "/"
}

// NewStem names a segment's pair of objects. Every attempt gets a name of its own, so that a retry never
// overwrites what an earlier attempt may still be writing.
func NewStem(base int64, leaderEpoch int32) string {
	return fmt.Sprintf("%020d-%d-%s", base, leaderEpoch, uuid.NewString())
}

// NewNodeName names a node; like a segment's, the name is never used twice.
func NewNodeName(first int64) string {
	return fmt.Sprintf("leaf-%020d-%s", first, uuid.NewString())
}

// RootName has fixed widths so that a LIST returns roots in the order they were made.
func RootName(leaderEpoch int32, sequence int64) string {
	return fmt.Sprintf("%010d-%020d", leaderEpoch, sequence)
}

// ParseRootName is the inverse of rootName; ok is false for leaves and foreign objects.
func ParseRootName(base string) (leaderEpoch int32, sequence int64, ok bool) {
	base, hasSuffix := strings.CutSuffix(base, JSONSuffix)
	e, s, found := strings.Cut(base, "-")
	if !hasSuffix || !found || len(e) != 10 || len(s) != 20 {
		return 0, 0, false
	}
	epoch, err1 := strconv.ParseInt(e, 10, 32)
	seq, err2 := strconv.ParseInt(s, 10, 64)
	if err1 != nil || err2 != nil || epoch < 0 || seq < 0 {
		return 0, 0, false
	}
	return int32(epoch), seq, true
}

// DirOf returns the partition's folder of a root's key: readers need the pointer only, no topic name.
func DirOf(key string) (string, error) {
	i := strings.LastIndex(key, "/"+ManifestDir)
	if i < 0 || !strings.HasPrefix(key, TopicsDir) {
		return "", fmt.Errorf("manifest key %q: want topics/<topic>.<id>/<partition>/manifest/<name>: %w", key, ErrCorrupt)
	}
	return key[:i+1], nil
}

// SegmentKey resolves an entry's object stem: a bare stem lies in the partition's own folder; one with a
// slash is a path below the cluster's prefix (an object that belongs to another topic).
func SegmentKey(dir, stem, suffix string) string {
	if strings.Contains(stem, "/") {
		return stem + suffix
	}
	return dir + SegmentsDir + stem + suffix
}

// NodeKey is the key of a node or a root in a partition's folder.
func NodeKey(dir, name string) string { return dir + ManifestDir + name + JSONSuffix }

// validStem accepts what segmentKey may be given: printable ASCII without a way out of the prefix.
func validStem(s string) error {
	if s == "" || len(s) > maxNameLen-8 {
		return fmt.Errorf("object name of %d bytes: %w", len(s), ErrCorrupt)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
			return fmt.Errorf("object name %q: %w", s, ErrCorrupt)
		}
	}
	if strings.HasPrefix(s, "/") || strings.Contains(s, "..") && strings.Contains("/"+s+"/", "/../") {
		return fmt.Errorf("object name %q: %w", s, ErrCorrupt)
	}
	return nil
}

// validNode accepts the name of a node: never a path.
func validNode(s string) error {
	if strings.Contains(s, "/") {
		return fmt.Errorf("node name %q: %w", s, ErrCorrupt)
	}
	return validStem(s)
}

// OwnKeys returns the keys of an entry's two objects if they lie in the partition's own folder. Those of another
// topic are not this manifest's to delete.
func OwnKeys(dir, stem string) []string {
	keys := []string{SegmentKey(dir, stem, LogSuffix), SegmentKey(dir, stem, IndexSuffix)}
	if keys[0] != dir+SegmentsDir+stem+LogSuffix {
		return nil
	}
	return keys
}
