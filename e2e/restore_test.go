package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

const (
	drillPartitions = 3
	drillUntiered   = "drill-untiered"
	drillBare       = "drill-bare"
	drillDeleted    = "drill-deleted"
	drillWithin     = 2 * time.Minute
)

// drill is a cluster that will be lost, and what was promised to its clients.
type drill struct {
	t       *testing.T
	c       *cluster.Cluster
	dir     string
	store   string
	env     []string
	topics  []string
	acked   map[string][][]string                       // values by topic, partition and offset
	commits map[string]map[string]map[int32]kadm.Offset // by group and topic
	seed    *rand.Rand
}

// TestLostClusterComesBackFromItsBucket destroys every disk and etcd. What was
// acked and uploaded, ids, configurations and the groups' offsets are there again;
// what is lost is exactly what was not uploaded, and was announced.
func TestLostClusterComesBackFromItsBucket(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	d := newDrill(ctx, t)
	d.fill(ctx)
	before := d.describe(ctx)
	d.awaitSnapshot(ctx)
	ends := d.remoteEnds(ctx)

	destroyed := time.Now()
	d.destroy()
	plan := d.restore(ctx)
	restored := time.Now()
	if err := d.c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	scenario.AwaitHealthy(ctx, t, d.c)
	t.Logf("restored %d topics in %s, healthy %s after that", len(plan.Topics), restored.Sub(destroyed).Round(time.Millisecond), time.Since(restored).Round(time.Millisecond))

	if diff := cmp.Diff(before, d.describe(ctx)); diff != "" {
		t.Errorf("ids, partitions, replicas or configurations differ (-before +after):\n%s", diff)
	}
	lost := d.checkPlan(plan, ends)
	d.checkRecords(ctx, ends)
	moved := d.checkOffsets(ctx, ends)
	if moved != plan.Moved {
		t.Errorf("%d offsets were in a lost tail, %d announced", moved, plan.Moved)
	}
	t.Logf("%d records lost, %d offsets moved back", lost, moved)
	d.checkLifeGoesOn(ctx, ends)
}

func newDrill(ctx context.Context, t *testing.T) *drill {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if !drillMinIO {
		return startDrill(ctx, t, drillBrokers, path, "file://"+filepath.Join(t.TempDir(), "objects"), nil)
	}
	minio := servers.MinIO(t)
	minio.Bucket(t, "coldbrook")
	return startDrill(ctx, t, drillBrokers, path, minio.MinIOURL("coldbrook"), minio.Env())
}

// soloDrill is a cluster of one broker that keeps its objects in a directory.
func soloDrill(ctx context.Context, t *testing.T, path, objects string) *drill {
	t.Helper()
	return startDrill(ctx, t, 1, path, "file://"+objects, nil)
}

func startDrill(ctx context.Context, t *testing.T, brokers int, path, store string, env []string) *drill {
	t.Helper()
	d := &drill{t: t, dir: t.TempDir(), store: store, env: env, acked: map[string][][]string{},
		commits: map[string]map[string]map[int32]kadm.Offset{}, seed: rand.New(rand.NewPCG(1, 2))}
	settings := scenario.Settings()
	factor := strconv.Itoa(min(3, brokers))
	settings["cluster.snapshot.interval.ms"] = "300"
	settings["default.replication.factor"], settings["offsets.topic.replication.factor"] = factor, factor
	settings["min.insync.replicas"] = strconv.Itoa(min(2, brokers))
	settings["remote.delete.grace.ms"] = "600000"
	var err error
	d.c, err = cluster.NewCluster(ctx, cluster.ClusterOptions{
		Kind: cluster.Subprocess, Brokers: brokers, Dir: d.dir, Binary: path, StoreURL: store, Env: env, Settings: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, b := range d.c.Brokers {
				t.Logf("log of broker %d:\n%s", b.ID(), tail(b.Log(), 24<<10))
			}
		}
		if err := d.c.Close(context.Background()); err != nil {
			t.Errorf("end of the cluster: %v", err)
		}
	})
	if err := d.c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// removeCluster deletes what a cluster has in a store that is a directory.
func (d *drill) removeCluster(id string) {
	d.t.Helper()
	if err := os.RemoveAll(filepath.Join(strings.TrimPrefix(d.store, "file://"), id)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *drill) client(o ...kgo.Opt) *kgo.Client {
	d.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(d.c.Kafka()...), kgo.MetadataMinAge(10 * time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(4 << 10), kgo.ProducerBatchCompression(kgo.NoCompression())}, o...)...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(cl.Close)
	return cl
}

