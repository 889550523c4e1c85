package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/metadata"
)

// moveOptions are the flags of all that moves partitions.
type moveOptions struct {
	throttle int64 // bytes/s, 0: none
	dryRun   bool
	wait     bool
}

func (o *moveOptions) check(given func(string) bool) error {
	if given("throttle") && o.throttle < 1 {
		return usagef("--throttle %d: want at least 1 byte/s", o.throttle)
	}
	if o.throttle > 0 {
		o.wait = true // the limit is removed at the end
	}
	return nil
}

// move shows the moves and, unless it is a dry run, makes them.
func (a *app) move(ctx context.Context, cl *kgo.Client, v *clusterView, moves []move, o moveOptions) (err error) {
	if err := a.printMoves(moves); err != nil {
		return err
	}
	switch {
	case len(moves) == 0:
		a.note("there is nothing to move")
		return nil
	case o.dryRun:
		a.note("nothing was moved: this was a dry run")
		return nil
	}
	if o.throttle > 0 {
		if err := setThrottles(ctx, cl, throttlesOf(v, moves), o.throttle); err != nil {
			return err
		}
	}
	var req kadm.AlterPartitionAssignmentsReq
	for _, m := range moves {
		req.Assign(m.Topic, m.Partition, int32s(m.To))
	}
	if err := alterAssignments(ctx, cl, req); err != nil {
		if o.throttle > 0 {
			err = errors.Join(err, a.unthrottle(ctx, cl, moves))
		}
		return err
	}
	if !o.wait {
		a.note("began to move %s; `coldbrook cluster reassign --wait` watches", count(int64(len(moves)), "partition"))
		return nil
	}
	if err := a.awaitMoves(ctx, cl, moves); err != nil {
		if o.throttle > 0 {
			a.note("the limit stays too: `coldbrook cluster reassign --unthrottle` removes it")
		}
		return err
	}
	if o.throttle > 0 {
		return a.unthrottle(ctx, cl, moves)
	}
	return nil
}

// printMoves shows a plan: for people what changes, for programs in the form that --plan reads.
func (a *app) printMoves(moves []move) error {
	if a.json() {
		return a.printJSON(planOf(moves))
	}
	if len(moves) == 0 {
		return nil
	}
	t := newTable("TOPIC", "<PARTITION", "REPLICAS NOW", "REPLICAS THEN", "COPIED TO")
	for _, m := range moves {
		t.add(m.Topic, m.Partition, ids(m.From), ids(m.To), orDash(ids(m.adding())))
	}
	return t.print(a.out)
}

func alterAssignments(ctx context.Context, cl *kgo.Client, req kadm.AlterPartitionAssignmentsReq) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(requestTimeout.Milliseconds()))
	rs, err := adm.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return fmt.Errorf("reassign: %w", err)
	}
	var errs []error
	for _, r := range rs.Sorted() {
		if r.Err != nil {
			errs = append(errs, brokerError(fmt.Sprintf("reassign %s-%d", r.Topic, r.Partition), r.Err, r.ErrMessage))
		}
	}
	return errors.Join(errs...)
}

const (
	// moveEvery is how often a move is looked at.
	moveEvery = time.Second
	// lostAfter is how long nobody may answer before we stop watching.
	lostAfter = 2 * time.Minute
	// undoneAfter is how long a partition may be at rest with other replicas than it was given, as it is
	// until the broker that we ask has seen the change.
	undoneAfter = 15 * time.Second
)

