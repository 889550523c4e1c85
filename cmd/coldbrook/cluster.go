package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

func (a *app) clusterCommand() *cobra.Command {
	return family("cluster", "Show a cluster's state, move partitions, empty and balance brokers",
		a.clusterStatus(), a.clusterBrokers(), a.clusterReassign(), a.clusterDrain(), a.clusterBalance(), a.clusterElect(), a.clusterRestore(), a.clusterEtcd())
}

// cluster runs f with a client that has reached a broker. Other than admin's, ctx is unbounded: f may
// watch for hours. Each request has its own bound.
func (a *app) cluster(ctx context.Context, f func(context.Context, *kgo.Client) error) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	return f(ctx, cl)
}

// clusterView is the cluster as one broker saw it, in the words of those who plan.
type clusterView struct {
	ID         string
	Controller metadata.BrokerID
	Brokers    []brokerView // all that are registered, by id
	Topics     []*metadata.Topic
}

// brokerView is one registered broker.
type brokerView struct {
	metadata.Broker
	Host string
	Port int32
	Live bool
}

func (v *clusterView) broker(id metadata.BrokerID) (brokerView, bool) {
	i, ok := slices.BinarySearchFunc(v.Brokers, id, func(b brokerView, id metadata.BrokerID) int { return cmp.Compare(b.ID, id) })
	if !ok {
		return brokerView{}, false
	}
	return v.Brokers[i], true
}

func (v *clusterView) live(id metadata.BrokerID) bool { b, ok := v.broker(id); return ok && b.Live }

// away returns the ids of registered brokers that do not live.
func (v *clusterView) away() []metadata.BrokerID {
	out := []metadata.BrokerID{}
	for _, b := range v.Brokers {
		if !b.Live {
			out = append(out, b.ID)
		}
	}
	return out
}

// eachPartition goes through all partitions by topic and number.
func (v *clusterView) eachPartition(do func(t *metadata.Topic, n int32, p metadata.Partition)) {
	for _, t := range v.Topics {
		for n, p := range t.Partitions {
			do(t, int32(n), p)
		}
	}
}

func (v *clusterView) partition(topic string, n int32) (metadata.Partition, bool) {
	i, ok := slices.BinarySearchFunc(v.Topics, topic, func(t *metadata.Topic, name string) int { return strings.Compare(t.Name, name) })
	if !ok || n < 0 || int(n) >= len(v.Topics[i].Partitions) {
		return metadata.Partition{}, false
	}
	return v.Topics[i].Partitions[n], true
}

// moving says whether a reassignment of the partition is in progress.
func moving(p metadata.Partition) bool { return len(p.Adding)+len(p.Removing) > 0 }

// target is what the partition's replicas will be.
func target(p metadata.Partition) []metadata.BrokerID {
	return slices.DeleteFunc(slices.Clone(p.Replicas), func(id metadata.BrokerID) bool { return slices.Contains(p.Removing, id) })
}

// fetchView asks for all of it. With roles it also asks each live broker for its own.
func fetchView(ctx context.Context, cl *kgo.Client, roles bool) (*clusterView, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	v, err := fetchBrokers(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := fetchTopics(ctx, cl, v); err != nil {
		return nil, err
	}
	if err := fetchReassignments(ctx, cl, v); err != nil {
		return nil, err
	}
	if roles {
		fetchRoles(ctx, cl, v)
	}
	return v, nil
}

func fetchBrokers(ctx context.Context, cl *kgo.Client) (*clusterView, error) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("describe cluster: %w", err)
	}
	if err := answerError("describe cluster", resp.ErrorCode, resp.ErrorMessage); err != nil {
		return nil, err
	}
	v := &clusterView{ID: resp.ClusterID, Controller: metadata.BrokerID(resp.ControllerID)}
	for _, b := range resp.Brokers {
		row := brokerView{Broker: metadata.Broker{ID: metadata.BrokerID(b.NodeID)}, Host: b.Host, Port: b.Port, Live: !b.IsFenced}
		if b.Rack != nil {
			row.Rack = *b.Rack
		}
		v.Brokers = append(v.Brokers, row)
	}
	slices.SortFunc(v.Brokers, func(x, y brokerView) int { return cmp.Compare(x.ID, y.ID) })
	return v, nil
}

func fetchTopics(ctx context.Context, cl *kgo.Client, v *clusterView) error {
	req := kmsg.NewPtrMetadataRequest() // no topics: all
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		if err := answerError("topic "+*t.Topic, t.ErrorCode, nil); err != nil {
			return err
		}
		topic := &metadata.Topic{Name: *t.Topic, ID: metadata.TopicID(t.TopicID), Partitions: make([]metadata.Partition, len(t.Partitions))}
		for _, p := range t.Partitions {
			if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
				return fmt.Errorf("topic %s has a partition %d of %d", topic.Name, p.Partition, len(t.Partitions))
			}
			topic.Partitions[p.Partition] = metadata.Partition{
				Replicas: brokerIDs(p.Replicas), ISR: brokerIDs(p.ISR), Leader: metadata.BrokerID(p.Leader), LeaderEpoch: p.LeaderEpoch,
			}
		}
		v.Topics = append(v.Topics, topic)
	}
	slices.SortFunc(v.Topics, func(x, y *metadata.Topic) int { return strings.Compare(x.Name, y.Name) })
	return nil
}

