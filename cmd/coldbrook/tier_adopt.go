package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
)

func (a *app) tierAdopt() *cobra.Command {
	var partitions []int32
	var yes bool
	c := &cobra.Command{
		Use:   "adopt TOPIC",
		Short: "Decide for the local logs where newer manifests in object storage disagree with them",
		Long: `Decide for the local logs of a topic's partitions that wait because manifests in object storage that are
newer than the one etcd names disagree with them; ` + "`coldbrook tier status`" + ` shows which. The broker that is asked must
lead them. What is kept is the leader's log, and what etcd's manifest names. What is given up is what only the newer
manifests name: it can no longer be read, and its objects are deleted after remote.delete.grace.ms. This cannot be taken
back: the bucket should have versions, or be copied before. It holds while the broker leads the partition.`,
		Example: `  coldbrook tier adopt events -p 3
  coldbrook tier adopt events --yes --http 10.0.0.2:9644`,
		Args:              exactly("TOPIC"),
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			waiting, err := a.waitingPartitions(cmd.Context(), args[0], partitions)
			if err != nil {
				return err
			}
			if err := a.showChoice(waiting); err != nil {
				return err
			}
			if !yes {
				if !a.inTerminal {
					return usagef("this cannot be taken back: say --yes if the logs are right")
				}
				ok, err := a.confirm("keep the logs of " + count(int64(len(waiting)), "partition") + " of topic " + args[0] + "?")
				if err != nil || !ok {
					return errors.Join(err, errors.New("nothing was decided"))
				}
			}
			return a.adoptLogs(cmd.Context(), args[0], waiting)
		},
	}
	c.Flags().Int32SliceVarP(&partitions, "partition", "p", nil, "`numbers` of the partitions; all that wait without it")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}

// waitingPartitions are those of a topic that the broker leads and that wait for a decision. One that is named and does
// not wait is an error: who decides has another state in mind than there is.
func (a *app) waitingPartitions(ctx context.Context, topic string, partitions []int32) ([]console.TierPartition, error) {
	var rows []console.TierPartition
	if err := a.get(ctx, "/api/v1/tier", url.Values{"topic": {topic}}, &rows); err != nil {
		return nil, err
	}
	waiting := slices.DeleteFunc(rows, func(r console.TierPartition) bool {
		return r.Held == "" || len(partitions) > 0 && !slices.Contains(partitions, r.Partition)
	})
	for _, n := range partitions {
		if !slices.ContainsFunc(waiting, func(r console.TierPartition) bool { return r.Partition == n }) {
			return nil, fmt.Errorf("partition %d of topic %q does not wait for a decision at %s, or another broker leads it", n, topic, a.http)
		}
	}
	if len(waiting) == 0 {
		return nil, fmt.Errorf("no partition of topic %q that the broker at %s leads waits for a decision", topic, a.http)
	}
	return waiting, nil
}

// showChoice says what is kept and what is given up.
func (a *app) showChoice(waiting []console.TierPartition) error {
	t := newTable("<PART", "<LOG FROM", "<LOG TO", "WAITS BECAUSE")
	for _, r := range waiting {
		t.add(r.Partition, r.LocalLogStartOffset, r.LogEndOffset, r.Held)
	}
	if err := t.print(a.err); err != nil {
		return err
	}
	a.note("kept: the logs, and what the manifests that etcd names have")
	a.note("given up: what only newer manifests in the bucket name; its objects are deleted after remote.delete.grace.ms")
	return nil
}

// adoptLogs decides for the partitions that were shown, and no others.
func (a *app) adoptLogs(ctx context.Context, topic string, waiting []console.TierPartition) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	query := url.Values{"topic": {topic}}
	for _, r := range waiting {
		query.Add("partition", strconv.Itoa(int(r.Partition)))
	}
	resp, err := a.request(ctx, true, "/api/v1/tier/adopt", query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var kept console.KeptLogs
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&kept); err != nil {
		return fmt.Errorf("the broker did not answer as expected: %w", err)
	}
	if a.json() {
		return a.printJSON(kept)
	}
	a.note("decided for the logs of %s of topic %s; `coldbrook tier status %s` shows when none waits any more", count(int64(len(kept.Partitions)), "partition"), kept.Topic, kept.Topic)
	return nil
}

// noteHeld says which partitions wait for a decision, and why.
func (a *app) noteHeld(rows []console.TierPartition) {
	var held int64
	for _, r := range rows {
		if r.Held == "" {
			continue
		}
		if held++; held <= mostProblems {
			a.note("%s-%d copies and deletes nothing before somebody decides: %s", r.Topic, r.Partition, r.Held)
		}
	}
	if held > mostProblems {
		a.note("and %d more; -o json has all", held-mostProblems)
	}
	if held > 0 {
		a.note("see ColdbrookTierHeld in deploy/RUNBOOK.md, and `coldbrook tier adopt --help`")
	}
}