// awaitMoves watches until all partitions have the replicas they were given.
func (a *app) awaitMoves(ctx context.Context, cl *kgo.Client, moves []move) error {
	shown, w := &line{a: a}, newMoveWatch(moves)
	defer shown.done()
	for good := time.Now(); ; {
		v, err := fetchView(ctx, cl, false)
		switch {
		case ctx.Err() != nil:
		case err != nil && time.Since(good) > lostAfter:
			return fmt.Errorf("cannot see how the move goes on: %w", err)
		case err != nil:
			shown.say(err.Error())
		default:
			good = time.Now()
			if err := w.look(v, good); err != nil {
				return err
			}
			if len(w.left) == 0 {
				shown.done()
				a.note("moved %s in %s", count(int64(len(moves)), "partition"), span(good.Sub(w.begun)))
				return nil
			}
			bytes := bytesLeft(v, w.left, fetchSizes(ctx, cl, topicsOf(w.left)))
			shown.say(w.line(v, bytes, good))
		}
		if err := pause(ctx, moveEvery); err != nil {
			shown.done()
			a.note("the move goes on: `coldbrook cluster reassign --wait` watches it, --list shows it, --cancel takes it back")
			return err
		}
	}
}

// moveWatch is how far some moves are.
type moveWatch struct {
	moves []move
	left  []move
	begun time.Time
	// rest is since when a partition is at rest with other replicas.
	rest map[metadata.TopicPartition]time.Time
	// first is what was left when it was known first, for the rate.
	first   int64
	firstAt time.Time
}

func newMoveWatch(moves []move) *moveWatch {
	return &moveWatch{moves: moves, begun: time.Now(), rest: map[metadata.TopicPartition]time.Time{}}
}

// look finds what is left, or that somebody has undone a move.
func (w *moveWatch) look(v *clusterView, now time.Time) error {
	w.left = nil
	var undone []string
	for _, m := range w.moves {
		p, ok := v.partition(m.Topic, m.Partition)
		if !ok {
			continue // deleted meanwhile
		}
		if moving(p) {
			delete(w.rest, m.TopicPartition)
		} else if sameBrokers(p.Replicas, m.To) {
			continue
		} else if since, seen := w.rest[m.TopicPartition]; !seen {
			w.rest[m.TopicPartition] = now
		} else if now.Sub(since) > undoneAfter {
			undone = append(undone, fmt.Sprintf("%s has replicas %s, not %s", m.TopicPartition, ids(p.Replicas), ids(m.To)))
		}
		w.left = append(w.left, m)
	}
	if len(undone) > 0 {
		return fmt.Errorf("the move of %s was cancelled or replaced: %s", count(int64(len(undone)), "partition"), some(undone, 10, func(s string) string { return s }))
	}
	return nil
}

// line says how far it is. bytes is what is left to copy.
func (w *moveWatch) line(v *clusterView, bytes int64, now time.Time) string {
	out := fmt.Sprintf("moving: %d of %s done", len(w.moves)-len(w.left), count(int64(len(w.moves)), "partition"))
	if bytes > 0 {
		out += ", " + size(bytes) + " to copy"
		if w.firstAt.IsZero() || bytes > w.first {
			w.first, w.firstAt = bytes, now
		}
		if took := now.Sub(w.firstAt); took > 2*time.Second && bytes < w.first {
			rate := float64(w.first-bytes) / took.Seconds()
			out += fmt.Sprintf(", %s/s, %s left", size(int64(rate)), span(time.Duration(float64(bytes)/rate*float64(time.Second))))
		}
	}
	var gone []metadata.BrokerID
	for _, m := range w.left {
		for _, id := range m.To {
			if !v.live(id) && !slices.Contains(gone, id) {
				gone = append(gone, id)
			}
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		out += ", waiting for broker " + ids(gone) + ", which is away"
	}
	return out
}

// bytesLeft is what the new replicas lack of what their leaders have on disk. What is only in object
// storage is not copied.
func bytesLeft(v *clusterView, left []move, sizes replicaSizes) int64 {
	var sum int64
	for _, m := range left {
		p, ok := v.partition(m.Topic, m.Partition)
		if !ok {
			continue
		}
		whole := sizes[p.Leader][m.TopicPartition]
		for _, id := range p.Adding {
			if !slices.Contains(p.ISR, id) {
				sum += max(whole-sizes[id][m.TopicPartition], 0)
			}
		}
	}
	return sum
}

func topicsOf(moves []move) kadm.TopicsSet {
	var s kadm.TopicsSet
	for _, m := range moves {
		s.Add(m.Topic, m.Partition)
	}
	return s
}

// Kafka's settings of replication throttles.
const (
	leaderReplicas   = "leader.replication.throttled.replicas"
	followerReplicas = "follower.replication.throttled.replicas"
	leaderRate       = "leader.replication.throttled.rate"
	followerRate     = "follower.replication.throttled.rate"
)

func setThrottles(ctx context.Context, cl *kgo.Client, t throttles, rate int64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	set := func(name, value string) kadm.AlterConfig {
		return kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
	}
	if len(t.brokers) > 0 {
		limit := strconv.FormatInt(rate, 10)
		rs, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set(leaderRate, limit), set(followerRate, limit)}, t.brokers...)
		if err := altered("throttle broker ", rs, err); err != nil {
			return err
		}
	}
	for _, topic := range sorted(t.leader) {
		rs, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{set(leaderReplicas, t.leader[topic]), set(followerReplicas, t.follower[topic])}, topic)
		if err := altered("throttle topic ", rs, err); err != nil {
			return err
		}
	}
	return nil
}

