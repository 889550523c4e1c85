package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	// copiesAtOnce is how many objects of a topic are copied at a time.
	copiesAtOnce = 4
	// copyBlock is how much of an object is read at a time, and copyBlocks how many of those are held: more than a
	// driver's parallel parts read from.
	copyBlock  = 4 << 20
	copyBlocks = 12
)

// TopicCopy is a topic that is being taken over from a bucket.
type TopicCopy struct {
	From, To string // cluster ids
	Topic    bucket.Topic
	// ID is the topic's from now on: its own, unless that is taken.
	ID metadata.TopicID
	// Progress, when set, is told the size of each object that was copied.
	Progress func(bytes int64)
}

// EpochAbove is above all leader epochs that the partition had, so that none comes again.
func EpochAbove(r bucket.Root) int32 {
	if r.Root == nil {
		return epochMargin
	}
	return max(r.LeaderEpoch, r.HighestEpoch()) + epochMargin
}

// CopyTopic copies a topic's objects below another cluster's prefix, and makes manifests of them there, so that neither
// cluster can delete what the other one needs. It returns the new roots. A copy that was broken off leaves objects that
// no manifest names, for the collector of orphans; it is begun anew.
func CopyTopic(ctx context.Context, b *bucket.Bucket, r TopicCopy) (map[int32]bucket.Root, error) {
	file := r.Topic.TopicFile
	file.TopicID = r.ID
	text, err := file.Encode()
	if err != nil {
		return nil, err
	}
	key := r.To + "/" + manifest.TopicDir(file.Topic, r.ID) + manifest.TopicFile
	if err := b.Put(ctx, key, text, false); err != nil {
		return nil, err
	}
	out := map[int32]bucket.Root{}
	for n, root := range r.Topic.Roots {
		if out[n], err = copyPartition(ctx, b, &r, root); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func copyPartition(ctx context.Context, b *bucket.Bucket, r *TopicCopy, root bucket.Root) (bucket.Root, error) {
	tip := metadata.TopicIDPartition{Topic: r.ID, Partition: root.Partition}
	from, err := manifest.DirOf(root.Key)
	if err != nil {
		return bucket.Root{}, err
	}
	to := manifest.PartitionDir(r.Topic.Topic, tip)
	e := manifest.NewEdit(manifest.NewRoot(r.Topic.Topic, tip, root.StartOffset), nil, time.Now(), 0)
	e.Load = func(_ context.Context, ref manifest.Ref) (*manifest.Node, error) {
		return nil, fmt.Errorf("node %s is not of this copy: %w", ref.Object, manifest.ErrCorrupt)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copiesAtOnce)
	source := manifest.Tree{Root: root.Root, Load: func(ctx context.Context, ref manifest.Ref) (*manifest.Node, error) {
		body, err := b.Read(ctx, r.From+"/"+manifest.NodeKey(from, ref.Object), ref.Size)
		if err != nil {
			return nil, err
		}
		return manifest.DecodeNode(body, ref)
	}}
	for entry, err := range source.Walk(gctx, root.StartOffset, nil) {
		if err != nil {
			return bucket.Root{}, errors.Join(err, g.Wait())
		}
		copied := *entry
		copied.Object = path.Base(entry.Object)
		if err := e.Add(gctx, copied); err != nil {
			return bucket.Root{}, errors.Join(err, g.Wait())
		}
		stem := entry.Object
		g.Go(func() error { return copySegment(gctx, b, r, from, stem, to, copied) })
	}
	if err := g.Wait(); err != nil {
		return bucket.Root{}, err
	}
	for _, n := range e.Nodes {
		if err := b.Put(ctx, r.To+"/"+manifest.NodeKey(to, n.Name), n.Body, false); err != nil {
			return bucket.Root{}, err
		}
	}
	next := e.Next
	next.LeaderEpoch, next.Sequence, next.Garbage = root.LeaderEpoch, root.Sequence, nil
	next.LogStartOffset = root.LogStartOffset
	for range bucket.MaxRenames {
		body, err := next.Encode()
		if err != nil {
			return bucket.Root{}, err
		}
		key := manifest.NodeKey(to, manifest.RootName(next.LeaderEpoch, next.Sequence))
		if err = b.Put(ctx, r.To+"/"+key, body, true); err == nil {
			return bucket.Root{Root: &next, Key: key}, nil
		}
		if !errors.Is(err, object.ErrExists) {
			return bucket.Root{}, err
		}
		next.Sequence++ // of a copy that was broken off
	}
	return bucket.Root{}, fmt.Errorf("no free name for a root of %v", tip)
}

// copySegment copies both objects of an entry. The store checks each against the manifest's checksum.
func copySegment(ctx context.Context, b *bucket.Bucket, r *TopicCopy, from, stem, to string, e manifest.Entry) error {
	for _, o := range []struct {
		suffix string
		size   int64
		crc    manifest.CRC
	}{{manifest.LogSuffix, e.Bytes, e.CRC32C}, {manifest.IndexSuffix, e.IndexBytes, e.IndexCRC32C}} {
		src, dst := r.From+"/"+manifest.SegmentKey(from, stem, o.suffix), r.To+"/"+manifest.SegmentKey(to, e.Object, o.suffix)
		body := &remoteBody{ctx: ctx, store: b.Store, key: src, size: o.size, turn: make(chan struct{}, 1)}
		if _, err := b.Store.Put(ctx, dst, body, object.PutOptions{CRC32C: uint32(o.crc), HasCRC: true}); err != nil {
			return fmt.Errorf("copy %s: %w", src, bucket.Failed("write", dst, err))
		}
		if r.Progress != nil {
			r.Progress(o.size)
		}
	}
	return nil
}

// remoteBody is an object as the body of another one's PUT: it is read in blocks, of which it holds the last few. Its
// context is that of the PUT, which has no other way to it.
type remoteBody struct {
	ctx   context.Context
	store object.Store
	key   string
	size  int64
	turn  chan struct{} // of capacity 1: held by who fetches

	mu     sync.Mutex
	blocks []copiedBlock // oldest first
}

type copiedBlock struct {
	at   int64
	data []byte
}

// Size implements object.Body.
func (r *remoteBody) Size() int64 { return r.size }

// ReadAt implements object.Body.
func (r *remoteBody) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < r.size {
		block, err := r.block(off / copyBlock * copyBlock)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], block.data[off-block.at:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *remoteBody) held(at int64) (copiedBlock, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.blocks {
		if b.at == at {
			return b, true
		}
	}
	return copiedBlock{}, false
}

func (r *remoteBody) block(at int64) (copiedBlock, error) {
	if b, ok := r.held(at); ok {
		return b, nil
	}
	select {
	case r.turn <- struct{}{}:
	case <-r.ctx.Done():
		return copiedBlock{}, r.ctx.Err()
	}
	defer func() { <-r.turn }()
	if b, ok := r.held(at); ok {
		return b, nil
	}
	b := copiedBlock{at: at, data: make([]byte, min(copyBlock, r.size-at))}
	if _, err := object.ReadFull(r.ctx, r.store, r.key, at, b.data); err != nil {
		return copiedBlock{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.blocks) == copyBlocks {
		r.blocks = append(r.blocks[:0:0], r.blocks[1:]...)
	}
	r.blocks = append(r.blocks, b)
	return b, nil
}
