package manifest

import (
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
)

// Kind says what an object in a partition's folder is by its name.
type Kind int

const (
	KindForeign Kind = iota // not ours: never touched
	KindSegment
	KindRoot
	KindNode
)

// ObjectName is a parsed name below a partition's folder.
type ObjectName struct {
	Kind     Kind
	Epoch    int32 // of a segment or a root: the leader that wrote it
	Base     int64 // of a segment
	Sequence int64 // of a root
	Name     string
	Index    bool // the .idx of a segment
}

// ParseName reads what is behind a partition's folder in a key.
func ParseName(rest string) ObjectName {
	foreign := ObjectName{}
	if stem, ok := strings.CutPrefix(rest, SegmentsDir); ok {
		n := ObjectName{Kind: KindSegment}
		if n.Name, ok = strings.CutSuffix(stem, LogSuffix); !ok {
			if n.Name, ok = strings.CutSuffix(stem, IndexSuffix); !ok {
				return foreign
			}
			n.Index = true
		}
		parts := strings.SplitN(n.Name, "-", 3)
		if len(parts) != 3 || len(parts[0]) != 20 {
			return foreign
		}
		base, err1 := strconv.ParseInt(parts[0], 10, 64)
		epoch, err2 := strconv.ParseInt(parts[1], 10, 32)
		if err1 != nil || err2 != nil || base < 0 || epoch < 0 || validNode(n.Name) != nil {
			return foreign
		}
		n.Base, n.Epoch = base, int32(epoch)
		return n
	}
	base, ok := strings.CutPrefix(rest, ManifestDir)
	if !ok {
		return foreign
	}
	if epoch, sequence, ok := ParseRootName(base); ok {
		return ObjectName{Kind: KindRoot, Epoch: epoch, Sequence: sequence, Name: strings.TrimSuffix(base, JSONSuffix)}
	}
	if name, ok := strings.CutSuffix(base, JSONSuffix); ok && strings.HasPrefix(name, "leaf-") && validNode(name) == nil {
		return ObjectName{Kind: KindNode, Name: name}
	}
	return foreign
}

// TopicFolder is the first component below topics/.
type TopicFolder struct {
	Name string
	ID   metadata.TopicID
	Dir  string // "topics/<name>.<id>/"
}

// ParseTopicKey reads the topic's folder out of a key below the cluster's prefix; rest is what is behind it.
func ParseTopicKey(key string) (f TopicFolder, rest string, ok bool) {
	below, ok := strings.CutPrefix(key, TopicsDir)
	if !ok {
		return f, "", false
	}
	folder, rest, ok := strings.Cut(below, "/")
	dot := strings.LastIndexByte(folder, '.')
	if !ok || dot < 0 {
		return f, "", false
	}
	id, err := metadata.ParseTopicID(folder[dot+1:])
	if err != nil || metadata.ValidTopicName(folder[:dot]) != nil {
		return f, "", false
	}
	return TopicFolder{Name: folder[:dot], ID: id, Dir: TopicsDir + folder + "/"}, rest, true
}

// ParsePartitionKey reads the partition out of a key below the cluster's prefix.
func ParsePartitionKey(key string) (dir string, tip metadata.TopicIDPartition, n ObjectName, ok bool) {
	f, rest, ok := ParseTopicKey(key)
	if !ok {
		return "", tip, n, false
	}
	number, rest, ok := strings.Cut(rest, "/")
	p, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil || p < 0 || strconv.FormatInt(p, 10) != number {
		return "", tip, n, false
	}
	tip = metadata.TopicIDPartition{Topic: f.ID, Partition: int32(p)}
	return f.Dir + number + "/", tip, ParseName(rest), true
}
