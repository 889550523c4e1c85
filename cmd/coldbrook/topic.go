package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

func (a *app) topicCommand() *cobra.Command {
	return family("topic", "Create, list, describe, alter and delete topics",
		a.topicCreate(), a.topicList(), a.topicDescribe(), a.topicAlter(), a.topicDelete(), a.topicUndelete(), a.topicRecover())
}

// client finishes a command that talks to a broker and prints something.
func (a *app) client(c *cobra.Command) *cobra.Command {
	a.bootstrapFlag(c)
	a.outputFlag(c)
	return c
}

func (a *app) topicCreate() *cobra.Command {
	var partitions int32
	var replication int16
	var configs []string
	var ifNotExists, dryRun bool
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Example: `  coldbrook topic create events --partitions 6
  coldbrook topic create audit --config retention.ms=-1 --config local.retention.ms=3600000`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			overrides, err := pairs("config", configs)
			if err != nil {
				return err
			}
			if partitions == 0 || partitions < -1 {
				return usagef("--partitions %d: want at least 1", partitions)
			}
			if replication == 0 || replication < -1 {
				return usagef("--replication-factor %d: want at least 1", replication)
			}
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				create := adm.CreateTopics
				if dryRun {
					create = adm.ValidateCreateTopics
				}
				all, err := create(ctx, partitions, replication, overrides, args[0])
				if err != nil {
					return err
				}
				r := all[args[0]]
				if errors.Is(r.Err, kerr.TopicAlreadyExists) && ifNotExists {
					a.note("topic %s is there already", args[0])
					return nil
				}
				if r.Err != nil {
					return brokerError("create topic "+args[0], r.Err, r.ErrMessage)
				}
				return a.created(r, dryRun)
			})
		},
	}
	f := c.Flags()
	f.Int32VarP(&partitions, "partitions", "p", -1, "`number` of partitions; -1 is the broker's num.partitions")
	f.Int16VarP(&replication, "replication-factor", "r", -1, "`number` of replicas; -1 is the broker's default.replication.factor")
	f.StringArrayVarP(&configs, "config", "c", nil, "setting of the topic, `name=value`; repeatable")
	f.BoolVar(&ifNotExists, "if-not-exists", false, "succeed when the topic is there already")
	f.BoolVar(&dryRun, "dry-run", false, "let the broker check it, create nothing")
	return a.client(c)
}

// created reports a topic that was made.
func (a *app) created(r kadm.CreateTopicResponse, dryRun bool) error {
	if a.json() {
		return a.printJSON(struct {
			Topic             string `json:"topic"`
			ID                string `json:"id"`
			Partitions        int32  `json:"partitions"`
			ReplicationFactor int16  `json:"replication_factor"`
		}{r.Topic, topicID(r.ID), r.NumPartitions, r.ReplicationFactor})
	}
	verb := "created"
	if dryRun {
		verb = "could create"
	}
	a.note("%s topic %s with %s on %s", verb, r.Topic, count(int64(r.NumPartitions), "partition"), count(int64(r.ReplicationFactor), "replica"))
	return nil
}

// topicRow is one topic of `topic list -o json`.
type topicRow struct {
	Topic             string `json:"topic"`
	ID                string `json:"id"`
	Partitions        int    `json:"partitions"`
	ReplicationFactor int    `json:"replication_factor"`
	Internal          bool   `json:"internal"`
}

func (a *app) topicList() *cobra.Command {
	var internal bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the topics",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				list := adm.ListTopics
				if internal {
					list = adm.ListTopicsWithInternal
				}
				topics, err := list(ctx)
				if err != nil {
					return err
				}
				rows := []topicRow{}
				for _, t := range topics.Sorted() {
					row := topicRow{Topic: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Internal: t.IsInternal}
					for _, p := range t.Partitions {
						row.ReplicationFactor = max(row.ReplicationFactor, len(p.Replicas))
					}
					rows = append(rows, row)
				}
				if a.json() {
					return a.printJSON(rows)
				}
				t := newTable("TOPIC", "<PARTITIONS", "<REPLICAS", "ID")
				for _, r := range rows {
					t.add(r.Topic, r.Partitions, r.ReplicationFactor, r.ID)
				}
				return t.print(a.out)
			})
		},
	}
	c.Flags().BoolVar(&internal, "internal", false, "also those the brokers keep for themselves")
	return a.client(c)
}

