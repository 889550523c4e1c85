package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeOptions are the flags of consume.
type consumeOptions struct {
	from, to    string
	follow      bool
	group       string
	partitions  []int32
	max         int64
	format      string
	uncommitted bool
	fromPos     position
	toPos       position
}

func (a *app) consumeCommand() *cobra.Command {
	var o consumeOptions
	c := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read records of a topic, old or new, to standard output",
		Long: `Read records of a topic to standard output.

Without --follow it reads what is there when it starts and ends. Positions (--from, --to) are
beginning, end, an offset, a time as 2026-11-22T19:30:00Z, or how long ago as -90m; --to is where it
stops, before that offset or the first record of that time.

A line is a value; --format says otherwise with %t topic, %p partition, %o offset, %d timestamp in
milliseconds, %k key, %v value, %h{%k=%v } headers, \n and \t. -o json prints an object a line; keys
and values that are not UTF-8 come in base64 as key_base64 and value_base64.`,
		Example: `  coldbrook consume events
  coldbrook consume events --from -1h --follow
  coldbrook consume events --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z -o json
  coldbrook consume events --group billing --format '%p:%o %k=%v\n'`,
		Args:              exactly("TOPIC"),
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			print, err := a.recordPrinter(o.format)
			if err != nil {
				return err
			}
			return a.consume(cmd.Context(), args[0], o, print)
		},
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "beginning", "`position` to start at; with --group only where the group has not committed")
	f.StringVar(&o.to, "to", "end", "`position` to stop at")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with new records")
	f.StringVarP(&o.group, "group", "g", "", "`name` of a consumer group to join; what was printed is committed")
	f.Int32SliceVarP(&o.partitions, "partition", "p", nil, "`numbers` of the partitions to read; all without it")
	f.Int64VarP(&o.max, "max", "n", 0, "stop after this `many` records")
	f.StringVar(&o.format, "format", "", "`layout` of a record")
	f.BoolVar(&o.uncommitted, "uncommitted", false, "also records of open and aborted transactions")
	return a.client(c)
}

func (o *consumeOptions) check() error {
	now := time.Now()
	var err error
	if o.fromPos, err = parsePosition("from", o.from, now); err != nil {
		return err
	}
	if o.toPos, err = parsePosition("to", o.to, now); err != nil {
		return err
	}
	switch {
	case o.follow && o.to != "end":
		return usagef("--follow has no end: leave out --to")
	case o.toPos.kind == atBeginning:
		return usagef("--to %s: nothing is before it", o.to)
	case o.group != "" && len(o.partitions) > 0:
		return usagef("--group shares partitions out by itself: leave out --partition")
	case o.max < 0:
		return usagef("--max %d: want 0 or more", o.max)
	}
	return nil
}

// extent is the part of one partition that is to be read.
type extent struct{ from, to int64 } // to is exclusive

// reader is one run of consume.
type reader struct {
	o     consumeOptions
	topic string

	mu   sync.Mutex
	left map[int32]extent // partitions that are not read to their end; unused with --follow
	mine map[int32]bool   // with a group: what it gave us
	got  bool             // with a group: it gave us something at least once
}

func (a *app) consume(ctx context.Context, topic string, o consumeOptions, print func(*bufio.Writer, *kgo.Record) error) error {
	ctl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer ctl.Close()
	adm := kadm.NewClient(ctl)
	r := &reader{o: o, topic: topic, mine: map[int32]bool{}}
	total, err := r.plan(ctx, adm)
	if err != nil {
		return err
	}
	if !o.follow && len(r.left) == 0 {
		a.note("nothing to read: %s has no records there", topic)
		return nil
	}
	cl, err := a.connect(ctx, r.clientOptions()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	n, bytes, begun := int64(0), int64(0), time.Now()
	out := bufio.NewWriterSize(a.out, 256<<10)
	bar := a.progress("reading", total, func(n int64) string { return strconv.FormatInt(n, 10) })
	if a.outTerminal || o.follow {
		bar.w = nil // it would be drawn into the records
	}
	err = r.loop(ctx, cl, adm, func(rec *kgo.Record) error {
		n++
		bytes += int64(len(rec.Key) + len(rec.Value))
		bar.at(n)
		return print(out, rec)
	}, out.Flush)
	bar.done()
	err = errors.Join(err, out.Flush())
	if o.group != "" {
		err = errors.Join(err, leave(ctx, cl))
	}
	if ctx.Err() != nil && o.follow {
		err = nil // Ctrl-C is how --follow ends
	}
	took := time.Since(begun)
	if n > 0 && !a.outTerminal || o.group != "" {
		a.note("read %s, %s in %s (%.0f records/s)", count(n, "record"), size(bytes), span(took), float64(n)/max(took.Seconds(), 1e-9))
	}
	return err
}

// leave commits what was printed and leaves the group, even after Ctrl-C.
func leave(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reachTimeout)
	defer cancel()
	err := cl.CommitMarkedOffsets(ctx)
	if err != nil {
		err = fmt.Errorf("commit offsets: %w", err)
	}
	return errors.Join(err, cl.LeaveGroupContext(ctx))
}

