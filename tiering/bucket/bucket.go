package bucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Bucket reads what clusters have left in an object store. It needs neither etcd nor a broker.
type Bucket struct {
	Store object.Store
	log   *slog.Logger
}

// New makes a Bucket of a store, which the caller closes. The logger may be nil.
func New(store object.Store, log *slog.Logger) *Bucket {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Bucket{Store: store, log: log}
}

// Topic is a topic as its own objects tell it.
type Topic struct {
	TopicFile
	Modified time.Time // when topic.json was written
	// Partitions has a root for each partition that has a readable one.
	Roots map[int32]Root
	// Problems say what could not be read.
	Problems []error
}

// Root is the head of a partition's newest readable manifest.
type Root struct {
	*manifest.Root
	Key string // below the cluster's prefix
}

// Pointer is what etcd had for this root.
func (r Root) Pointer() metadata.RemotePointer {
	return metadata.RemotePointer{
		Manifest: r.Key, Sequence: r.Sequence, LeaderEpoch: r.LeaderEpoch, StartOffset: r.StartOffset, EndOffset: r.EndOffset,
	}
}

// bucketReads is how many topics are looked at at a time.
const bucketReads = 16

// Read reads an object of at most limit bytes by its whole key.
func (b *Bucket) Read(ctx context.Context, key string, limit int64) ([]byte, error) {
	body, err := object.ReadAll(ctx, b.Store, key, limit)
	return body, Failed("read", key, err)
}

// folders yields the names directly below a prefix that ends with a slash, those of folders without theirs. It asks
// one LIST for each, so that it need not go through all that is in them.
func (b *Bucket) folders(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after := ""
		for {
			name := ""
			for info, err := range b.Store.List(ctx, prefix, after) {
				if err != nil {
					yield("", Failed("list", prefix, err))
					return
				}
				name = info.Key[len(prefix):]
				break
			}
			if name == "" {
				return
			}
			folder, _, is := strings.Cut(name, "/")
			if !yield(folder, nil) {
				return
			}
			if after = prefix + folder; is {
				after += "0" // the byte after the slash: behind all that is in the folder
			}
		}
	}
}

// Clusters returns the ids of the clusters that have something in the bucket.
func (b *Bucket) Clusters(ctx context.Context) ([]string, error) {
	var out []string
	for id, err := range b.folders(ctx, "") {
		if err != nil {
			return nil, err
		}
		for _, dir := range []string{clusterDir, manifest.TopicsDir} {
			any, err := b.any(ctx, id+"/"+dir)
			if err != nil {
				return nil, err
			}
			if any {
				out = append(out, id)
				break
			}
		}
	}
	return out, nil
}

func (b *Bucket) any(ctx context.Context, prefix string) (bool, error) {
	for _, err := range b.Store.List(ctx, prefix, "") {
		return err == nil, Failed("list", prefix, err)
	}
	return false, nil
}

// Topics returns the topics of a cluster that have objects, by name and id, deleted ones whose objects are still
// there too: only a snapshot knows them.
func (b *Bucket) Topics(ctx context.Context, clusterID string) ([]Topic, error) {
	var mu sync.Mutex
	var out []Topic
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(bucketReads)
	for folder, err := range b.folders(ctx, clusterID+"/"+manifest.TopicsDir) {
		if err != nil {
			return nil, errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			t, err := b.topic(gctx, clusterID, folder)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, t)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(x, y Topic) int {
		if c := strings.Compare(x.Topic, y.Topic); c != 0 {
			return c
		}
		return x.TopicID.Compare(y.TopicID)
	})
	return out, nil
}

