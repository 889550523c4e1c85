package gc

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/index"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

const (
	verifyBytes = 4 << 20        // of one GET
	scrubCycle  = 24 * time.Hour // the least time from one round of the scrub to the next
)

// VerifyOptions say what to read.
type VerifyOptions struct {
	Topic string // all without it
	Rate  int64  // bytes a second; 0 = as fast as the store
	// Repair puts bad objects of partitions that this broker leads back from the local log.
	Repair bool
}

// VerifySummary is what was read. The names are a promise to scripts.
type VerifySummary struct {
	Partitions int64 `json:"partitions"`
	Segments   int64 `json:"segments"`
	Bytes      int64 `json:"bytes"`
	Problems   int64 `json:"problems"`
	Repaired   int64 `json:"repaired"`
}

// Verify reads every byte that the manifests name, and checks it: each object's checksum, each batch's, each section
// of the indexes. report is told of what is wrong, progress now and then how far it is; both are called by the
// goroutine that called Verify. Errors are about what could not be checked; the rest was.
func (c *Collector) Verify(ctx context.Context, o VerifyOptions, report func(Problem), progress func(VerifySummary)) (VerifySummary, error) {
	var sum VerifySummary
	im, err := c.metadata.Fresh(ctx)
	if err != nil {
		return sum, err
	}
	topics, err := chosen(im, o.Topic)
	if err != nil {
		return sum, err
	}
	v := &verifier{c: c, limit: bucket.NewLimiter(o.Rate), repair: o.Repair}
	var errs []error
	for _, t := range topics {
		for n := range t.Partitions {
			tip := metadata.TopicIDPartition{Topic: t.ID, Partition: int32(n)}
			err := v.partition(ctx, t.Name, tip, 0, func(p Problem) {
				sum.Problems++
				if p.Repaired {
					sum.Repaired++
				}
				report(p)
			}, func(bytes int64) {
				sum.Segments++
				sum.Bytes += bytes
				progress(sum)
			})
			if ctx.Err() != nil {
				return sum, ctx.Err()
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s-%d: %w", t.Name, n, err))
			}
			sum.Partitions++
			progress(sum)
		}
	}
	return sum, errors.Join(errs...)
}

