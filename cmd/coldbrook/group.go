package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (a *app) groupCommand() *cobra.Command {
	return family("group", "List, describe, reset and delete consumer groups",
		a.groupList(), a.groupDescribe(), a.groupReset(), a.groupDelete())
}

func (a *app) groupList() *cobra.Command {
	type row struct {
		Group       string `json:"group"`
		State       string `json:"state"`
		Protocol    string `json:"protocol_type"`
		Coordinator int32  `json:"coordinator"`
	}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the groups",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				groups, err := adm.ListGroups(ctx)
				if err != nil {
					return err
				}
				rows := []row{}
				t := newTable("GROUP", "STATE", "TYPE", "<COORDINATOR")
				for _, g := range groups.Sorted() {
					rows = append(rows, row{g.Group, g.State, g.ProtocolType, g.Coordinator})
					t.add(g.Group, g.State, g.ProtocolType, g.Coordinator)
				}
				if a.json() {
					return a.printJSON(rows)
				}
				return t.print(a.out)
			})
		},
	}
	return a.client(c)
}

// groupDescription is one group of `group describe -o json`.
type groupDescription struct {
	Group       string        `json:"group"`
	State       string        `json:"state"`
	Protocol    string        `json:"protocol"`
	Coordinator int32         `json:"coordinator"`
	Members     []memberRow   `json:"members"`
	Offsets     []groupLagRow `json:"offsets"`
	Lag         int64         `json:"lag"`
}

type memberRow struct {
	Member   string `json:"member"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client"`
	Host     string `json:"host"`
}

type groupLagRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1: nothing
	Start     int64  `json:"log_start_offset"`
	End       int64  `json:"high_watermark"`
	Lag       int64  `json:"lag"` // in records; -1: not known, as in those below
	LagBytes  int64  `json:"lag_bytes"`
	LagMs     int64  `json:"lag_ms"`
	Cold      int64  `json:"cold_lag"` // the part of the lag that is only in the object store
	ColdBytes int64  `json:"cold_lag_bytes"`
	ColdMs    int64  `json:"cold_lag_ms"`
	Member    string `json:"member,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (a *app) groupDescribe() *cobra.Command {
	c := &cobra.Command{
		Use:   "describe GROUP…",
		Short: "Show a group's members, offsets and lag",
		Long: `Show a group's members, offsets and lag.

LAG counts records up to the end. BYTES are what they take as they are stored, TIME is how old the first of them is.
COLD and COLD BYTES are the part of it that is no longer on the leader's disk and will be read from object storage.
Bytes and time come from a broker's HTTP, which asks the leaders.`,
		Args:              atLeastOne("GROUP"),
		ValidArgsFunction: a.completeGroups(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				lags, err := adm.Lag(ctx, args...)
				if err != nil {
					return err
				}
				out := []groupDescription{}
				for _, l := range lags.Sorted() {
					if err := l.Error(); err != nil {
						return brokerError("group "+l.Group, err, "")
					}
					out = append(out, describeGroup(l))
				}
				unknown := a.measureLags(ctx, adm, out)
				if a.json() {
					err = a.printJSON(out)
				} else {
					err = a.printGroups(out)
				}
				if unknown != nil && err == nil {
					a.note("not all bytes and times are known: %v", unknown)
				}
				return err
			})
		},
	}
	a.httpFlag(c)
	return a.client(c)
}