// TopicsNamed returns those of a name.
func (b *Bucket) TopicsNamed(ctx context.Context, clusterID, name string) ([]Topic, error) {
	var out []Topic
	dir := clusterID + "/" + manifest.TopicsDir
	for info, err := range b.folders(ctx, dir) {
		if err != nil {
			return nil, err
		}
		if n, _, ok := parseTopicFolder(info); !ok || n != name {
			continue
		}
		t, err := b.topic(ctx, clusterID, info)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// parseTopicFolder reads "<topic>.<id>".
func parseTopicFolder(folder string) (string, metadata.TopicID, bool) {
	dot := strings.LastIndexByte(folder, '.')
	if dot < 0 {
		return "", metadata.TopicID{}, false
	}
	id, err := metadata.ParseTopicID(folder[dot+1:])
	return folder[:dot], id, err == nil && metadata.ValidTopicName(folder[:dot]) == nil
}

// topic reads topic.json and the roots. What is unreadable is one of its problems.
func (b *Bucket) topic(ctx context.Context, clusterID, folder string) (Topic, error) {
	t := Topic{Roots: map[int32]Root{}}
	prefix := clusterID + "/"
	dir := manifest.TopicsDir + folder + "/"
	name, id, ok := parseTopicFolder(folder)
	if !ok {
		t.Problems = append(t.Problems, &ObjectError{Op: "read topic", Object: prefix + dir, Err: errors.New("not a topic's folder")})
		return t, nil
	}
	t.Topic, t.TopicID = name, id
	if err := b.topicFile(ctx, prefix, dir, &t); err != nil {
		return t, err
	}
	for number, err := range b.folders(ctx, prefix+dir) {
		if err != nil {
			return t, err
		}
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 0 || n >= metadata.MaxPartitionsPerTopic {
			continue // topic.json, or foreign
		}
		root, bad, err := b.newestRoot(ctx, prefix, dir+number+"/"+manifest.ManifestDir, metadata.TopicIDPartition{Topic: id, Partition: int32(n)})
		if err != nil {
			return t, err
		}
		t.Problems = append(t.Problems, bad...)
		if root.Root != nil {
			t.Roots[int32(n)] = root
			t.Partitions = max(t.Partitions, int(n)+1)
		}
	}
	return t, nil
}

func (b *Bucket) topicFile(ctx context.Context, prefix, dir string, t *Topic) error {
	key := prefix + dir + manifest.TopicFile
	info, err := b.Store.Head(ctx, key)
	var body []byte
	if err == nil {
		t.Modified = info.Modified
		body, err = b.Read(ctx, key, MaxTopicBytes)
	}
	err = Failed("read", key, err)
	if err == nil {
		var f *TopicFile
		if f, err = DecodeTopicFile(body); err == nil && (f.Topic != t.Topic || f.TopicID != t.TopicID) {
			err = fmt.Errorf("it is of topic %s with id %s: %w", f.Topic, f.TopicID, manifest.ErrCorrupt)
		}
		if err == nil {
			t.TopicFile = *f
			return nil
		}
		err = &ObjectError{Op: "read topic", Object: key, Err: err}
	}
	if !IsDamage(err) {
		return err
	}
	t.Problems = append(t.Problems, err)
	return nil
}

// newestRoot returns the root of the highest leader epoch and, of that, of the highest sequence, that can be read,
// and what is wrong with newer ones. Names sort that way; leaves come behind roots.
func (b *Bucket) newestRoot(ctx context.Context, prefix, dir string, tip metadata.TopicIDPartition) (Root, []error, error) {
	var keys []string
	for info, err := range b.Store.List(ctx, prefix+dir, "") {
		if err != nil {
			return Root{}, nil, Failed("list", prefix+dir, err)
		}
		if base := path.Base(info.Key); strings.HasPrefix(base, "leaf-") {
			break
		} else if _, _, ok := manifest.ParseRootName(base); ok {
			keys = append(keys, info.Key[len(prefix):])
		}
	}
	var bad []error
	for _, key := range slices.Backward(keys) {
		body, err := b.Read(ctx, prefix+key, manifest.MaxRootBytes)
		if err == nil {
			var r *manifest.Root
			if r, err = manifest.DecodeRoot(body); err == nil && (r.TopicID != tip.Topic || r.Partition != tip.Partition || path.Base(key) != manifest.RootName(r.LeaderEpoch, r.Sequence)+manifest.JSONSuffix) {
				err = fmt.Errorf("it is root %d of epoch %d of %v-%d: %w", r.Sequence, r.LeaderEpoch, r.TopicID, r.Partition, manifest.ErrCorrupt)
			}
			if err == nil {
				return Root{Root: r, Key: key}, bad, nil
			}
			err = &ObjectError{Op: "read manifest", Object: prefix + key, Err: err}
		}
		if !IsDamage(err) {
			return Root{}, bad, err
		}
		b.log.Warn("manifest unreadable, taking the one before it", "object", prefix+key, "err", err)
		bad = append(bad, err)
	}
	return Root{}, bad, nil
}

// Bytes is how much a CopyTopic copies.
func (t *Topic) Bytes() (n int64) {
	for _, r := range t.Roots {
		n += r.Bytes
	}
	return n
}

// Put writes a small object under its whole key.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	_, err := b.Store.Put(ctx, key, object.Bytes(body), object.PutOptions{IfAbsent: ifAbsent, CRC32C: Checksum(body), HasCRC: true})
	return Failed("write", key, err)
}
