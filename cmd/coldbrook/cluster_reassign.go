package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/metadata"
)

// reassignOptions are the flags of reassign.
type reassignOptions struct {
	moveOptions
	to         []int32
	factor     int
	plan       string
	list       bool
	cancel     bool
	unthrottle bool
	selected   selection
}

func (a *app) clusterReassign() *cobra.Command {
	var o reassignOptions
	c := &cobra.Command{
		Use:   "reassign [TOPIC[:PARTITION,…]…]",
		Short: "Give partitions other replicas, or show, cancel and await what moves",
		Long: `Give partitions other replicas, or show, cancel and await what moves.

The brokers of --to take turns in being a partition's preferred leader; a single partition gets them in
the order given. --plan reads the JSON of Kafka's kafka-reassign-partitions, which -o json writes. A move
that has begun goes on without this command; --wait watches it, also later and without anything else.

--throttle limits what the copying may take of each broker, and waits, to remove the limit when all is
done. --unthrottle removes what a command that was interrupted has left behind.`,
		Example: `  coldbrook cluster reassign events --to 1,2,3 --dry-run
  coldbrook cluster reassign events:0,4 --to 4,2,1 --throttle 50000000
  coldbrook cluster reassign events --replication-factor 3 --wait
  coldbrook cluster reassign --plan plan.json
  coldbrook cluster reassign --list
  coldbrook cluster reassign --cancel events`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeTopics(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args, cmd.Flags().Changed); err != nil {
				return err
			}
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error { return a.reassign(ctx, cl, &o) })
		},
	}
	f := c.Flags()
	f.Int32SliceVar(&o.to, "to", nil, "`ids` of the brokers that are to have the replicas")
	f.IntVarP(&o.factor, "replication-factor", "r", 0, "`number` of replicas to have, on brokers that are chosen")
	f.StringVar(&o.plan, "plan", "", "`file` with Kafka's reassignment JSON; - is standard input")
	f.BoolVar(&o.list, "list", false, "show what is being moved")
	f.BoolVar(&o.cancel, "cancel", false, "put back what is being moved, of the topics or all")
	f.BoolVar(&o.unthrottle, "unthrottle", false, "remove the limits that --throttle has set")
	f.BoolVarP(&o.wait, "wait", "w", false, "wait until it is done")
	a.moveFlags(c, &o.moveOptions)
	return a.client(c)
}

// moveFlags are common to all that moves partitions.
func (a *app) moveFlags(c *cobra.Command, o *moveOptions) {
	c.Flags().Int64Var(&o.throttle, "throttle", 0, "limit of the copying, in `bytes/s` of each broker")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be moved, move nothing")
}

func (o *reassignOptions) check(args []string, given func(string) bool) error {
	ways := 0
	for _, way := range []string{"to", "replication-factor", "plan", "list", "cancel", "unthrottle"} {
		if given(way) {
			ways++
		}
	}
	moves := given("to") || given("replication-factor") || given("plan")
	switch {
	case ways > 1 || ways == 0 && !o.wait:
		return usagef("want one of --to, --replication-factor, --plan, --list, --cancel, --unthrottle, --wait")
	case (given("to") || given("replication-factor")) && len(args) == 0:
		return usagef("TOPIC is missing")
	case (given("plan") || given("unthrottle")) && len(args) > 0:
		return usagef("%q is one argument too many", args[0])
	case given("to") && len(o.to) == 0:
		return usagef("--to is empty")
	case given("replication-factor") && o.factor < 1:
		return usagef("--replication-factor %d: want at least 1", o.factor)
	case !moves && (given("throttle") || o.dryRun):
		return usagef("--throttle and --dry-run are for --to, --replication-factor and --plan")
	case (o.list || o.unthrottle) && o.wait:
		return usagef("--wait is not for --list and --unthrottle")
	}
	if err := o.moveOptions.check(given); err != nil {
		return err
	}
	var err error
	o.selected, err = parseSelection(args)
	return err
}

func (a *app) reassign(ctx context.Context, cl *kgo.Client, o *reassignOptions) error {
	var plan planFile
	if o.plan != "" {
		var err error
		if plan, err = a.readPlan(o.plan); err != nil {
			return err
		}
	}
	v, err := fetchView(ctx, cl, true)
	if err != nil {
		return err
	}
	if err := o.selected.check(v); err != nil {
		return err
	}
	var moves []move
	switch {
	case o.list:
		return a.printMoving(movingRows(v, o.selected))
	case o.unthrottle:
		return a.unthrottleAll(ctx, cl, v)
	case o.cancel:
		return a.cancelMoves(ctx, cl, v, o)
	case o.plan != "":
		moves, err = plan.moves(v)
	case o.factor > 0:
		moves, err = planFactor(v, o.selected, o.factor)
	case len(o.to) > 0:
		moves, err = planTo(v, o.selected, brokerIDs(o.to))
	default:
		if moves = movesUnderWay(v, o.selected); len(moves) == 0 {
			a.note("nothing is being moved")
			return nil
		}
		return a.awaitMoves(ctx, cl, moves)
	}
	if err != nil {
		return err
	}
	return a.move(ctx, cl, v, moves, o.moveOptions)
}

func (a *app) readPlan(name string) (planFile, error) {
	var b []byte
	var err error
	if name == "-" {
		b, err = io.ReadAll(io.LimitReader(a.in, maxAnswer))
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return planFile{}, err
	}
	f, err := parsePlan(b)
	if err != nil {
		return f, fmt.Errorf("plan %s: %w", name, err)
	}
	return f, nil
}

func movingRows(v *clusterView, s selection) []partitionRow {
	rows := []partitionRow{}
	v.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if moving(p) && s.has(t.Name, n) {
			rows = append(rows, rowOf(t, n, p))
		}
	})
	return rows
}

func (a *app) printMoving(rows []partitionRow) error {
	if a.json() {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		a.note("nothing is being moved")
		return nil
	}
	t := newTable("TOPIC", "<PARTITION", "<LEADER", "REPLICAS", "IN SYNC", "ADDING", "REMOVING")
	for _, r := range rows {
		t.add(r.Topic, r.Partition, leaderName(r.Leader), numbers(r.Replicas), orDash(numbers(r.ISR)), orDash(numbers(r.Adding)), orDash(numbers(r.Removing)))
	}
	return t.print(a.out)
}

// movesUnderWay are the moves that somebody has begun.
func movesUnderWay(v *clusterView, s selection) []move {
	var out []move
	v.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if moving(p) && s.has(t.Name, n) {
			out = append(out, move{TopicPartition: metadata.TopicPartition{Topic: t.Name, Partition: n}, From: without(p.Replicas, p.Adding), To: target(p)})
		}
	})
	return out
}

// cancelMoves puts back the replicas that partitions had.
func (a *app) cancelMoves(ctx context.Context, cl *kgo.Client, v *clusterView, o *reassignOptions) error {
	moves := movesUnderWay(v, o.selected)
	if len(moves) == 0 {
		a.note("nothing is being moved")
		return nil
	}
	var req kadm.AlterPartitionAssignmentsReq
	back := make([]move, len(moves))
	for i, m := range moves {
		req.CancelAssign(m.Topic, m.Partition)
		back[i] = move{TopicPartition: m.TopicPartition, From: m.To, To: m.From}
	}
	if err := alterAssignments(ctx, cl, req); err != nil {
		return err
	}
	a.note("cancelled the move of %s", count(int64(len(moves)), "partition"))
	if !o.wait {
		return nil
	}
	return a.awaitMoves(ctx, cl, back)
}