func describeGroup(l kadm.DescribedGroupLag) groupDescription {
	d := groupDescription{Group: l.Group, State: l.State, Protocol: l.Protocol, Coordinator: l.Coordinator.NodeID, Members: []memberRow{}, Offsets: []groupLagRow{}}
	for _, m := range l.Members {
		row := memberRow{Member: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		d.Members = append(d.Members, row)
	}
	for _, o := range l.Lag.Sorted() {
		row := groupLagRow{Topic: o.Topic, Partition: o.Partition, Committed: o.Commit.At, Start: o.Start.Offset, End: o.End.Offset, Lag: o.Lag, LagBytes: -1, LagMs: -1, Cold: -1, ColdBytes: -1, ColdMs: -1}
		if o.Member != nil {
			row.Member = o.Member.MemberID
		}
		if o.Err != nil {
			row.Error = o.Err.Error()
		}
		d.Lag += max(o.Lag, 0)
		d.Offsets = append(d.Offsets, row)
	}
	return d
}

func (a *app) printGroups(all []groupDescription) error {
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintf(a.out, "%s  %s, %s, coordinator %d, lag %d\n", printable(d.Group), strings.ToLower(d.State), count(int64(len(d.Members)), "member"), d.Coordinator, d.Lag)
		t := newTable("TOPIC", "<PARTITION", "<COMMITTED", "<END", "<LAG", "<BYTES", "<TIME", "<COLD", "<COLD BYTES", "MEMBER")
		for _, o := range d.Offsets {
			committed, lag := strconv.FormatInt(o.Committed, 10), strconv.FormatInt(o.Lag, 10)
			if o.Committed < 0 {
				committed = "-"
			}
			if o.Lag < 0 {
				lag = "?"
			}
			who := o.Member
			if o.Error != "" {
				who = o.Error
			}
			t.add(o.Topic, o.Partition, committed, o.End, lag, unless(o.LagBytes, size), unless(o.LagMs, milliseconds),
				unless(o.Cold, decimal), unless(o.ColdBytes, size), who)
		}
		if err := t.print(a.out); err != nil {
			return err
		}
		if len(d.Members) > 0 {
			m := newTable("MEMBER", "INSTANCE", "CLIENT", "HOST")
			for _, r := range d.Members {
				m.add(r.Member, r.Instance, r.Client, r.Host)
			}
			fmt.Fprintln(a.out)
			if err := m.print(a.out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) groupDelete() *cobra.Command {
	c := &cobra.Command{
		Use:               "delete GROUP…",
		Short:             "Delete groups and their offsets; they must be empty",
		Args:              atLeastOne("GROUP"),
		ValidArgsFunction: a.completeGroups(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				rs, err := adm.DeleteGroups(ctx, args...)
				if err != nil {
					return err
				}
				var errs []error
				for _, r := range rs.Sorted() {
					if r.Err != nil {
						errs = append(errs, brokerError("delete group "+r.Group, r.Err, ""))
						continue
					}
					a.note("deleted group %s", r.Group)
				}
				return errors.Join(errs...)
			})
		},
	}
	a.bootstrapFlag(c)
	return c
}

// resetOptions are the flags of reset-offsets.
type resetOptions struct {
	topics     []string
	allTopics  bool
	earliest   bool
	latest     bool
	datetime   string
	offset     int64
	shift      int64
	execute    bool
	hasOffset  bool
	hasShift   bool
	now        time.Time
	to         position
	partitions map[string][]int32 // nil list: all
}

// resetRow is one line of the plan.
type resetRow struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"` // -1: nothing committed
	To        int64  `json:"to"`
}

func (a *app) groupReset() *cobra.Command {
	var o resetOptions
	c := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move a group's offsets; shows what would change unless --execute is given",
		Example: `  coldbrook group reset-offsets billing --topic orders --to-datetime 2026-11-01T00:00:00Z
  coldbrook group reset-offsets billing --topic orders:0,3 --shift-by -100 --execute`,
		Args:              exactly("GROUP"),
		ValidArgsFunction: a.completeGroups(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.now, o.hasOffset, o.hasShift = time.Now(), cmd.Flags().Changed("to-offset"), cmd.Flags().Changed("shift-by")
			if err := o.check(); err != nil {
				return err
			}
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error { return a.reset(ctx, adm, args[0], &o) })
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.topics, "topic", "t", nil, "`TOPIC` or TOPIC:0,1,…; repeatable")
	f.BoolVar(&o.allTopics, "all-topics", false, "every topic the group has offsets of")
	f.BoolVar(&o.earliest, "to-earliest", false, "to the first record there is")
	f.BoolVar(&o.latest, "to-latest", false, "to the end")
	f.StringVar(&o.datetime, "to-datetime", "", "to the first record at or after a `time`")
	f.Int64Var(&o.offset, "to-offset", 0, "to an `offset`")
	f.Int64Var(&o.shift, "shift-by", 0, "by a `number` of offsets, forward or, if negative, back")
	f.BoolVar(&o.execute, "execute", false, "do it")
	return a.client(c)
}

