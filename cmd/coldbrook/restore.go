package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/tiering/bucket"
	"github.com/coldbrook/coldbrook/tiering/object"
	"github.com/coldbrook/coldbrook/tiering/restore"
)

// aliveWithin is how old the last sign of a cluster must be for it to count as
// dead: two clusters on one folder of a bucket delete each other's objects.
const aliveWithin = 3 * time.Minute

// restoreOptions are what `cluster restore` was asked for.
type restoreOptions struct {
	clusterID string
	brokers   []int32
	dryRun    bool
	again     bool
	force     bool
}

func (a *app) clusterRestore() *cobra.Command {
	var o restoreOptions
	c := &cobra.Command{
		Use:   "restore --store URL",
		Short: "Rebuild a lost cluster from its object store into an empty etcd",
		Long: `Rebuild a lost cluster from what is in its object store: topics under their ids, configurations,
partitions, all that was uploaded, and the committed offsets of all groups.

It writes into an empty etcd: that of --etcd, or the one inside a broker's --data-dir. Flags and
--config are those of serve; give it the file that the brokers have. Afterwards start the brokers
under the ids that the command names, all of them: each says what is on its disk, and a partition is
led by the replica that has most. Records that were not uploaded and are on no disk are lost; the
table says how many, as far as the last snapshot (one a minute) knows. Committed offsets in that lost
tail move back to where it began.

--dry-run shows all of it and needs no etcd.`,
		Example: `  coldbrook cluster restore --store 's3://my-bucket/coldbrook' --dry-run
  coldbrook cluster restore --store 's3://my-bucket/coldbrook' --etcd http://10.0.0.1:2379,http://10.0.0.2:2379
  coldbrook cluster restore --store minio://10.0.0.9:9000/coldbrook --data-dir /var/lib/coldbrook --brokers 1`,
		Args: exactly(),
	}
	load := a.settingsFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		return a.restoreCluster(cmd.Context(), s.Broker(), o)
	}
	f := c.Flags()
	f.StringVar(&o.clusterID, "cluster-id", "", "`ID` of the cluster; needed where the store has several")
	f.Int32SliceVar(&o.brokers, "brokers", nil, "`ids` of the brokers that will hold the partitions; without it those of the lost cluster")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what comes back and what is lost, write nothing")
	f.BoolVar(&o.again, "again", false, "begin anew where a restore was broken off")
	f.BoolVar(&o.force, "force", false, "restore although the cluster gave a sign of life a moment ago")
	a.outputFlag(c)
	return c
}

func (a *app) restoreCluster(ctx context.Context, c config.Broker, o restoreOptions) error {
	if !o.dryRun && c.Etcd.Embedded && len(c.Etcd.Peers) > 1 {
		return usagef("--etcd-peers: a restore needs an etcd that runs: give --etcd, or restore into the --data-dir of one broker")
	}
	store, err := object.Open(ctx, c.Remote.StoreURL, object.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // all is written by then
	objects := bucket.New(store, nil)
	id, err := chooseCluster(ctx, objects, o.clusterID, c.Remote.StoreURL)
	if err != nil {
		return err
	}
	plan, err := restore.NewPlan(ctx, objects, restore.Options{ClusterID: id, GroupsTopic: group.Topic, Brokers: brokerIDs(o.brokers), Place: controller.Place})
	if errors.Is(err, restore.ErrNoBrokers) {
		return usagef("%v: give them with --brokers, such as --brokers 1,2,3", err)
	}
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printRestore(plan, true)
	}
	if quiet := time.Since(time.UnixMilli(plan.LastSign)); quiet < aliveWithin && !o.force {
		return fmt.Errorf("cluster %s wrote into the store %s ago: two clusters on one folder destroy each other's data\nif it is stopped for good, --force restores it now", id, span(max(quiet, 0)))
	}
	if err := a.writeRestore(ctx, c, objects, plan, o); err != nil {
		return err
	}
	return a.printRestore(plan, false)
}

// chooseCluster is the cluster that was named, or the only one.
func chooseCluster(ctx context.Context, b *bucket.Bucket, id, url string) (string, error) {
	ids, err := b.Clusters(ctx)
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", fmt.Errorf("there is no cluster in %s", url)
	case id == "" && len(ids) > 1:
		return "", usagef("%s has %d clusters: choose one with --cluster-id: %s", url, len(ids), strings.Join(ids, ", "))
	case id == "":
		return ids[0], nil
	case !slices.Contains(ids, id):
		return "", fmt.Errorf("%s has no cluster %s, but %s", url, id, strings.Join(ids, ", "))
	}
	return id, nil
}

