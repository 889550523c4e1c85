package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// brokerRow is one broker of `cluster brokers -o json`.
type brokerRow struct {
	ID       int32  `json:"id"`
	Rack     string `json:"rack,omitempty"`
	Role     string `json:"role"` // broker or replay
	Address  string `json:"address"`
	Leaders  int    `json:"leaders"`  // partitions it leads
	Replicas int    `json:"replicas"` // partitions it has a replica of
	Bytes    int64  `json:"bytes"`    // of them on its disk; -1: it did not say
	State    string `json:"state"`    // live, draining or away
	// Controller says that it is the one that decides.
	Controller bool `json:"controller"`
}

// States of a broker.
const (
	stateLive     = "live"
	stateDraining = "draining" // all its replicas are being moved off it
	stateAway     = "away"     // registered once, and not there
)

func (a *app) clusterBrokers() *cobra.Command {
	c := &cobra.Command{
		Use:   "brokers",
		Short: "List the brokers, live or not, and what is on them",
		Long: `List the brokers, live or not, and what is on them.

A broker is "draining" while all its replicas are being moved off it, and "away" when it has registered
once and is not there. One that will not come back has to be forgotten: see cluster brokers forget.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error {
				v, err := fetchView(ctx, cl, true)
				if err != nil {
					return err
				}
				rows := brokerRows(v, fetchSizes(ctx, cl, nil))
				if a.json() {
					return a.printJSON(rows)
				}
				t := newTable("<ID", "RACK", "ROLE", "ADDRESS", "<LEADERS", "<REPLICAS", "<ON DISK", "STATE")
				for _, r := range rows {
					bytes, state := "?", r.State
					if r.Bytes >= 0 {
						bytes = size(r.Bytes)
					}
					if r.Controller {
						state += ", controller"
					}
					t.add(r.ID, orDash(r.Rack), r.Role, r.Address, r.Leaders, r.Replicas, bytes, state)
				}
				return t.print(a.out)
			})
		},
	}
	a.client(c)
	c.AddCommand(a.clusterForget())
	return c
}

func brokerRows(v *clusterView, sizes replicaSizes) []brokerRow {
	rows := []brokerRow{}
	leads, holds, leaves := map[metadata.BrokerID]int{}, map[metadata.BrokerID]int{}, map[metadata.BrokerID]int{}
	v.eachPartition(func(_ *metadata.Topic, _ int32, p metadata.Partition) {
		leads[p.Leader]++
		for _, id := range p.Replicas {
			holds[id]++
		}
		for _, id := range p.Removing {
			leaves[id]++
		}
	})
	for _, b := range v.Brokers {
		r := brokerRow{
			ID: int32(b.ID), Rack: b.Rack, Role: "broker", Address: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))),
			Leaders: leads[b.ID], Replicas: holds[b.ID], Bytes: sizes.broker(b.ID), State: stateLive, Controller: b.ID == v.Controller,
		}
		switch {
		case !b.Live:
			r.State = stateAway
		case leaves[b.ID] > 0 && leaves[b.ID] == holds[b.ID]:
			r.State = stateDraining
		}
		if b.Role != "" {
			r.Role = b.Role
		}
		if b.Host == "" {
			r.Address = "-" // it is not known where brokers were that are away
		}
		rows = append(rows, r)
	}
	return rows
}

// replicaSizes are bytes on disk, by broker and partition; a broker that did not answer is missing.
type replicaSizes map[metadata.BrokerID]map[metadata.TopicPartition]int64

// broker is all that is on a broker, -1 if it did not say.
func (s replicaSizes) broker(id metadata.BrokerID) int64 {
	list, ok := s[id]
	if !ok {
		return -1
	}
	var sum int64
	for _, n := range list {
		sum += n
	}
	return sum
}

// fetchSizes asks all brokers for the sizes of some partitions, or of all if set is nil. Who does not
// answer is left out: sizes are only shown.
func fetchSizes(ctx context.Context, cl *kgo.Client, set kadm.TopicsSet) replicaSizes {
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	all, _ := kadm.NewClient(cl).DescribeAllLogDirs(ctx, set) // what did answer
	out := replicaSizes{}
	for id, dirs := range all {
		list := map[metadata.TopicPartition]int64{}
		dirs.EachPartition(func(p kadm.DescribedLogDirPartition) {
			list[metadata.TopicPartition{Topic: p.Topic, Partition: p.Partition}] += p.Size
		})
		out[metadata.BrokerID(id)] = list
	}
	return out
}

func (a *app) clusterForget() *cobra.Command {
	c := &cobra.Command{
		Use:   "forget ID",
		Short: "Forget a broker that is stopped for good and holds nothing",
		Long: `Forget a broker that is stopped for good and holds nothing. Move its partitions off it first, with
cluster drain, whether it still lives or not.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := brokerID(args[0])
			if err != nil {
				return err
			}
			return a.cluster(cmd.Context(), func(ctx context.Context, cl *kgo.Client) error { return a.forget(ctx, cl, id) })
		},
	}
	a.bootstrapFlag(c)
	return c
}

func (a *app) forget(ctx context.Context, cl *kgo.Client, id metadata.BrokerID) error {
	v, err := fetchView(ctx, cl, false)
	if err != nil {
		return err
	}
	b, ok := v.broker(id)
	if !ok {
		return fmt.Errorf("broker %d is not registered (`coldbrook cluster brokers` shows who is)", id)
	}
	if b.Live {
		return fmt.Errorf("broker %d is live: stop it first", id)
	}
	if held := v.holding(id); len(held) > 0 {
		return fmt.Errorf("broker %d still has replicas of %s: `coldbrook cluster drain %d` moves them", id, count(int64(len(held)), "partition"), id)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = int32(id)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("forget broker %d: %w", id, err)
	}
	if err := answerError(fmt.Sprintf("forget broker %d", id), resp.ErrorCode, resp.ErrorMessage); err != nil {
		return err
	}
	a.note("forgot broker %d", id)
	return nil
}

// holding returns the partitions that the broker has a replica of.
func (v *clusterView) holding(id metadata.BrokerID) []metadata.TopicPartition {
	var out []metadata.TopicPartition
	v.eachPartition(func(t *metadata.Topic, n int32, p metadata.Partition) {
		if slices.Contains(p.Replicas, id) {
			out = append(out, metadata.TopicPartition{Topic: t.Name, Partition: n})
		}
	})
	return out
}