func (o *resetOptions) check() error {
	ways := 0
	for _, given := range []bool{o.earliest, o.latest, o.datetime != "", o.hasOffset, o.hasShift} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usagef("want one of --to-earliest, --to-latest, --to-datetime, --to-offset, --shift-by")
	}
	if (len(o.topics) > 0) == o.allTopics {
		return usagef("want --topic or --all-topics")
	}
	switch {
	case o.earliest:
		o.to = position{kind: atBeginning}
	case o.latest:
		o.to = position{kind: atEnd, uncommitted: true}
	case o.hasOffset:
		if o.offset < 0 {
			return usagef("--to-offset %d: want 0 or more", o.offset)
		}
		o.to = position{kind: atOffset, offset: o.offset}
	case o.datetime != "":
		p, err := parsePosition("to-datetime", o.datetime, o.now)
		if err != nil {
			return err
		}
		if p.kind != atTime {
			return usagef("--to-datetime %s: want a time as 2026-11-22T19:30:00Z, or how long ago as -90m", o.datetime)
		}
		o.to = p
	}
	o.partitions = map[string][]int32{}
	for _, t := range o.topics {
		name, list, some := strings.Cut(t, ":")
		o.partitions[name] = nil
		for p := range strings.SplitSeq(list, ",") {
			if !some {
				break
			}
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil || n < 0 {
				return usagef("--topic %s: want TOPIC:0,1,…", t)
			}
			o.partitions[name] = append(o.partitions[name], int32(n))
		}
	}
	return nil
}

func (a *app) reset(ctx context.Context, adm *kadm.Client, group string, o *resetOptions) error {
	described, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	if d := described[group]; d.Err == nil && len(d.Members) > 0 {
		err := fmt.Errorf("group %s has %s: stop its consumers first, they would write their own offsets over these", group, count(int64(len(d.Members)), "member"))
		if o.execute {
			return err
		}
		a.note("note: %v", err)
	}
	committed, err := adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("offsets of group %s: %w", group, err)
	}
	rows, err := planReset(ctx, adm, group, committed, o)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("group %s has no offsets to reset", group)
	}
	if o.execute {
		offsets := kadm.Offsets{}
		for _, r := range rows {
			offsets.AddOffset(r.Topic, r.Partition, r.To, -1)
		}
		if err := adm.CommitAllOffsets(ctx, group, offsets); err != nil {
			return fmt.Errorf("commit offsets of group %s: %w", group, err)
		}
	}
	if a.json() {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	} else {
		t := newTable("TOPIC", "<PARTITION", "<FROM", "<TO")
		for _, r := range rows {
			from := strconv.FormatInt(r.From, 10)
			if r.From < 0 {
				from = "-"
			}
			t.add(r.Topic, r.Partition, from, r.To)
		}
		if err := t.print(a.out); err != nil {
			return err
		}
	}
	if o.execute {
		a.note("reset %s of group %s", count(int64(len(rows)), "partition"), group)
	} else {
		a.note("nothing was changed: --execute does it")
	}
	return nil
}

// planReset works out the new offsets, inside what each partition has.
func planReset(ctx context.Context, adm *kadm.Client, group string, committed kadm.OffsetResponses, o *resetOptions) ([]resetRow, error) {
	if o.allTopics {
		for topic := range committed {
			o.partitions[topic] = nil
		}
	}
	topics := sorted(o.partitions)
	if len(topics) == 0 {
		return nil, nil
	}
	starts, err := offsetsOf(ctx, adm, position{kind: atBeginning}, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := offsetsOf(ctx, adm, position{kind: atEnd, uncommitted: true}, topics...)
	if err != nil {
		return nil, err
	}
	target, err := offsetsOf(ctx, adm, o.to, topics...)
	if err != nil {
		return nil, err
	}
	rows := []resetRow{}
	for _, topic := range topics {
		want := o.partitions[topic]
		for _, p := range want {
			if _, ok := ends[topic][p]; !ok {
				return nil, fmt.Errorf("%s has no partition %d", topic, p)
			}
		}
		for p, end := range ends[topic] {
			if want != nil && !slices.Contains(want, p) {
				continue
			}
			row := resetRow{Group: group, Topic: topic, Partition: p, From: -1, To: target[topic][p]}
			if c, ok := committed.Lookup(topic, p); ok && c.Err == nil {
				row.From = c.At
			}
			if o.allTopics && row.From < 0 {
				continue
			}
			if o.hasShift {
				if row.From < 0 {
					continue // nothing to shift from
				}
				row.To = shifted(row.From, o.shift)
			}
			row.To = min(max(row.To, starts[topic][p]), end)
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(x, y resetRow) int {
		if c := strings.Compare(x.Topic, y.Topic); c != 0 {
			return c
		}
		return int(x.Partition - y.Partition)
	})
	return rows, nil
}

// shifted adds without running over.
func shifted(from, by int64) int64 {
	if to := from + by; (to > from) == (by > 0) {
		return to
	}
	if by > 0 {
		return 1<<63 - 1
	}
	return 0
}
