package bucket

import (
	"context"
	"hash/crc32"
	"iter"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// Options say how a cluster's part of a bucket is used.
type Options struct {
	Stall              time.Duration // an attempt that takes longer is given up
	RetryMin, RetryMax time.Duration // bound the pause after a failure, which doubles
	Memo               *Memo         // keeps what was decoded
	// Deleted, when set, is told of each request that deletes objects.
	Deleted func(ctx context.Context, objects int, err error)
}

// Cluster is one cluster's part of a bucket: objects by their keys below the cluster's prefix. What a store may do
// better the next time is tried again.
type Cluster struct {
	Store  object.Store
	Reads  object.Store // Store for readers, who ask again and again for what is missing
	Prefix string       // "<cluster-id>/"
	Memo   *Memo
	o      Options
}

// NewCluster makes the part of a bucket that a cluster has.
func NewCluster(store object.Store, clusterID string, o Options) *Cluster {
	return &Cluster{Store: store, Reads: object.WithoutRepeats(store), Prefix: clusterID + "/", Memo: o.Memo, o: o}
}

// GetAll reads an object of at most limit bytes. An object that is gone is ErrMissing.
func (c *Cluster) GetAll(ctx context.Context, key string, limit int64) ([]byte, error) {
	var b []byte
	err := c.Retry(ctx, func(ctx context.Context) (err error) {
		b, err = object.ReadAll(ctx, c.Reads, c.Prefix+key, limit)
		return err
	})
	return b, Failed("read", key, err)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC32C that a store is told with a PUT.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

const (
	// DeleteBatch is how many keys one Delete has.
	DeleteBatch = 500
	// MaxRenames bounds the search for a root's free name. Only attempts of this leader epoch can be in the way.
	MaxRenames = 1000
)

// List yields the objects whose keys begin with dir, in the order of keys, each with its key below the prefix.
func (c *Cluster) List(ctx context.Context, dir string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		for info, err := range c.Store.List(ctx, c.Prefix+dir, "") {
			if err != nil {
				yield(object.Info{}, Failed("list", dir, err))
				return
			}
			info.Key = info.Key[len(c.Prefix):]
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Head asks for an object once. Its error is the store's.
func (c *Cluster) Head(ctx context.Context, key string) (object.Info, error) {
	return c.Store.Head(ctx, c.Prefix+key)
}

// Remove deletes keys below the cluster's prefix.
func (c *Cluster) Remove(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), DeleteBatch)
		full := make([]string, n)
		for i, k := range keys[:n] {
			full[i] = c.Prefix + k
			c.Memo.Drop(k)
		}
		err := c.Retry(ctx, func(ctx context.Context) error { return c.Store.Delete(ctx, full...) })
		if c.o.Deleted != nil {
			c.o.Deleted(ctx, n, err)
		}
		if err != nil {
			return Failed("delete", keys[0], err)
		}
		keys = keys[n:]
	}
	return nil
}