// topicID writes a topic id as Kafka does; empty for brokers that have none.
func topicID(id kadm.TopicID) string {
	if id == (kadm.TopicID{}) {
		return ""
	}
	return metadata.TopicID(id).String() // kadm's own String is not Kafka's spelling
}

func (a *app) topicAlter() *cobra.Command {
	var set, unset []string
	var partitions int
	var dryRun bool
	c := &cobra.Command{
		Use:   "alter NAME",
		Short: "Change a topic's settings, or add partitions",
		Example: `  coldbrook topic alter events --config retention.ms=31536000000
  coldbrook topic alter events --unset segment.bytes --partitions 12`,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			overrides, err := pairs("config", set)
			if err != nil {
				return err
			}
			var changes []kadm.AlterConfig
			for _, k := range sorted(overrides) {
				changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: overrides[k]})
			}
			for _, k := range unset {
				changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
			}
			if len(changes) == 0 && partitions == 0 {
				return usagef("nothing to change: want --config, --unset or --partitions")
			}
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				if err := alterTopic(ctx, adm, args[0], changes, partitions, dryRun); err != nil {
					return err
				}
				if dryRun {
					a.note("could change topic %s", args[0])
				} else {
					a.note("changed topic %s", args[0])
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&set, "config", "c", nil, "setting to set, `name=value`; repeatable")
	f.StringArrayVar(&unset, "unset", nil, "`name` of a setting to put back to its default; repeatable")
	f.IntVarP(&partitions, "partitions", "p", 0, "`number` of partitions to have in all")
	f.BoolVar(&dryRun, "dry-run", false, "let the broker check it, change nothing")
	a.bootstrapFlag(c)
	return c
}

func alterTopic(ctx context.Context, adm *kadm.Client, topic string, changes []kadm.AlterConfig, partitions int, dryRun bool) error {
	if len(changes) > 0 {
		alter := adm.AlterTopicConfigs
		if dryRun {
			alter = adm.ValidateAlterTopicConfigs
		}
		rs, err := alter(ctx, changes, topic)
		if err != nil {
			return err
		}
		for _, r := range rs {
			if r.Err != nil {
				return brokerError("alter topic "+topic, r.Err, r.ErrMessage)
			}
		}
	}
	if partitions > 0 {
		update := adm.UpdatePartitions
		if dryRun {
			update = adm.ValidateUpdatePartitions
		}
		rs, err := update(ctx, partitions, topic)
		if err != nil {
			return err
		}
		if r := rs[topic]; r.Err != nil {
			return brokerError("add partitions to "+topic, r.Err, r.ErrMessage)
		}
	}
	return nil
}

