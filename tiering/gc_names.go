package tiering

import (
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
)

// nameKind says what an object in a partition's folder is by its name.
type nameKind int

const (
	nameForeign nameKind = iota // not ours: never touched
	nameSegment
	nameRoot
	nameNode
)

// objectName is a parsed name below a partition's folder.
type objectName struct {
	kind     nameKind
	epoch    int32 // of a segment or a root: the leader that wrote it
	base     int64 // of a segment
	sequence int64 // of a root
	name     string
	index    bool // the .idx of a segment
}

// parseName reads what is behind a partition's folder in a key.
func parseName(rest string) objectName {
	foreign := objectName{}
	if stem, ok := strings.CutPrefix(rest, segmentsDir); ok {
		n := objectName{kind: nameSegment}
		if n.name, ok = strings.CutSuffix(stem, logSuffix); !ok {
			if n.name, ok = strings.CutSuffix(stem, indexSuffix); !ok {
				return foreign
			}
			n.index = true
		}
		parts := strings.SplitN(n.name, "-", 3)
		if len(parts) != 3 || len(parts[0]) != 20 {
			return foreign
		}
		base, err1 := strconv.ParseInt(parts[0], 10, 64)
		epoch, err2 := strconv.ParseInt(parts[1], 10, 32)
		if err1 != nil || err2 != nil || base < 0 || epoch < 0 || validNode(n.name) != nil {
			return foreign
		}
		n.base, n.epoch = base, int32(epoch)
		return n
	}
	base, ok := strings.CutPrefix(rest, manifestDir)
	if !ok {
		return foreign
	}
	if epoch, sequence, ok := parseRootName(base); ok {
		return objectName{kind: nameRoot, epoch: epoch, sequence: sequence, name: strings.TrimSuffix(base, jsonSuffix)}
	}
	if name, ok := strings.CutSuffix(base, jsonSuffix); ok && strings.HasPrefix(name, "leaf-") && validNode(name) == nil {
		return objectName{kind: nameNode, name: name}
	}
	return foreign
}

// topicFolder is the first component below topics/.
type topicFolder struct {
	name string
	id   metadata.TopicID
	dir  string // "topics/<name>.<id>/"
}

// parseTopicKey reads the topic's folder out of a key below the cluster's prefix; rest is what is behind it.
func parseTopicKey(key string) (f topicFolder, rest string, ok bool) {
	below, ok := strings.CutPrefix(key, topicsDir)
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
	return topicFolder{name: folder[:dot], id: id, dir: topicsDir + folder + "/"}, rest, true
}

// parsePartitionKey reads the partition out of a key below the cluster's prefix.
func parsePartitionKey(key string) (dir string, tip metadata.TopicIDPartition, n objectName, ok bool) {
	f, rest, ok := parseTopicKey(key)
	if !ok {
		return "", tip, n, false
	}
	number, rest, ok := strings.Cut(rest, "/")
	p, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil || p < 0 || strconv.FormatInt(p, 10) != number {
		return "", tip, n, false
	}
	tip = metadata.TopicIDPartition{Topic: f.id, Partition: int32(p)}
	return f.dir + number + "/", tip, parseName(rest), true
}
