package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Kinds of problems.
const (
	ProblemMissing   = "missing_object"   // the manifest names it, the store does not have it
	ProblemSize      = "wrong_size"       // the store has it with another size
	ProblemChecksum  = "wrong_checksum"   // the store says another checksum than the manifest
	ProblemCorrupt   = "corrupt_object"   // its bytes are not what was committed
	ProblemOrphan    = "orphan"           // no manifest names it, and it is older than the grace period
	ProblemUpload    = "abandoned_upload" // a multipart upload that was begun longer than the grace period ago
	ProblemManifest  = "broken_manifest"  // a root or a node that cannot be read, or with gaps or overlaps
	ProblemVersion   = "newer_version"    // an object of a newer format than this release reads; never touched
	ProblemPointer   = "dangling_pointer" // the pointer in etcd names a root that is not there
	ProblemUnknown   = "unknown_topic"    // in the bucket and not in etcd: it can be recovered
	ProblemForeign   = "foreign_object"   // a name that is not ours; never touched
	maxFsckHeads     = 16                 // at a time
	fsckRepairLimits = 10_000             // orphans of one partition in one run
)

// Problem is one thing that Fsck or Verify found. The names are a promise to scripts.
type Problem struct {
	Kind      string `json:"kind"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id"`
	Partition int32  `json:"partition"` // -1: of the topic as a whole
	Object    string `json:"object,omitempty"`
	// BaseOffset and LastOffset say which records are concerned, -1 if none or not known.
	BaseOffset int64  `json:"base_offset"`
	LastOffset int64  `json:"last_offset"` // inclusive
	Size       int64  `json:"size,omitempty"`
	Want       int64  `json:"want_size,omitempty"`
	AgeMs      int64  `json:"age_ms,omitempty"` // of an orphan or an upload, by the store's clock
	Detail     string `json:"detail,omitempty"`
	Repaired   bool   `json:"repaired"`
	Action     string `json:"action,omitempty"` // what a repair did, or why it did not
}

// FsckOptions say what to look at.
type FsckOptions struct {
	Topic  string // all without it
	Repair bool
	Quick  bool // sizes by LIST alone: no HEAD for each object
}

// FsckSummary is what was looked at. The names are a promise to scripts.
type FsckSummary struct {
	Partitions int64 `json:"partitions"`
	Segments   int64 `json:"segments"`
	Bytes      int64 `json:"bytes"` // of .log objects that manifests name
	Young      int64 `json:"young"` // objects that no manifest names, younger than the grace period: uploads under way
	Problems   int64 `json:"problems"`
	Repaired   int64 `json:"repaired"`
}

// Fsck compares the bucket with the manifests and the manifests with themselves, without reading segments. It changes
// nothing unless o.Repair. report and progress are called by the goroutine that called Fsck. Errors are about what
// could not be looked at; the rest was.
func (c *Collector) Fsck(ctx context.Context, o FsckOptions, report func(Problem), progress func(FsckSummary)) (FsckSummary, error) {
	f := &fsck{c: c, o: o, now: time.Now(), progress: progress}
	f.report = func(p Problem) {
		f.sum.Problems++
		if p.Repaired {
			f.sum.Repaired++
		}
		report(p)
	}
	im, err := c.metadata.Fresh(ctx)
	if err != nil {
		return f.sum, err
	}
	topics, err := chosen(im, o.Topic)
	if err != nil {
		return f.sum, err
	}
	var errs []error
	for _, t := range topics {
		for n := range t.Partitions {
			tip := metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}
			if err := f.partition(ctx, t.Name, tip); err != nil {
				errs = append(errs, fmt.Errorf("%s-%d: %w", t.Name, n, err))
			}
			if ctx.Err() != nil {
				return f.sum, ctx.Err()
			}
			f.sum.Partitions++
			progress(f.sum)
		}
	}
	if o.Topic == "" {
		errs = append(errs, f.strays(ctx), f.uploads(ctx))
	}
	progress(f.sum)
	return f.sum, errors.Join(errs...)
}

// fsck is one run.
type fsck struct {
	c        *Collector
	o        FsckOptions
	now      time.Time
	sum      FsckSummary
	report   func(Problem)
	progress func(FsckSummary)
}

func newProblem(kind, topic string, tip metadata.TopicIDPartition, key string) Problem {
	return Problem{Kind: kind, Topic: topic, TopicID: tip.Topic.String(), Partition: tip.Partition, Object: key, BaseOffset: -1, LastOffset: -1}
}

