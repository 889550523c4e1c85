package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// clusterStatus is `cluster status -o json`.
type clusterStatus struct {
	ClusterID  string  `json:"cluster_id"`
	Controller int32   `json:"controller"` // -1: none
	Registered int     `json:"brokers_registered"`
	Live       int     `json:"brokers_live"`
	Away       []int32 `json:"brokers_away"`
	Topics     int     `json:"topics"`
	Partitions int     `json:"partitions"`
	// OfflineReplicas counts replicas on brokers that are away.
	OfflineReplicas int `json:"offline_replicas"`
	// Unavailable is what exit code 1 says: Leaderless or UnderMinISR is not empty.
	Unavailable bool `json:"unavailable"`
	// InSync is what --wait waits for.
	InSync          bool           `json:"in_sync"`
	Leaderless      []partitionRow `json:"leaderless"`       // nobody reads or writes
	UnderMinISR     []partitionRow `json:"under_min_isr"`    // nobody writes with acks=all
	UnderReplicated []partitionRow `json:"under_replicated"` // a replica is not in sync
	Reassigning     []partitionRow `json:"reassigning"`
}

// partitionRow is one partition in it.
type partitionRow struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"` // -1: none
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Adding    []int32 `json:"adding,omitempty"`
	Removing  []int32 `json:"removing,omitempty"`
	MinISR    int     `json:"min_insync_replicas,omitempty"`
}

func (r partitionRow) name() string { return r.Topic + "-" + strconv.Itoa(int(r.Partition)) }

func rowOf(t *metadata.Topic, n int32, p metadata.Partition) partitionRow {
	return partitionRow{Topic: t.Name, Partition: n, Leader: int32(p.Leader), Replicas: int32s(p.Replicas), ISR: int32s(p.ISR), Adding: int32s(p.Adding), Removing: int32s(p.Removing)}
}

// underReplicated says whether a replica that is not just being added is not in sync.
func underReplicated(p metadata.Partition) bool {
	return slices.ContainsFunc(p.Replicas, func(id metadata.BrokerID) bool { return !slices.Contains(p.ISR, id) && !slices.Contains(p.Adding, id) })
}

// summarize works out the status. minISR is asked for partitions that are under-replicated.
func summarize(v *clusterView, minISR func(topic string) int) clusterStatus {
	s := clusterStatus{
		ClusterID: v.ID, Controller: int32(v.Controller), Registered: len(v.Brokers), Away: int32s(v.away()), Topics: len(v.Topics),
		Leaderless: []partitionRow{}, UnderMinISR: []partitionRow{}, UnderReplicated: []partitionRow{}, Reassigning: []partitionRow{},
	}
	s.Live = s.Registered - len(s.Away)
	v.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		s.Partitions++
		for _, id := range p.Replicas {
			if !v.live(id) {
				s.OfflineReplicas++
			}
		}
		row := rowOf(t, n, p)
		if p.Leader < 0 {
			s.Leaderless = append(s.Leaderless, row)
		}
		if underReplicated(p) {
			// As in Kafka, more than there are replicas cannot be asked for.
			if least := min(minISR(t.Name), len(p.Replicas)); len(p.ISR) < least {
				row.MinISR = least
				s.UnderMinISR = append(s.UnderMinISR, row)
			}
			s.UnderReplicated = append(s.UnderReplicated, row)
		}
		if moving(p) {
			s.Reassigning = append(s.Reassigning, row)
		}
	})
	s.Unavailable = len(s.Leaderless)+len(s.UnderMinISR) > 0
	s.InSync = s.Controller >= 0 && len(s.Leaderless)+len(s.UnderReplicated)+s.OfflineReplicas == 0
	return s
}