// fill makes topics, records and groups.
func (d *drill) fill(ctx context.Context) {
	d.t.Helper()
	seeds, factor := d.c.Kafka(), int16(min(3, drillBrokers))
	for i := range drillTopics {
		name := fmt.Sprintf("drill-%02d", i)
		settings := []string{"internal.segment.bytes", "32768", "local.retention.bytes", "1"}
		if i%2 == 0 {
			settings = append(settings, "retention.ms", fmt.Sprint(864_000_000+i))
		}
		scenario.CreateReplicated(ctx, d.t, seeds, name, drillPartitions, factor, settings...)
		d.topics = append(d.topics, name)
	}
	scenario.CreateReplicated(ctx, d.t, seeds, drillUntiered, drillPartitions, factor, "remote.storage.enable", "false")
	d.topics = append(d.topics, drillUntiered)
	scenario.CreateReplicated(ctx, d.t, seeds, drillBare, drillPartitions, factor, "cleanup.policy", "delete")
	d.topics, d.acked[drillBare] = append(d.topics, drillBare), make([][]string, drillPartitions)
	scenario.CreateReplicated(ctx, d.t, seeds, drillDeleted, drillPartitions, factor, "internal.segment.bytes", "32768")
	cl := d.client()
	for _, name := range append(d.topics[:len(d.topics):len(d.topics)], drillDeleted) {
		if name != drillBare {
			d.produce(ctx, cl, name, drillRecords)
		}
	}
	adm := kadm.NewClient(cl)
	d.commit(ctx, adm)
	if _, err := adm.DeleteTopics(ctx, drillDeleted); err != nil {
		d.t.Fatal(err)
	}
	delete(d.acked, drillDeleted)
}

// produce appends records to each partition of a topic and remembers those acked.
func (d *drill) produce(ctx context.Context, cl *kgo.Client, topic string, n int) {
	d.t.Helper()
	if d.acked[topic] == nil {
		d.acked[topic] = make([][]string, drillPartitions)
	}
	var records []*kgo.Record
	for p := range int32(drillPartitions) {
		for i := range n + d.seed.IntN(n/4+1) {
			value := fmt.Sprintf("%s-%d-%d-%s", topic, p, i, strings.Repeat(string(rune('a'+i%26)), 200+d.seed.IntN(600)))
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte(value)})
		}
	}
	for _, r := range cl.ProduceSync(ctx, records...) {
		if r.Err != nil {
			d.t.Fatal(r.Err)
		}
		values := &d.acked[topic][r.Record.Partition]
		if int(r.Record.Offset) != len(*values) {
			d.t.Fatalf("%s-%d: offset %d after %d records", topic, r.Record.Partition, r.Record.Offset, len(*values))
		}
		*values = append(*values, string(r.Record.Value))
	}
}

// commit has groups commit offsets all over what was produced, the end too.
func (d *drill) commit(ctx context.Context, adm *kadm.Client) {
	d.t.Helper()
	for i := range drillGroups {
		name := fmt.Sprintf("drill-group-%02d", i)
		var all kadm.Offsets
		d.commits[name] = map[string]map[int32]kadm.Offset{}
		for _, topic := range d.topics {
			if d.seed.IntN(2) == 0 {
				continue
			}
			d.commits[name][topic] = map[int32]kadm.Offset{}
			for p, values := range d.acked[topic] {
				o := kadm.Offset{Topic: topic, Partition: int32(p), At: int64(d.seed.IntN(len(values) + 1)), LeaderEpoch: -1, Metadata: fmt.Sprint("note ", i)}
				if d.seed.IntN(4) == 0 {
					o.At = int64(len(values))
				}
				all.Add(o)
				d.commits[name][topic][int32(p)] = o
			}
		}
		resp, err := adm.CommitOffsets(ctx, name, all)
		if err == nil {
			err = resp.Error()
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// topicState is what must come back of a topic beside its records.
type topicState struct {
	ID         string
	Partitions int
	Replicas   [][]int32
	Configs    map[string]string
}

func (d *drill) describe(ctx context.Context) map[string]topicState {
	d.t.Helper()
	adm := kadm.NewClient(d.client())
	topics, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]topicState{}
	for _, t := range topics {
		s := topicState{ID: t.ID.String(), Partitions: len(t.Partitions), Configs: map[string]string{}}
		for _, p := range t.Partitions.Sorted() {
			s.Replicas = append(s.Replicas, p.Replicas)
		}
		out[t.Topic] = s
	}
	for _, r := range configs {
		for _, c := range r.Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" && c.Value != nil {
				out[r.Name].Configs[c.Key] = *c.Value
			}
		}
	}
	return out
}

