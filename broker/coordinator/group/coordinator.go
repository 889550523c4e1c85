package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/coldbrook/coldbrook/broker/coordinator"
	"github.com/coldbrook/coldbrook/segment/record"
)

// Coordinator coordinates the groups of the __consumer_offsets partitions this
// broker leads. Safe for concurrent use.
type Coordinator struct {
	o       Options
	log     *slog.Logger
	rt      *coordinator.Runtime[*shard]
	metrics *metrics
	memory  *memory
}

// Client says who sends a request; DescribeGroups shows it.
type Client struct {
	ID   string
	Host string // an address without port
}

// kafkaHost is the host as Java's InetAddress prints it, which is what Kafka
// stores and its tools expect.
func (c Client) kafkaHost() string {
	if strings.Contains(c.Host, "/") {
		return c.Host
	}
	return "/" + c.Host
}

// New makes a Coordinator that leads no partition; it starts no goroutine.
func New(o Options) (*Coordinator, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Meter)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{o: o, log: o.Logger, metrics: m, memory: &memory{limit: o.Config.MemberBytes, log: o.Logger}}
	c.rt, err = coordinator.New(coordinator.Options[*shard]{
		Name:          "group",
		Log:           o.Log,
		NewMachine:    func(p *coordinator.Partition) *shard { return newShard(&c.o, c.log, m, c.memory, p) },
		LoadBytes:     o.Config.LoadBytes,
		MaxBatchBytes: o.Config.MaxBatchBytes,
		Compression:   o.Config.Compression,
		Barrier:       offsetKey("", "", -1),
		Logger:        o.Logger,
		Meter:         o.Meter,
	})
	return c, err
}

// Run loads and coordinates partitions until ctx ends; called once. It returns
// when all goroutines are gone and everyone who waited is answered.
func (c *Coordinator) Run(ctx context.Context) error { return c.rt.Run(ctx) }

// Load starts to coordinate the groups of a partition that this broker leads at
// epoch. It never blocks; until the log is replayed, answers are
// COORDINATOR_LOAD_IN_PROGRESS.
func (c *Coordinator) Load(partition, epoch int32) { c.rt.Load(partition, epoch) }

// Unload stops to coordinate a partition; it never blocks. Whoever waits gets
// NOT_COORDINATOR. It is ignored when the partition is held at a higher epoch.
func (c *Coordinator) Unload(partition, epoch int32) { c.rt.Unload(partition, epoch) }

// PartitionOf returns the partition of __consumer_offsets that holds a group.
func (c *Coordinator) PartitionOf(group string) int32 {
	n := c.o.Partitions()
	if n < 1 {
		n = c.o.Config.Partitions // there is no topic yet
	}
	return partitionOf(group, n)
}

// partitionOf is Kafka's Utils.abs(groupId.hashCode()) % partitions, with Java's
// String.hashCode over UTF-16 code units.
func partitionOf(group string, partitions int32) int32 {
	var h int32
	for _, r := range group {
		if r1, r2 := utf16.EncodeRune(r); r1 != '\uFFFD' {
			h = 31*h + r1
			h = 31*h + r2
			continue
		}
		h = 31*h + r
	}
	switch {
	case h == math.MinInt32: // has no absolute value
		h = 0
	case h < 0:
		h = -h
	}
	return h % partitions
}

// Kafka's codes that are used all over.
var (
	codeUnknownMember       = kerr.UnknownMemberID.Code
	codeRebalance           = kerr.RebalanceInProgress.Code
	codeIllegalGeneration   = kerr.IllegalGeneration.Code
	codeInconsistent        = kerr.InconsistentGroupProtocol.Code
	codeFenced              = kerr.FencedInstanceID.Code
	codeInvalidGroup        = kerr.InvalidGroupID.Code
	codeGroupNotFound       = kerr.GroupIDNotFound.Code
	codeNotCoordinator      = kerr.NotCoordinator.Code
	codeLoading             = kerr.CoordinatorLoadInProgress.Code
	codeCoordinatorNotAvail = kerr.CoordinatorNotAvailable.Code
)

// codeOf maps the runtime's errors. Kafka's service does the same: an append
// that fails for want of replicas or in time is COORDINATOR_NOT_AVAILABLE,
// which makes clients look for the coordinator and try again.
func codeOf(err error) int16 {
	var r refusal
	switch {
	case err == nil:
		return 0
	case errors.As(err, &r):
		return int16(r)
	case errors.Is(err, coordinator.ErrLoading):
		return codeLoading
	case errors.Is(err, coordinator.ErrNotCoordinator):
		return codeNotCoordinator
	case errors.Is(err, record.ErrTooLarge):
		return kerr.UnknownServerError.Code
	default:
		return codeCoordinatorNotAvail
	}
}

// refusal is the code of a request that is refused as a whole. It is answered at
// once, as in Kafka, whatever is not committed yet.
type refusal int16

func (r refusal) Error() string { return fmt.Sprintf("refused with code %d", int16(r)) }

// refused is the error of a code, nil for 0.
func refused(code int16) error {
	if code == 0 {
		return nil
	}
	return refusal(code)
}

// write runs fn on the group's shard and waits for the commit, at most
// offsets.commit.timeout.ms as Kafka does for all writes of the coordinator.
func write[T any](ctx context.Context, c *Coordinator, partition int32, fn func(s *shard, u *coordinator.Update) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Config.CommitTimeout)
	defer cancel()
	return coordinator.Write(ctx, c.rt, partition, fn)
}

// submit runs fn on the group's shard and does not wait for the commit.
func submit[T any](ctx context.Context, c *Coordinator, partition int32, fn func(s *shard, u *coordinator.Update) T) (T, error) {
	return coordinator.Submit(ctx, c.rt, partition, func(s *shard, u *coordinator.Update) (T, error) {
		return fn(s, u), nil
	})
}

// each runs fn for every partition this broker coordinates, side by side, and
// returns the results in the order of the partitions.
func each[T any](c *Coordinator, fn func(partition int32) (T, error)) ([]T, error) {
	ids := c.rt.Partitions()
	out, errs := make([]T, len(ids)), make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { out[i], errs[i] = fn(id) })
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, coordinator.ErrNotCoordinator) {
			errs[i] = nil // moved away: another broker answers for it
		} else if err != nil {
			errs[i] = fmt.Errorf("partition %d: %w", ids[i], err)
		}
	}
	return out, errors.Join(errs...)
}