// line is the status in one line.
func (s clusterStatus) line() string {
	out := fmt.Sprintf("%d of %d brokers live, %d of %d partitions in sync", s.Live, s.Registered, s.Partitions-len(s.UnderReplicated), s.Partitions)
	for _, part := range []struct {
		n    int
		what string
	}{{len(s.Leaderless), "without a leader"}, {len(s.UnderMinISR), "below min.insync.replicas"}, {len(s.Reassigning), "being reassigned"}} {
		if part.n > 0 {
			out += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if s.Controller < 0 {
		out += ", no controller"
	}
	return out
}

// err names what is unavailable.
func (s clusterStatus) err() error {
	var errs []error
	for _, bad := range []struct {
		rows []partitionRow
		what string
	}{
		{s.Leaderless, "without a leader, nobody reads or writes"},
		{s.UnderMinISR, "below min.insync.replicas, nobody writes with acks=all"},
	} {
		if len(bad.rows) > 0 {
			errs = append(errs, fmt.Errorf("%s %s: %s", count(int64(len(bad.rows)), "partition"), bad.what, some(bad.rows, 10, partitionRow.name)))
		}
	}
	return errors.Join(errs...)
}

// statusOptions are the flags of status.
type statusOptions struct {
	wait, watch bool
	brokers     int
	timeout     time.Duration
}

func (o statusOptions) check() error {
	switch {
	case o.wait && o.watch:
		return usagef("--wait or --watch, not both")
	case o.brokers < 0:
		return usagef("--brokers %d: want a number of brokers", o.brokers)
	case o.timeout < 0:
		return usagef("--timeout %s: want a time as 5m, 0 is for ever", o.timeout)
	case o.brokers > 0 && !o.wait:
		return usagef("--brokers is for --wait")
	}
	return nil
}

// done says whether what --wait waits for is there.
func (o statusOptions) done(s clusterStatus) bool { return s.InSync && s.Live >= o.brokers }

func (a *app) clusterStatus() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show whether all partitions have a leader and all replicas are in sync",
		Long: `Show whether all partitions have a leader and all replicas are in sync.

The exit code is 1 when a partition is unavailable: it has no leader, or fewer replicas in sync than
min.insync.replicas. With --wait it is 0 when every replica of every partition is in sync, which is when
the next broker of a rolling restart may be stopped, and 1 when --timeout has passed before.`,
		Example: `  coldbrook cluster status
  coldbrook cluster status --wait --brokers 3 --timeout 2m
  coldbrook cluster status -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.wait {
				return a.awaitSync(cmd.Context(), o)
			}
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error {
				if o.watch {
					return a.watchStatus(ctx, cl)
				}
				s, err := fetchStatus(ctx, cl)
				if err != nil {
					return err
				}
				return errors.Join(a.printStatus(s), s.err())
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.wait, "wait", "w", false, "wait until all replicas are in sync")
	f.BoolVar(&o.watch, "watch", false, "show a line now and with every change, until Ctrl-C")
	f.IntVar(&o.brokers, "brokers", 0, "with --wait: also until this `number` of brokers is live")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "with --wait: give up after this `time`; 0 is never")
	return a.client(c)
}

// fetchStatus asks for everything that a status is made of.
func fetchStatus(ctx context.Context, cl *kgo.Client) (clusterStatus, error) {
	v, err := fetchView(ctx, cl, false)
	if err != nil {
		return clusterStatus{}, err
	}
	var topics []string
	v.eachPartition(func(t *metadata.Topic, _ int32, p metadata.Partition) {
		if underReplicated(p) && (len(topics) == 0 || topics[len(topics)-1] != t.Name) {
			topics = append(topics, t.Name)
		}
	})
	least, err := fetchMinISR(ctx, cl, topics)
	if err != nil {
		return clusterStatus{}, err
	}
	return summarize(v, func(topic string) int { return least[topic] }), nil
}

func fetchMinISR(ctx context.Context, cl *kgo.Client, topics []string) (map[string]int, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, t := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, t, []string{"min.insync.replicas"}
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	out := map[string]int{}
	for _, r := range resp.Resources {
		for _, c := range r.Configs {
			if c.Name == "min.insync.replicas" && c.Value != nil {
				if out[r.ResourceName], err = strconv.Atoi(*c.Value); err != nil {
					return nil, fmt.Errorf("min.insync.replicas of %s: %w", r.ResourceName, err)
				}
			}
		}
	}
	return out, nil
}

// mostProblems is how many partitions a table of them has.
const mostProblems = 20

func (a *app) printStatus(s clusterStatus) error {
	if a.json() {
		return a.printJSON(s)
	}
	controller, live := strconv.Itoa(int(s.Controller)), fmt.Sprintf("%d live of %d registered", s.Live, s.Registered)
	if s.Controller < 0 {
		controller = "none"
	}
	if len(s.Away) > 0 {
		live += ", away: " + numbers(s.Away)
	}
	for _, row := range []struct {
		what  string
		value any
	}{
		{"cluster", s.ClusterID}, {"controller", controller}, {"brokers", live}, {"topics", s.Topics}, {"partitions", s.Partitions},
		{"without a leader", len(s.Leaderless)}, {"below min.insync.replicas", len(s.UnderMinISR)}, {"under-replicated", len(s.UnderReplicated)},
		{"offline replicas", s.OfflineReplicas}, {"being reassigned", len(s.Reassigning)},
	} {
		fmt.Fprintf(a.out, "%-27s%v\n", row.what, row.value)
	}
	return a.printTroubled(s)
}

// printTroubled lists each troubled partition once, the worst first.
func (a *app) printTroubled(s clusterStatus) error {
	t, seen := newTable("TOPIC", "<PARTITION", "<LEADER", "REPLICAS", "IN SYNC", "PROBLEM"), map[string]bool{}
	for _, kind := range []struct {
		rows []partitionRow
		what func(partitionRow) string
	}{
		{s.Leaderless, func(partitionRow) string { return "no leader" }},
		{s.UnderMinISR, func(r partitionRow) string { return "min.insync.replicas is " + strconv.Itoa(r.MinISR) }},
		{s.UnderReplicated, func(partitionRow) string { return "under-replicated" }},
	} {
		for _, r := range kind.rows {
			if seen[r.name()] {
				continue
			}
			seen[r.name()] = true
			if len(seen) > mostProblems {
				continue
			}
			t.add(r.Topic, r.Partition, leaderName(r.Leader), numbers(r.Replicas), orDash(numbers(r.ISR)), kind.what(r))
		}
	}
	if len(seen) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	if err := t.print(a.out); err != nil {
		return err
	}
	if more := len(seen) - mostProblems; more > 0 {
		fmt.Fprintf(a.out, "and %d more; -o json has all\n", more)
	}
	return nil
}

func leaderName(id int32) string {
	if id < 0 {
		return "none"
	}
	return strconv.Itoa(int(id))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// How often a cluster is looked at.
const (
	waitEvery  = 500 * time.Millisecond
	watchEvery = 2 * time.Second
)

// awaitSync returns when all is in sync. A cluster that cannot be reached is one that is not in sync
// yet: the broker that is asked may be the one that restarts.
func (a *app) awaitSync(ctx context.Context, o statusOptions) error {
	whole := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	shown := &line{a: a}
	defer shown.done()
	var last clusterStatus
	for {
		var s clusterStatus
		err := a.cluster(ctx, func(ctx context.Context, cl *kgo.Client) (err error) {
			s, err = fetchStatus(ctx, cl)
			return err
		})
		if err == nil && o.done(s) {
			shown.done()
			return a.printStatus(s)
		}
		if ctx.Err() == nil && err != nil {
			shown.say(err.Error())
		} else if ctx.Err() == nil {
			last = s
			shown.say(s.line())
		}
		if err := pause(ctx, waitEvery); err != nil {
			shown.done()
			if whole.Err() != nil {
				return whole.Err()
			}
			if last.ClusterID == "" {
				return fmt.Errorf("not in sync after %s: %w", span(o.timeout), err)
			}
			return fmt.Errorf("not in sync after %s: %s%s", span(o.timeout), last.line(), notInSync(last))
		}
	}
}

// notInSync names the first partitions that were waited for.
func notInSync(s clusterStatus) string {
	if rows := append(s.Leaderless[:len(s.Leaderless):len(s.Leaderless)], s.UnderReplicated...); len(rows) > 0 {
		return ": " + some(rows, 10, partitionRow.name)
	}
	return ""
}

// watchStatus writes a line for every change, until it is interrupted. A broker that does not answer is a
// change too.
func (a *app) watchStatus(ctx context.Context, cl *kgo.Client) error {
	var before string
	for {
		s, err := fetchStatus(ctx, cl)
		now := s.line()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			now = err.Error()
		}
		switch {
		case now == before:
		case err != nil:
			a.note("%s  %s", time.Now().Format(time.TimeOnly), now)
		case a.json():
			if err := a.printJSON(s); err != nil {
				return err
			}
		default:
			fmt.Fprintf(a.out, "%s  %s\n", time.Now().Format(time.TimeOnly), now)
		}
		before = now
		if pause(ctx, watchEvery) != nil {
			return nil // Ctrl-C is how this ends
		}
	}
}