// command runs coldbrook and decodes what it prints.
func (d *drill) command(ctx context.Context, into any, args ...string) error {
	path, err := binary()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// The tests' own variables are no settings.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "COLDBROOK_") })
	cmd.Env = append(cmd.Env, d.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return json.Unmarshal(out, into)
}

// awaitSnapshot waits until all that can be uploaded is, and a dry run knows the
// end of every log and every committed offset.
func (d *drill) awaitSnapshot(ctx context.Context) {
	d.t.Helper()
	want := 0
	for _, topics := range d.commits {
		for _, parts := range topics {
			want += len(parts)
		}
	}
	d.await(ctx, func() error {
		for _, b := range d.c.Brokers {
			rows, err := b.Tier(ctx)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if tiered := r.HighestRemoteOffset >= 0 || !strings.HasPrefix(r.Topic, "drill-0"); r.PendingSegments > 0 || !tiered {
					return fmt.Errorf("%s-%d: %d segments wait for upload", r.Topic, r.Partition, r.PendingSegments)
				}
			}
		}
		var plan restore.Plan
		if err := d.command(ctx, &plan, "cluster", "restore", "--dry-run", "--store", d.store, "-o", "json"); err != nil {
			return err
		}
		for _, p := range plan.Partition {
			if p.Topic == drillDeleted || p.LogEnd != int64(len(d.acked[p.Topic][p.Partition])) {
				return fmt.Errorf("%s-%d ends at %d in the snapshot", p.Topic, p.Partition, p.LogEnd)
			}
		}
		if plan.Offsets != want || plan.Groups != drillGroups {
			return fmt.Errorf("%d offsets of %d groups, want %d of %d", plan.Offsets, plan.Groups, want, drillGroups)
		}
		return nil
	})
}

func (d *drill) await(ctx context.Context, ask func() error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, drillWithin)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("not within %s: %v", drillWithin, err)
		}
	}
}

var errNotUploaded = errors.New("segments wait for upload")

// ends are where the tier ends, by topic and partition.
type ends map[string][]int64

// remoteEnds asks the leaders what they have uploaded.
func (d *drill) remoteEnds(ctx context.Context) ends {
	d.t.Helper()
	out := ends{}
	for _, topic := range d.topics {
		out[topic] = make([]int64, drillPartitions)
	}
	for _, b := range d.c.Brokers {
		rows, err := b.Tier(ctx)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, r := range rows {
			if at := out[r.Topic]; at != nil {
				at[r.Partition] = r.HighestRemoteOffset + 1
			}
		}
	}
	return out
}