func fetchReassignments(ctx context.Context, cl *kgo.Client, v *clusterView) error {
	req := kmsg.NewPtrListPartitionReassignmentsRequest() // no topics: all
	// The client sends this to the controller; while there is none, any broker knows it too.
	ask := cl.Request
	if v.Controller < 0 {
		if i := slices.IndexFunc(v.Brokers, func(b brokerView) bool { return b.Live }); i >= 0 {
			ask = cl.Broker(int(v.Brokers[i].ID)).RetriableRequest
		}
	}
	answer, err := ask(ctx, req)
	if err != nil {
		return fmt.Errorf("list reassignments: %w", err)
	}
	resp := answer.(*kmsg.ListPartitionReassignmentsResponse)
	if err := answerError("list reassignments", resp.ErrorCode, resp.ErrorMessage); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			i, ok := slices.BinarySearchFunc(v.Topics, t.Topic, func(x *metadata.Topic, name string) int { return strings.Compare(x.Name, name) })
			if !ok || int(p.Partition) >= len(v.Topics[i].Partitions) || p.Partition < 0 {
				continue // made since the topics were listed
			}
			at := &v.Topics[i].Partitions[p.Partition]
			at.Replicas, at.Adding, at.Removing = brokerIDs(p.Replicas), brokerIDs(p.AddingReplicas), brokerIDs(p.RemovingReplicas)
		}
	}
	return nil
}

// roleTimeout bounds what one broker may take to say what it is.
const roleTimeout = 5 * time.Second

// fetchRoles asks every live broker for its role. One that does not answer, or knows no roles, is taken
// for one that holds partitions: what is moved is checked by the controller anyway.
func fetchRoles(ctx context.Context, cl *kgo.Client, v *clusterView) {
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, b := range v.Brokers {
		if b.Live {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(b.ID)), []string{"broker.role"}
			req.Resources = append(req.Resources, r)
		}
	}
	if len(req.Resources) == 0 {
		return
	}
	for _, shard := range cl.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.DescribeConfigsResponse)
		if shard.Err != nil || !ok {
			continue
		}
		for _, r := range resp.Resources {
			for i := range v.Brokers {
				if strconv.Itoa(int(v.Brokers[i].ID)) != r.ResourceName {
					continue
				}
				for _, c := range r.Configs {
					if c.Name == "broker.role" && c.Value != nil && *c.Value == metadata.RoleReplay {
						v.Brokers[i].Role = metadata.RoleReplay
					}
				}
			}
		}
	}
}

// answerError is the error of an answer's code and the sentence that came with it.
func answerError(what string, code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	if message == nil {
		return brokerError(what, err, "")
	}
	return brokerError(what, err, *message)
}

func brokerIDs(in []int32) []metadata.BrokerID {
	out := make([]metadata.BrokerID, len(in))
	for i, id := range in {
		out[i] = metadata.BrokerID(id)
	}
	return out
}

func int32s(in []metadata.BrokerID) []int32 {
	out := make([]int32, len(in))
	for i, id := range in {
		out[i] = int32(id)
	}
	return out
}

// ids writes broker ids with commas.
func ids(in []metadata.BrokerID) string { return numbers(int32s(in)) }

// brokerID reads an argument.
func brokerID(s string) (metadata.BrokerID, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, usagef("%s: want a broker's id", s)
	}
	return metadata.BrokerID(n), nil
}

// selection is topics, each with some of its partitions or, if nil, with all.
type selection map[string][]int32

// parseSelection reads TOPIC and TOPIC:0,3 arguments.
func parseSelection(args []string) (selection, error) {
	s := selection{}
	for _, arg := range args {
		name, list, some := strings.Cut(arg, ":")
		if _, twice := s[name]; twice {
			return nil, usagef("%s is given twice", name)
		}
		if err := metadata.ValidTopicName(name); err != nil {
			return nil, usageError{err}
		}
		s[name] = nil
		for p := range strings.SplitSeq(list, ",") {
			if !some {
				break
			}
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil || n < 0 {
				return nil, usagef("%s: want TOPIC or TOPIC:0,1,…", arg)
			}
			s[name] = append(s[name], int32(n))
		}
		slices.Sort(s[name])
		s[name] = slices.Compact(s[name])
	}
	return s, nil
}

// has says whether the partition is selected; an empty selection is all.
func (s selection) has(topic string, partition int32) bool {
	list, ok := s[topic]
	return len(s) == 0 || ok && (list == nil || slices.Contains(list, partition))
}

// check returns an error for what the cluster has not.
func (s selection) check(v *clusterView) error {
	for _, topic := range sorted(s) {
		if _, ok := v.partition(topic, 0); !ok {
			return brokerError("topic "+topic, kerr.UnknownTopicOrPartition, "")
		}
		for _, n := range s[topic] {
			if _, ok := v.partition(topic, n); !ok {
				return fmt.Errorf("topic %s has no partition %d", topic, n)
			}
		}
	}
	return nil
}

// some writes a bounded list.
func some[T any](all []T, most int, write func(T) string) string {
	var b strings.Builder
	for i, v := range all {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(all)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(write(v))
	}
	return b.String()
}

// line is one line about something that goes on: the same one again on a terminal, else one every few
// seconds. It belongs to one goroutine.
type line struct {
	a       *app
	text    string
	last    time.Time
	visible bool
}

// How often a line is written where it cannot be replaced: news, and what has been said already.
const (
	lineEvery  = 5 * time.Second
	againEvery = time.Minute
)

// say shows the text, if it is time.
func (l *line) say(text string) {
	now := time.Now()
	switch {
	case l.a.errTerminal:
		l.visible = true
		fmt.Fprint(l.a.err, "\r\x1b[K"+text)
	case l.last.IsZero(), text != l.text && now.Sub(l.last) >= lineEvery, now.Sub(l.last) >= againEvery:
		l.text, l.last = text, now
		l.a.note("%s", text)
	}
}

// done removes it from a terminal.
func (l *line) done() {
	if l.visible {
		fmt.Fprint(l.a.err, "\r\x1b[K")
		l.visible = false
	}
}

// pause waits for the next look.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