// writeRestore writes the plan into etcd.
func (a *app) writeRestore(ctx context.Context, c config.Broker, b *bucket.Bucket, plan *restore.Plan, o restoreOptions) (err error) {
	store, closeKV, err := openEtcd(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeKV()) }()
	err = metadata.CheckEmpty(ctx, store, c.ClusterName, o.again)
	if err == nil {
		if err = restore.Prepare(ctx, b, plan); err == nil {
			err = metadata.RestoreCluster(ctx, store, c.ClusterName, plan.Metadata(group.Topic), o.again)
		}
	}
	switch {
	case errors.Is(err, metadata.ErrClusterExists):
		return fmt.Errorf("%w\na cluster is restored into an empty etcd only: give another --etcd or --data-dir, or another cluster.name", err)
	case errors.Is(err, metadata.ErrRestoring):
		return fmt.Errorf("%w\nif no other restore runs, --again begins it anew", err)
	}
	return err
}

// openEtcd connects to etcd, or starts the one of a data directory.
func openEtcd(ctx context.Context, c config.Broker) (kv.KV, func() error, error) {
	if !c.Etcd.Embedded {
		secure, err := c.Etcd.TLSConfig()
		if err != nil {
			return nil, nil, err
		}
		store, err := kv.Dial(ctx, kv.DialOptions{Endpoints: c.Etcd.Endpoints, Username: c.Etcd.Username, Password: c.Etcd.Password, TLS: secure, RequestTimeout: c.Etcd.RequestTimeout})
		if err != nil {
			return nil, nil, err
		}
		return store, store.Close, nil
	}
	etcd, err := kv.StartEmbedded(ctx, kv.EmbeddedOptions{Dir: c.Etcd.DataDir, QuotaBytes: c.Etcd.QuotaBytes, RequestTimeout: c.Etcd.RequestTimeout})
	if err != nil {
		return nil, nil, err
	}
	return etcd.KV(), etcd.Close, nil
}

// printRestore shows a plan.
func (a *app) printRestore(plan *restore.Plan, dry bool) error {
	for _, p := range plan.Problems {
		a.note("warning: %s", p)
	}
	if a.json() {
		return a.printJSON(plan)
	}
	t := newTable("TOPIC", "<PART", "<FROM", "<TO", "<RECORDS", "<SIZE", "NEWEST RECORD", "<LOST")
	var records, bytes, lost int64
	unknown := false
	for _, p := range plan.Partition {
		n := max(0, p.EndOffset-p.StartOffset)
		records, bytes, lost, unknown = records+n, bytes+p.Bytes, lost+max(0, p.Lost), unknown || p.Lost < 0
		newest, gone := "-", "?"
		if p.Newest >= 0 {
			newest = stamp(p.Newest)
		}
		if p.Lost >= 0 {
			gone = fmt.Sprint(p.Lost)
		}
		t.add(p.Topic, p.Partition, p.StartOffset, p.EndOffset, n, size(p.Bytes), newest, gone)
	}
	if len(plan.Partition) > 1 {
		t.add("all", len(plan.Partition), "", "", records, size(bytes), "", lost)
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	if unknown {
		a.note("?: no snapshot says where the log ended")
	}
	if plan.Snapshot > 0 {
		a.note("what is lost, and groups' offsets, are as of snapshot %d, %s", plan.Snapshot, stamp(plan.SnapshotT))
	}
	if plan.Moved > 0 {
		a.note("%s in a lost tail moved back to its beginning", count(int64(plan.Moved), "committed offset"))
	}
	var on []metadata.BrokerID
	for _, b := range plan.Brokers {
		on = append(on, b.ID)
	}
	verb, then := "restored", "; now start the brokers "+ids(on)
	if dry {
		verb, then = "would restore", ", on the brokers "+ids(on)
	}
	a.note("%s cluster %s: %s, %s, %s of %s%s", verb, plan.ClusterID, count(int64(len(plan.Topics)), "topic"), count(int64(len(plan.Partition)), "partition"),
		count(int64(plan.Offsets), "committed offset"), count(int64(plan.Groups), "group"), then)
	return nil
}