// plan finds out what there is to read, and how many offsets that is.
func (r *reader) plan(ctx context.Context, adm *kadm.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	from, err := offsetsOf(ctx, adm, r.o.fromPos, r.topic)
	if err != nil {
		return 0, err
	}
	starts, err := offsetsOf(ctx, adm, position{kind: atBeginning}, r.topic)
	if err != nil {
		return 0, err
	}
	ends, err := offsetsOf(ctx, adm, position{kind: atEnd, uncommitted: r.o.uncommitted}, r.topic)
	if err != nil {
		return 0, err
	}
	to := ends
	if r.o.toPos.kind != atEnd {
		if to, err = offsetsOf(ctx, adm, r.o.toPos, r.topic); err != nil {
			return 0, err
		}
	}
	if r.o.group != "" {
		committed, err := adm.FetchOffsetsForTopics(ctx, r.o.group, r.topic)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return 0, fmt.Errorf("offsets of group %s: %w", r.o.group, err)
		}
		for p := range from[r.topic] {
			if c, ok := committed.Lookup(r.topic, p); ok && c.Err == nil && c.At >= 0 {
				from[r.topic][p] = c.At
			}
		}
	}
	for _, p := range r.o.partitions {
		if _, ok := ends[r.topic][p]; !ok {
			return 0, fmt.Errorf("%s has no partition %d", r.topic, p)
		}
	}
	r.left = map[int32]extent{}
	var total int64
	for p, end := range ends[r.topic] {
		if len(r.o.partitions) > 0 && !slices.Contains(r.o.partitions, p) {
			continue
		}
		e := extent{from: min(max(from[r.topic][p], starts[r.topic][p]), end), to: min(to[r.topic][p], end)}
		if r.o.follow || e.from < e.to {
			r.left[p] = e
			total += e.to - e.from
		}
	}
	return total, nil
}

func (r *reader) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{kgo.FetchMaxWait(500 * time.Millisecond), kgo.FetchMaxPartitionBytes(4 << 20),
		// Markers of transactions have offsets too: without them we would wait for ever for an end that is one.
		kgo.KeepControlRecords()}
	if !r.o.uncommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if r.o.group != "" {
		reset := kgo.NewOffset().AtStart()
		switch r.o.fromPos.kind {
		case atEnd:
			reset = kgo.NewOffset().AtEnd()
		case atOffset:
			reset = kgo.NewOffset().At(r.o.fromPos.offset)
		case atTime:
			reset = kgo.NewOffset().AfterMilli(r.o.fromPos.at.UnixMilli())
		}
		return append(opts, kgo.ConsumerGroup(r.o.group), kgo.ConsumeTopics(r.topic), kgo.ConsumeResetOffset(reset), kgo.AutoCommitMarks(),
			kgo.OnPartitionsAssigned(r.assigned), kgo.OnPartitionsRevoked(r.revoked), kgo.OnPartitionsLost(r.lost))
	}
	at := map[int32]kgo.Offset{}
	for p, e := range r.left {
		at[p] = kgo.NewOffset().At(e.from)
	}
	return append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: at}))
}

func (r *reader) assigned(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = true
	for _, p := range got[r.topic] {
		r.mine[p] = true
	}
}

func (r *reader) revoked(ctx context.Context, cl *kgo.Client, gone map[string][]int32) {
	_ = cl.CommitMarkedOffsets(ctx) // not committed is read again by whoever has them next
	r.lost(ctx, cl, gone)
}

func (r *reader) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range gone[r.topic] {
		delete(r.mine, p)
	}
}

// finished reports whether everything that is ours has been read.
func (r *reader) finished() bool {
	if r.o.follow {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.group == "" {
		return len(r.left) == 0
	}
	for p := range r.left {
		if r.mine[p] {
			return false
		}
	}
	return r.got
}

// take notes that a record was seen and reports whether it lies in what is to be read.
func (r *reader) take(rec *kgo.Record) bool {
	if r.o.follow {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.left[rec.Partition]
	if !ok {
		return false // past its end
	}
	if rec.Offset+1 >= e.to {
		delete(r.left, rec.Partition)
	}
	return rec.Offset < e.to
}

const idlePoll = 3 * time.Second

// loop polls until everything is read. flush is called whenever there is nothing to print.
func (r *reader) loop(ctx context.Context, cl *kgo.Client, adm *kadm.Client, print func(*kgo.Record) error, flush func() error) error {
	var n int64
	for !r.finished() {
		poll, cancel := context.WithTimeout(ctx, idlePoll)
		fetches := cl.PollRecords(poll, 10_000)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, fe := range fetches.Errors() {
			if !errors.Is(fe.Err, context.DeadlineExceeded) {
				return fmt.Errorf("read %s-%d: %w", fe.Topic, fe.Partition, fe.Err)
			}
		}
		it := fetches.RecordIter()
		for !it.Done() {
			rec := it.Next()
			if !r.take(rec) {
				continue
			}
			if !rec.Attrs.IsControl() {
				if err := print(rec); err != nil {
					return err
				}
				n++
			}
			if r.o.group != "" {
				cl.MarkCommitRecords(rec)
			}
			if r.o.max > 0 && n == r.o.max {
				return nil
			}
		}
		if err := flush(); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 && !r.o.follow {
			if err := r.skipGone(ctx, adm); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipGone gives up partitions whose rest was deleted while we read.
func (r *reader) skipGone(ctx context.Context, adm *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	starts, err := offsetsOf(ctx, adm, position{kind: atBeginning}, r.topic)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, e := range r.left {
		if start, ok := starts[r.topic][p]; ok && start >= e.to {
			delete(r.left, p)
		}
	}
	return nil
}