// problemOf describes damage to a segment's objects.
func problemOf(topic string, tip metadata.TopicIDPartition, e *manifest.Entry, err error) Problem {
	p := newProblem(ProblemCorrupt, topic, tip, e.Object)
	p.BaseOffset, p.LastOffset, p.Detail = e.BaseOffset, e.LastOffset, err.Error()
	switch {
	case errors.Is(err, manifest.ErrVersion):
		p.Kind = ProblemVersion
	case errors.Is(err, manifest.ErrMissing) && !errors.Is(err, manifest.ErrCorrupt):
		p.Kind, p.Detail = ProblemMissing, ""
	}
	var oe *bucket.ObjectError
	if errors.As(err, &oe) {
		p.Object = oe.Object
	}
	return p
}

// manifestProblem describes an error of reading a manifest, nil for one of reading at all.
func manifestProblem(topic string, tip metadata.TopicIDPartition, err error) *Problem {
	if !bucket.IsDamage(err) && !errors.Is(err, manifest.ErrVersion) {
		return nil
	}
	p := newProblem(ProblemManifest, topic, tip, "")
	if p.Detail = err.Error(); errors.Is(err, manifest.ErrVersion) {
		p.Kind = ProblemVersion
	}
	var oe *bucket.ObjectError
	if errors.As(err, &oe) {
		p.Object = oe.Object
	}
	return &p
}

// openFresh reads the root that etcd names now from the store; what is wrong with it is a problem, not an error.
func (c *Collector) openFresh(ctx context.Context, topic string, tip metadata.TopicIDPartition) (bucket.Manifest, *Problem, error) {
	for {
		pointer, _, err := c.metadata.RemotePointer(ctx, tip)
		if err != nil || pointer.Manifest == "" {
			return bucket.Manifest{}, nil, err
		}
		c.bucket.Memo.Drop(pointer.Manifest)
		man, err := c.bucket.Open(ctx, tip, pointer)
		if err == nil {
			return c.bucket.Uncached(man), nil, nil
		}
		if now, _, perr := c.metadata.RemotePointer(ctx, tip); perr == nil && now != pointer {
			continue // it was replaced meanwhile
		}
		p := manifestProblem(topic, tip, err)
		if p == nil {
			return bucket.Manifest{}, nil, err
		}
		if p.Object = pointer.Manifest; errors.Is(err, manifest.ErrMissing) {
			p.Kind = ProblemPointer
		}
		p.BaseOffset, p.LastOffset = pointer.StartOffset, pointer.EndOffset-1
		return bucket.Manifest{}, p, nil
	}
}

// partition looks at one partition's folder and manifest.
func (f *fsck) partition(ctx context.Context, topic string, tip metadata.TopicIDPartition) error {
	man, problem, err := f.c.openFresh(ctx, topic, tip)
	if problem != nil {
		f.report(*problem)
		return nil
	}
	if err != nil {
		return err
	}
	if man.Root != nil {
		f.sum.Segments += man.Root.Segments
		f.sum.Bytes += man.Root.Bytes
	}
	var found []difference
	for d, err := range f.c.audit(ctx, manifest.PartitionDir(topic, tip), man) {
		if err != nil {
			if p := manifestProblem(topic, tip, err); p != nil {
				f.report(*p)
				return nil
			}
			return err
		}
		if d.kind == unnamed && f.now.Sub(d.modified) < f.c.o.Grace {
			f.sum.Young++
			continue
		}
		found = append(found, d)
	}
	bad, err := f.heads(ctx, man)
	if err != nil {
		if p := manifestProblem(topic, tip, err); p != nil {
			f.report(*p)
			return nil
		}
		return err
	}
	return f.judge(ctx, topic, tip, append(found, bad...))
}

// heads asks for the checksum of each named object, and for those that lie in other topics' folders at all.
func (f *fsck) heads(ctx context.Context, man bucket.Manifest) ([]difference, error) {
	if f.o.Quick || man.Root == nil {
		return nil, nil
	}
	results := make(chan difference, 64)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFsckHeads)
	var bad []difference
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for d := range results {
			bad = append(bad, d)
		}
	}()
	var walked error
	for e, err := range man.Entries(gctx, 0) {
		if err != nil {
			walked = err
			break
		}
		own := *e
		group.Go(func() error { return f.head(gctx, man.Dir, &own, results) })
	}
	err := group.Wait()
	close(results)
	<-collected
	return bad, errors.Join(walked, err)
}