// chosen are the topics to be checked: those there are, and those that may still come back.
func chosen(im *metadata.Image, name string) ([]*metadata.Topic, error) {
	var out []*metadata.Topic
	for _, t := range im.Topics() {
		if name == "" || t.Name == name {
			out = append(out, t)
		}
	}
	for _, g := range im.Tombstones() {
		if (name == "" || g.Topic.Name == name) && !g.Creating && !g.Purging {
			out = append(out, &g.Topic)
		}
	}
	if name != "" && len(out) == 0 {
		return nil, fmt.Errorf("topic %q: %w", name, metadata.ErrUnknownTopic)
	}
	return out, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verifier reads segments one after another.
type verifier struct {
	c      *Collector
	limit  *rate.Limiter
	repair bool
	buf    []byte
}

// partition verifies the segments of one partition from the one that holds offset from on.
func (v *verifier) partition(ctx context.Context, topic string, tip metadata.TopicIDPartition, from int64, report func(Problem), each func(bytes int64)) error {
	man, problem, err := v.c.openFresh(ctx, topic, tip)
	if problem != nil {
		report(*problem)
	}
	if err != nil || man.Root == nil {
		return err
	}
	for e, err := range man.Walk(ctx, from, nil) {
		if err != nil {
			if p := manifestProblem(topic, tip, err); p != nil {
				report(*p)
				return nil
			}
			return err
		}
		d, err := v.entry(ctx, man.Dir, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		newer := errors.Is(err, manifest.ErrVersion)
		if err != nil && !newer && !bucket.IsDamage(err) {
			return err
		}
		if err != nil && v.c.stillNamed(ctx, tip, e) {
			p := problemOf(topic, tip, e, err)
			if v.repair && !newer {
				v.c.repair(ctx, &p, tip, *e, d)
			}
			report(p)
		}
		each(e.Bytes + e.IndexBytes)
	}
	return nil
}

// entry reads and checks both objects of a segment. What is bad is read once more: it may have happened on the way.
func (v *verifier) entry(ctx context.Context, dir string, e *manifest.Entry) (d bucket.Damage, err error) {
	var x *index.Index
	ixerr := again(func() (err error) { x, err = v.index(ctx, dir, e); return err })
	if ixerr != nil && !bucket.IsDamage(ixerr) {
		return d, ixerr
	}
	logerr := again(func() error { return v.log(ctx, dir, e, x) })
	if logerr != nil && !bucket.IsDamage(logerr) {
		return d, logerr
	}
	return bucket.Damage{Log: logerr != nil, Index: ixerr != nil}, errors.Join(logerr, ixerr)
}

func again(fn func() error) error {
	err := fn()
	if err != nil && errors.Is(err, manifest.ErrCorrupt) {
		err = fn()
	}
	return err
}

// fill reads part of an object at the rate allowed.
func (v *verifier) fill(ctx context.Context, key string, pos int64, b []byte) error {
	if _, err := bucket.Take(ctx, v.limit, int64(len(b))); err != nil {
		return err
	}
	err := v.c.bucket.Retry(ctx, func(ctx context.Context) error {
		_, err := object.ReadFull(ctx, v.c.bucket.Store, v.c.bucket.Prefix+key, pos, b)
		return err
	})
	return bucket.Failed("verify", key, err)
}

// space returns n bytes that the next call gets again.
func (v *verifier) space(n int64) []byte {
	if int64(cap(v.buf)) < n {
		v.buf = make([]byte, n)
	}
	return v.buf[:n]
}

func (v *verifier) index(ctx context.Context, dir string, e *manifest.Entry) (*index.Index, error) {
	key := manifest.SegmentKey(dir, e.Object, manifest.IndexSuffix)
	b := make([]byte, e.IndexBytes)
	if err := v.fill(ctx, key, 0, b); err != nil {
		return nil, err
	}
	if sum := crc32.Checksum(b, castagnoli); sum != uint32(e.IndexCRC32C) {
		return nil, &bucket.ObjectError{Op: "verify", Object: key, Err: fmt.Errorf("checksum %08x, want %08x: %w", sum, uint32(e.IndexCRC32C), manifest.ErrCorrupt)}
	}
	x, err := index.Decode(b)
	if err == nil {
		err = x.IsOf(e)
	}
	if err != nil {
		return nil, &bucket.ObjectError{Op: "verify", Object: key, Err: err}
	}
	return x, nil
}

// log checks the object's checksum, and, where the index says at which positions batches begin, each batch.
func (v *verifier) log(ctx context.Context, dir string, e *manifest.Entry, x *index.Index) error {
	key := manifest.SegmentKey(dir, e.Object, manifest.LogSuffix)
	cuts := []index.Cut{}
	for pos := int64(0); x == nil && pos < e.Bytes; pos += verifyBytes {
		cuts = append(cuts, index.Cut{Offset: -1, Position: pos})
	}
	if x != nil {
		cuts = x.Cuts
	}
	sum := uint32(0)
	for _, c := range index.Chunks(cuts, e.Bytes, verifyBytes) {
		b := v.space(c.Size)
		if err := v.fill(ctx, key, c.Position, b); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, b)
		if x == nil {
			continue
		}
		if err := index.CheckBatches(b, c.Offset, e.LastOffset); err != nil {
			return &bucket.ObjectError{Op: "verify", Object: key, Err: fmt.Errorf("at position %d: %w", c.Position, err)}
		}
	}
	if sum != uint32(e.CRC32C) {
		return &bucket.ObjectError{Op: "verify", Object: key, Err: fmt.Errorf("checksum %08x, want %08x: %w", sum, uint32(e.CRC32C), manifest.ErrCorrupt)}
	}
	return nil
}

// stillNamed says whether the manifest names the entry now: what retention dropped meanwhile may be gone. When it
// cannot be told it says yes.
func (c *Collector) stillNamed(ctx context.Context, tip metadata.TopicIDPartition, e *manifest.Entry) bool {
	man, err := c.o.Partitions.Current(ctx, tip, true)
	if err != nil {
		return true
	}
	if man.Root == nil {
		return false
	}
	now, err := man.Find(ctx, e.BaseOffset)
	if errors.Is(err, manifest.ErrOffsetOutOfRange) {
		return false
	}
	return err != nil || now.Object == e.Object
}

// scrubLoop verifies the partitions that this broker leads, again and again, at a low rate, and repairs what it can.
// It begins anywhere, so that a broker that restarts often gets round as well.
func (c *Collector) scrubLoop(ctx context.Context) {
	v := &verifier{c: c, limit: bucket.NewLimiter(c.o.ScrubRate), repair: true}
	for first := true; ; first = false {
		begun := time.Now()
		parts := c.o.Partitions.Led()
		rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for n, p := range parts {
			tip, from := p.TopicIDPartition(), int64(0)
			if start, last := p.Extent(); first && n == 0 && last > start && start >= 0 {
				from = start + rand.Int64N(last-start)
			}
			err := v.partition(ctx, p.Topic(), tip, from, func(p Problem) {
				c.state.bad.Add(ctx, 1)
				c.log.Error("the scrub found a bad object", "topic", p.Topic, "partition", p.Partition, "object", p.Object, "repaired", p.Repaired, "action", p.Action, "err", p.Detail)
			}, func(bytes int64) { c.state.scrubbed.Add(ctx, bytes) })
			if err != nil && ctx.Err() == nil {
				c.log.Warn("partition not verified", "topic", p.Topic(), "partition", tip.Partition, "err", err)
			}
		}
		if !bucket.Sleep(ctx, max(scrubCycle-time.Since(begun), time.Minute)) {
			return
		}
	}
}

// repair has a segment's bad objects put back by the leader, and says in the problem what became of it.
func (c *Collector) repair(ctx context.Context, problem *Problem, tip metadata.TopicIDPartition, e manifest.Entry, d bucket.Damage) {
	p := c.o.Partitions.Find(tip)
	if p == nil {
		problem.Action = "left: only the partition's leader can repair it"
		if state, ok := c.metadata.Image().PartitionByID(tip); ok && state.Leader != metadata.NoBroker {
			problem.Action += fmt.Sprintf(", broker %d", state.Leader)
		}
		return
	}
	var stem string
	err := p.Do(ctx, func(ctx context.Context, man bucket.Manifest) (next bucket.Manifest, err error) {
		stem, next, err = c.o.Partitions.Repair(ctx, p, man, e, d)
		return next, err
	})
	if err != nil {
		problem.Action = "not repaired: " + err.Error()
		return
	}
	problem.Repaired, problem.Action = true, "copied again from the local log as "+stem
	c.log.Info("segment copied again", "topic", p.Topic(), "partition", tip.Partition, "offset", e.BaseOffset, "last", e.LastOffset, "object", stem)
}
