package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

func (a *app) clusterDrain() *cobra.Command {
	var o moveOptions
	c := &cobra.Command{
		Use:   "drain ID",
		Short: "Move everything off a broker, and wait until it holds nothing",
		Long: `Move everything off a broker, and wait until it holds nothing. The broker may be one that is dead.

Topics that are made meanwhile may still get replicas on a broker that lives; they are moved too. Then stop
the broker, and cluster brokers forget it.`,
		Example: `  coldbrook cluster drain 4 --dry-run
  coldbrook cluster drain 4 --throttle 50000000`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := brokerID(args[0])
			if err != nil {
				return err
			}
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			o.wait = true
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error { return a.drain(ctx, cl, id, o) })
		},
	}
	a.moveFlags(c, &o)
	return a.client(c)
}

func (a *app) drain(ctx context.Context, cl *kgo.Client, id metadata.BrokerID, o moveOptions) error {
	for round := 0; ; round++ {
		v, err := fetchView(ctx, cl, true)
		if err != nil {
			return err
		}
		b, ok := v.broker(id)
		if !ok {
			return fmt.Errorf("broker %d is not registered (`coldbrook cluster brokers` shows who is)", id)
		}
		if len(v.holding(id)) == 0 {
			if round == 0 && a.json() {
				if err := a.printMoves(nil); err != nil {
					return err
				}
			}
			a.drained(b)
			return nil
		}
		planned, err := controller.Drain(id, v.planners(), v.Topics)
		if err != nil {
			return fmt.Errorf("drain broker %d: %w", id, err)
		}
		moves := fromPlanner(planned)
		if len(moves) == 0 { // somebody else has begun it
			moves = leaving(v, id)
		}
		if len(moves) == 0 {
			return fmt.Errorf("drain broker %d: it holds %s that nobody can take", id, count(int64(len(v.holding(id))), "partition"))
		}
		if err := a.move(ctx, cl, v, moves, o); err != nil || o.dryRun {
			return err
		}
	}
}

// leaving are the moves under way that take partitions off the broker.
func leaving(v *clusterView, id metadata.BrokerID) []move {
	var out []move
	for _, m := range movesUnderWay(v, nil) {
		if len(without([]metadata.BrokerID{id}, m.To)) > 0 {
			out = append(out, m)
		}
	}
	return out
}

func (a *app) drained(b brokerView) {
	if b.Live {
		a.note("broker %d holds nothing: stop it, then `coldbrook cluster brokers forget %d`", b.ID, b.ID)
	} else {
		a.note("broker %d holds nothing: `coldbrook cluster brokers forget %d`", b.ID, b.ID)
	}
}

func (a *app) clusterBalance() *cobra.Command {
	var o moveOptions
	c := &cobra.Command{
		Use:   "balance",
		Short: "Spread replicas and leaders evenly, as after adding a broker",
		Long: `Spread replicas and leaders evenly, as after adding a broker: move as few replicas as will do, keeping those
of a partition on different racks, wait, and give leadership to the preferred leaders.`,
		Example: `  coldbrook cluster balance --dry-run
  coldbrook cluster balance --throttle 50000000`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			o.wait = true
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error {
				v, err := fetchView(ctx, cl, true)
				if err != nil {
					return err
				}
				moves := fromPlanner(controller.Balance(v.planners(), v.Topics))
				if err := a.move(ctx, cl, v, moves, o); err != nil || o.dryRun {
					return err
				}
				rows, err := electLeaders(ctx, cl, kadm.ElectPreferredReplica, nil)
				if err != nil {
					return err
				}
				a.noteElections(rows)
				return nil
			})
		},
	}
	a.moveFlags(c, &o)
	return a.client(c)
}

// fromPlanner turns the controller's moves into ours.
func fromPlanner(in []controller.Move) []move {
	var out []move
	for _, m := range in {
		out = append(out, move{
			TopicPartition: metadata.TopicPartition{Topic: m.Topic.Name, Partition: m.Partition},
			From:           m.Topic.Partitions[m.Partition].Replicas, To: m.Replicas,
		})
	}
	return out
}