func (f *fsck) head(ctx context.Context, dir string, e *manifest.Entry, results chan<- difference) error {
	for _, o := range []struct {
		suffix string
		size   int64
		crc    manifest.CRC
	}{{manifest.LogSuffix, e.Bytes, e.CRC32C}, {manifest.IndexSuffix, e.IndexBytes, e.IndexCRC32C}} {
		key := manifest.SegmentKey(dir, e.Object, o.suffix)
		var info object.Info
		err := f.c.bucket.Retry(ctx, func(ctx context.Context) (err error) {
			info, err = f.c.bucket.Head(ctx, key)
			return err
		})
		d := difference{key: key, entry: e, size: info.Size, want: o.size, name: manifest.ObjectName{Kind: manifest.KindSegment, Base: e.BaseOffset, Name: e.Object, Index: o.suffix == manifest.IndexSuffix}}
		others := key[:min(len(dir), len(key))] != dir // a LIST of the folder says nothing about it
		switch {
		case errors.Is(err, object.ErrNotFound):
			if d.kind = missing; others {
				results <- d
			}
		case err != nil:
			return bucket.Failed("head", key, err)
		case info.Size != o.size:
			if d.kind = wrongSize; others {
				results <- d
			}
		case info.HasCRC && info.CRC32C != uint32(o.crc):
			d.kind = wrongSum
			results <- d
		}
	}
	return nil
}

// judge looks again at what was found, reports what still holds, and repairs.
func (f *fsck) judge(ctx context.Context, topic string, tip metadata.TopicIDPartition, found []difference) error {
	if len(found) == 0 {
		return nil
	}
	man, problem, err := f.c.openFresh(ctx, topic, tip)
	if problem != nil {
		f.report(*problem)
		return nil
	}
	if err != nil {
		return err
	}
	refs, err := f.c.references(ctx, man)
	if err != nil {
		return err
	}
	var orphans []Problem
	damaged := map[string]*bucket.Damage{}
	var order []Problem
	for _, d := range found {
		there, err := refs.names(ctx, d.name)
		if err != nil {
			return err
		}
		p := newProblem("", topic, tip, d.key)
		p.Size, p.Want = d.size, d.want
		if d.name.Kind == manifest.KindSegment && d.entry == nil {
			p.BaseOffset = d.name.Base
		}
		switch {
		case d.kind == foreign:
			p.Kind = ProblemForeign
		case d.kind == unnamed && !there:
			p.Kind, p.AgeMs = ProblemOrphan, f.now.Sub(d.modified).Milliseconds()
			orphans = append(orphans, p)
			continue
		case d.kind == unnamed || !there || refs.waits(d.name) || d.kind == missing && f.present(ctx, d):
			continue // it was of the moment
		default:
			p.Kind = map[differenceKind]string{missing: ProblemMissing, wrongSize: ProblemSize, wrongSum: ProblemChecksum}[d.kind]
		}
		if d.entry == nil {
			f.report(p)
			continue
		}
		p.BaseOffset, p.LastOffset = d.entry.BaseOffset, d.entry.LastOffset
		bad := damaged[d.entry.Object]
		if bad == nil {
			bad = &bucket.Damage{}
			damaged[d.entry.Object] = bad
		}
		bad.Index = bad.Index || d.name.Index
		bad.Log = bad.Log || !d.name.Index
		order = append(order, p)
	}
	f.damaged(ctx, tip, found, damaged, order)
	f.orphans(ctx, tip, orphans)
	return nil
}

// present asks once more for an object that a LIST did not show.
func (f *fsck) present(ctx context.Context, d difference) bool {
	info, err := f.c.bucket.Head(ctx, d.key)
	return err == nil && info.Size == d.want
}

// damaged reports segments' objects, and repairs each segment once.
func (f *fsck) damaged(ctx context.Context, tip metadata.TopicIDPartition, found []difference, damaged map[string]*bucket.Damage, problems []Problem) {
	done := map[int64]Problem{}
	for _, p := range problems {
		if f.o.Repair {
			r, ok := done[p.BaseOffset]
			if !ok {
				i := slices.IndexFunc(found, func(d difference) bool { return d.key == p.Object })
				f.c.repair(ctx, &r, tip, *found[i].entry, *damaged[found[i].entry.Object])
				done[p.BaseOffset] = r
			}
			p.Repaired, p.Action = r.Repaired, r.Action
		}
		f.report(p)
	}
}