func altered(what string, rs kadm.AlterConfigsResponses, err error) error {
	errs := []error{err}
	for _, r := range rs {
		if r.Err != nil {
			errs = append(errs, brokerError(what+r.Name, r.Err, r.ErrMessage))
		}
	}
	return errors.Join(errs...)
}

// unthrottle removes the limits of some moves: of their topics, and of the brokers once nothing moves.
func (a *app) unthrottle(ctx context.Context, cl *kgo.Client, moves []move) error {
	v, err := fetchView(ctx, cl, false)
	if err != nil {
		return err
	}
	return removeThrottles(ctx, cl, v, sorted(topicsOf(moves)), len(movingRows(v, nil)) == 0)
}

// unthrottleAll removes the limits of all topics and brokers.
func (a *app) unthrottleAll(ctx context.Context, cl *kgo.Client, v *clusterView) error {
	var all []string
	for _, t := range v.Topics {
		all = append(all, t.Name)
	}
	topics, err := throttledTopics(ctx, cl, all)
	if err != nil {
		return err
	}
	if err := removeThrottles(ctx, cl, v, topics, true); err != nil {
		return err
	}
	a.note("removed the limits of %s and of all brokers", count(int64(len(topics)), "topic"))
	return nil
}

func throttledTopics(ctx context.Context, cl *kgo.Client, all []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	configs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, all...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	var out []string
	for _, r := range configs {
		if slices.ContainsFunc(r.Configs, func(c kadm.Config) bool {
			return (c.Key == leaderReplicas || c.Key == followerReplicas) && c.Source == kmsg.ConfigSourceDynamicTopicConfig
		}) {
			out = append(out, r.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func removeThrottles(ctx context.Context, cl *kgo.Client, v *clusterView, topics []string, brokers bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	unset := func(names ...string) (out []kadm.AlterConfig) {
		for _, n := range names {
			out = append(out, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: n})
		}
		return out
	}
	var errs []error
	if len(topics) > 0 {
		rs, err := adm.AlterTopicConfigs(ctx, unset(leaderReplicas, followerReplicas), topics...)
		errs = append(errs, altered("remove the limit of topic ", rs, err))
	}
	var live []int32
	for _, b := range v.Brokers {
		if b.Live {
			live = append(live, int32(b.ID))
		}
	}
	if brokers && len(live) > 0 {
		rs, err := adm.AlterBrokerConfigs(ctx, unset(leaderRate, followerRate), live...)
		errs = append(errs, altered("remove the limit of broker ", rs, err))
	}
	return errors.Join(errs...)
}