// destroy leaves the bucket and nothing else.
func (d *drill) destroy() {
	d.t.Helper()
	for _, b := range d.c.Brokers {
		if err := b.Kill(); err != nil {
			d.t.Fatal(err)
		}
		if err := b.LoseDisk(d.t.Context()); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := d.c.Etcd.Stop(); err != nil {
		d.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(d.dir, "etcd")); err != nil {
		d.t.Fatal(err)
	}
}

// restore starts an empty etcd and writes the cluster into it.
func (d *drill) restore(ctx context.Context) *restore.Plan {
	d.t.Helper()
	if err := d.c.Etcd.Start(ctx); err != nil {
		d.t.Fatal(err)
	}
	args := []string{"cluster", "restore", "--store", d.store, "--etcd", d.c.Etcd.Endpoint(), "-o", "json"}
	plan := new(restore.Plan)
	if err := d.command(ctx, plan, args...); err == nil || !strings.Contains(err.Error(), "--force") {
		d.t.Fatalf("a cluster that was alive a moment ago was restored: %v", err)
	}
	if err := d.command(ctx, plan, append(args, "--force")...); err != nil {
		d.t.Fatal(err)
	}
	if err := d.command(ctx, new(restore.Plan), append(args, "--force")...); err == nil || !strings.Contains(err.Error(), "there is a cluster already") {
		d.t.Fatalf("restored twice: %v", err)
	}
	return plan
}

// checkPlan compares what was announced with what was uploaded.
func (d *drill) checkPlan(plan *restore.Plan, ends ends) (lost int64) {
	d.t.Helper()
	rows := 0
	for _, p := range plan.Partition {
		if ends[p.Topic] == nil {
			d.t.Errorf("topic %s comes back", p.Topic)
			continue
		}
		rows++
		acked := int64(len(d.acked[p.Topic][p.Partition]))
		end := ends[p.Topic][p.Partition]
		if p.EndOffset != end || p.StartOffset != 0 || p.LogEnd != acked || p.Lost != acked-end {
			d.t.Errorf("%s-%d: announced %+v, uploaded up to %d of %d", p.Topic, p.Partition, p, end, acked)
		}
		if end == 0 && strings.HasPrefix(p.Topic, "drill-0") {
			d.t.Errorf("%s-%d: nothing was uploaded", p.Topic, p.Partition)
		}
		lost += p.Lost
	}
	if want := len(ends) * drillPartitions; rows != want {
		d.t.Errorf("%d partitions come back, want %d", rows, want)
	}
	return lost
}

// checkRecords reads all: exactly what was acked and uploaded.
func (d *drill) checkRecords(ctx context.Context, ends ends) {
	d.t.Helper()
	at := map[string]map[int32]kgo.Offset{}
	left := 0
	adm := kadm.NewClient(d.client())
	for topic, list := range ends {
		got, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			d.t.Fatal(err)
		}
		at[topic] = map[int32]kgo.Offset{}
		for p, end := range list {
			if o, ok := got.Lookup(topic, int32(p)); !ok || o.Err != nil || o.Offset != end {
				d.t.Errorf("%s-%d ends at %+v, want %d", topic, p, o, end)
			}
			at[topic][int32(p)] = kgo.NewOffset().At(0)
			left += int(end)
		}
	}
	cl := d.client(kgo.ConsumePartitions(at))
	ctx, cancel := context.WithTimeout(ctx, drillWithin)
	defer cancel()
	next := map[string][]int64{}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			d.t.Fatalf("%d records are missing: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next[r.Topic] == nil {
				next[r.Topic] = make([]int64, drillPartitions)
			}
			if want := next[r.Topic][r.Partition]; r.Offset != want || string(r.Value) != d.acked[r.Topic][r.Partition][r.Offset] {
				d.t.Fatalf("%s-%d: offset %d with %.40q, want offset %d with %.40q", r.Topic, r.Partition, r.Offset, r.Value, want, d.acked[r.Topic][r.Partition][want])
			}
			next[r.Topic][r.Partition]++
			left--
		})
	}
}

// checkOffsets compares the groups' offsets: as committed, or where the lost tail begins.
func (d *drill) checkOffsets(ctx context.Context, ends ends) (moved int) {
	d.t.Helper()
	adm := kadm.NewClient(d.client())
	for name, topics := range d.commits {
		got, err := adm.FetchOffsets(ctx, name)
		if err != nil {
			d.t.Fatal(err)
		}
		n := 0
		for topic, parts := range topics {
			for p, want := range parts {
				n++
				end := ends[topic][p]
				if want.At > end {
					moved++
				}
				o, ok := got.Lookup(topic, p)
				if !ok || o.At != min(want.At, end) || o.Metadata != want.Metadata {
					d.t.Errorf("group %s, %s-%d: offset %+v, committed %d, the tier ends at %d", name, topic, p, o, want.At, end)
				}
			}
		}
		if have := len(got.Offsets().Sorted()); have != n {
			d.t.Errorf("group %s has %d offsets, want %d", name, have, n)
		}
	}
	return moved
}

// checkLifeGoesOn: what comes next gets the offsets of the lost tail, in a later
// leader epoch, and is uploaded behind what came back.
func (d *drill) checkLifeGoesOn(ctx context.Context, ends ends) {
	d.t.Helper()
	topic := d.topics[0]
	for p := range d.acked[topic] {
		d.acked[topic][p] = d.acked[topic][p][:ends[topic][p]]
	}
	d.produce(ctx, d.client(), topic, drillRecords)
	d.await(ctx, func() error {
		for _, b := range d.c.Brokers {
			rows, err := b.Tier(ctx)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Topic == topic && r.HighestRemoteOffset < ends[topic][r.Partition] {
					return fmt.Errorf("%s-%d: uploaded up to %d", topic, r.Partition, r.HighestRemoteOffset)
				}
			}
		}
		return nil
	})
	after := ends
	for p, values := range d.acked[topic] {
		after[topic][p] = int64(len(values))
	}
	d.checkRecords(ctx, after)
}