func (a *app) topicDelete() *cobra.Command {
	var yes, ifExists bool
	c := &cobra.Command{
		Use:               "delete NAME…",
		Short:             "Delete topics",
		Args:              atLeastOne("NAME"),
		ValidArgsFunction: a.completeTopics(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.inTerminal && !yes {
				ok, err := a.confirm("delete " + count(int64(len(args)), "topic") + " (" + strings.Join(args, ", ") + ")?")
				if err != nil || !ok {
					return errors.Join(err, errors.New("nothing was deleted"))
				}
			}
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				rs, err := adm.DeleteTopics(ctx, args...)
				if err != nil {
					return err
				}
				var errs []error
				for _, r := range rs.Sorted() {
					switch {
					case errors.Is(r.Err, kerr.UnknownTopicOrPartition) && ifExists:
						a.note("topic %s is not there", r.Topic)
					case r.Err != nil:
						errs = append(errs, brokerError("delete topic "+r.Topic, r.Err, r.ErrMessage))
					default:
						a.note("deleted topic %s", r.Topic)
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&ifExists, "if-exists", false, "succeed when a topic is not there")
	a.bootstrapFlag(c)
	return c
}

// confirm asks a question that only y or yes answers.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprint(a.err, question+" [y/N] ")
	var answer string
	if _, err := fmt.Fscanln(a.in, &answer); err != nil {
		return false, nil // an empty line or the end of input is a no
	}
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}

// topicDescription is one topic of `topic describe -o json`.
type topicDescription struct {
	topicRow
	Configs map[string]string      `json:"configs"` // what is not default
	List    []partitionDescription `json:"partition_list"`
}

type partitionDescription struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       int64   `json:"log_start_offset"`
	End         int64   `json:"high_watermark"`
	Error       string  `json:"error,omitempty"`
}

func (a *app) topicDescribe() *cobra.Command {
	var allConfigs bool
	c := &cobra.Command{
		Use:               "describe NAME…",
		Short:             "Show a topic's partitions, offsets and settings",
		Args:              atLeastOne("NAME"),
		ValidArgsFunction: a.completeTopics(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				out, err := describeTopics(ctx, adm, allConfigs, args)
				if err != nil {
					return err
				}
				if a.json() {
					return a.printJSON(out)
				}
				return a.printTopics(out)
			})
		},
	}
	c.Flags().BoolVar(&allConfigs, "all-configs", false, "also settings that have their default")
	return a.client(c)
}

func describeTopics(ctx context.Context, adm *kadm.Client, allConfigs bool, names []string) ([]topicDescription, error) {
	topics, err := adm.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, t := range topics.Sorted() {
		if t.Err != nil {
			return nil, brokerError("topic "+t.Topic, t.Err, "")
		}
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, err
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, err
	}
	out := []topicDescription{}
	for _, t := range topics.Sorted() {
		d := topicDescription{topicRow: topicRow{Topic: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Internal: t.IsInternal}, Configs: map[string]string{}}
		for _, p := range t.Partitions.Sorted() {
			d.ReplicationFactor = max(d.ReplicationFactor, len(p.Replicas))
			row := partitionDescription{Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR, Start: -1, End: -1}
			if o, ok := starts.Lookup(t.Topic, p.Partition); ok && o.Err == nil {
				row.Start = o.Offset
			}
			if o, ok := ends.Lookup(t.Topic, p.Partition); ok && o.Err == nil {
				row.End = o.Offset
			}
			if p.Err != nil {
				row.Error = p.Err.Error()
			}
			d.List = append(d.List, row)
		}
		for _, r := range configs {
			if r.Name != t.Topic {
				continue
			}
			if r.Err != nil {
				return nil, brokerError("settings of "+t.Topic, r.Err, "")
			}
			for _, e := range r.Configs {
				if allConfigs || e.Source == kmsg.ConfigSourceDynamicTopicConfig {
					d.Configs[e.Key] = e.MaybeValue()
				}
			}
		}
		out = append(out, d)
	}
	return out, nil
}

func (a *app) printTopics(all []topicDescription) error {
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintf(a.out, "%s  id %s, %s, %s\n", d.Topic, d.ID, count(int64(d.Partitions), "partition"), count(int64(d.ReplicationFactor), "replica"))
		for _, k := range sorted(d.Configs) {
			fmt.Fprintf(a.out, "  %s=%s\n", k, printable(d.Configs[k]))
		}
		t := newTable("<PARTITION", "<LEADER", "<EPOCH", "REPLICAS", "IN SYNC", "<START", "<END", "<RECORDS")
		for _, p := range d.List {
			offset := func(n int64) string {
				if n < 0 {
					return "?"
				}
				return strconv.FormatInt(n, 10)
			}
			leader, records := strconv.Itoa(int(p.Leader)), "?"
			if p.Leader < 0 {
				leader = "none"
			}
			if p.Start >= 0 && p.End >= 0 {
				records = "≤" + strconv.FormatInt(p.End-p.Start, 10)
			}
			t.add(p.Partition, leader, p.LeaderEpoch, numbers(p.Replicas), numbers(p.ISR), offset(p.Start), offset(p.End), records)
		}
		if err := t.print(a.out); err != nil {
			return err
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
