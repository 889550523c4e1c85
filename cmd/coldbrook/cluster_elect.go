package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/metadata"
)

// electionRow is one partition of `cluster elect -o json`.
type electionRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Elected   bool   `json:"elected"` // false without an error: it was not needed
	Error     string `json:"error,omitempty"`
	err       error
}

func (a *app) clusterElect() *cobra.Command {
	var unclean, yes bool
	c := &cobra.Command{
		Use:   "elect [TOPIC[:PARTITION,…]…]",
		Short: "Give leadership to the preferred leaders, of some topics or of all",
		Long: `Give leadership to the preferred leaders: the first of a partition's replicas, if it is in sync.

With --unclean, partitions without a leader get one that may lack records which were acknowledged: those
are lost, unless they are in object storage. For that the topics have to be named.`,
		Example: `  coldbrook cluster elect
  coldbrook cluster elect events:3 --unclean`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeTopics(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseSelection(args)
			if err != nil {
				return err
			}
			how := kadm.ElectPreferredReplica
			if unclean {
				how = kadm.ElectLiveReplica
				if len(s) == 0 {
					return usagef("--unclean loses records: name the TOPIC")
				}
				if a.inTerminal && !yes {
					ok, err := a.confirm("elect leaders that may lack acknowledged records?")
					if err != nil || !ok {
						return errors.Join(err, errors.New("nothing was elected"))
					}
				}
			}
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error { return a.elect(ctx, cl, how, s) })
		},
	}
	c.Flags().BoolVar(&unclean, "unclean", false, "elect who lives, in sync or not")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.client(c)
}

func (a *app) elect(ctx context.Context, cl *kgo.Client, how kadm.ElectLeadersHow, s selection) error {
	var set kadm.TopicsSet
	if len(s) > 0 {
		v, err := fetchView(ctx, cl, false)
		if err != nil {
			return err
		}
		if err := s.check(v); err != nil {
			return err
		}
		v.eachPartition(func(t *metadata.Topic, n int32, _ metadata.Partition) {
			if s.has(t.Name, n) {
				set.Add(t.Name, n)
			}
		})
	}
	rows, err := electLeaders(ctx, cl, how, set)
	if err != nil {
		return err
	}
	if a.json() {
		if err := a.printJSON(rows); err != nil {
			return err
		}
	}
	a.noteElections(rows)
	var errs []error
	for _, r := range rows {
		if r.err != nil {
			errs = append(errs, r.err)
		}
	}
	if len(errs) > mostProblems {
		errs = append(errs[:mostProblems], fmt.Errorf("and %d more; -o json has all", len(errs)-mostProblems))
	}
	return errors.Join(errs...)
}

func (a *app) noteElections(rows []electionRow) {
	var elected int64
	for _, r := range rows {
		if r.Elected {
			elected++
		}
	}
	a.note("elected %s", count(elected, "leader"))
}

// electTimeout bounds the elections of one request.
const electTimeout = time.Minute

func electLeaders(ctx context.Context, cl *kgo.Client, how kadm.ElectLeadersHow, set kadm.TopicsSet) ([]electionRow, error) {
	ctx, cancel := context.WithTimeout(ctx, electTimeout)
	defer cancel()
	rs, err := kadm.NewClient(cl).ElectLeaders(ctx, how, set)
	if err != nil {
		return nil, fmt.Errorf("elect leaders: %w", err)
	}
	rows := []electionRow{}
	for _, topic := range sorted(rs) {
		for _, n := range slices.Sorted(maps.Keys(rs[topic])) {
			r := rs[topic][n]
			row := electionRow{Topic: topic, Partition: n, Elected: r.Err == nil}
			if r.Err != nil && !errors.Is(r.Err, kerr.ElectionNotNeeded) {
				row.err = brokerError(fmt.Sprintf("elect a leader of %s-%d", topic, n), r.Err, r.ErrMessage)
				row.Error = r.Err.Error()
				if r.ErrMessage != "" {
					row.Error = r.ErrMessage
				}
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}
