package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata/kv"
)

// rescueTimeout bounds the start of a member that is alone.
const rescueTimeout = 2 * time.Minute

func (a *app) clusterEtcd() *cobra.Command {
	return family("etcd", "Save etcd's data, and bring etcd back when a majority of its members is lost",
		a.etcdSnapshot(), a.etcdRestore(), a.etcdForce())
}

func (a *app) etcdSnapshot() *cobra.Command {
	var endpoint string
	c := &cobra.Command{
		Use:   "snapshot FILE",
		Short: "Save what an etcd member has, also one without a majority",
		Long: `Save what one etcd member has into FILE, in etcd's own format: ` + "`cluster etcd restore`" + ` and etcdutl read it.
The member is the one inside the broker of this machine that has this --data-dir, or the first of --etcd, or that
of --endpoint. It need not be in touch with the others. FILE holds everything that is in etcd, credentials too.`,
		Example: `  coldbrook cluster etcd snapshot etcd.snapshot --data-dir /var/lib/coldbrook
  coldbrook cluster etcd snapshot etcd.snapshot --etcd http://10.0.0.1:2379`,
		Args: exactly("FILE"),
	}
	load := a.settingsFlags(c)
	c.Flags().StringVar(&endpoint, "endpoint", "", "`URL` of one member for clients")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		e := s.Broker().Etcd
		o := kv.DialOptions{Endpoints: []string{endpoint}, Username: e.Username, Password: e.Password}
		if o.TLS, err = e.TLSConfig(); err != nil {
			return err
		}
		switch {
		case endpoint != "":
		case len(e.Endpoints) > 0:
			o.Endpoints = e.Endpoints[:1]
		default:
			o.Endpoints, o.TLS = []string{kv.SocketEndpoint(e.DataDir)}, nil
		}
		size, err := kv.SaveSnapshot(cmd.Context(), o, args[0])
		if err != nil {
			return err
		}
		a.note("%d bytes of %s are in %s", size, o.Endpoints[0], args[0])
		return nil
	}
	return c
}

func (a *app) etcdRestore() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the first member of a new etcd cluster out of a snapshot",
		Long: `Make the etcd member inside this machine's broker out of a snapshot, as the only one of a new cluster. All brokers
must be stopped. Flags and --config are those of serve. The members of other brokers join when they start without an
etcd directory. What the brokers decided after the snapshot is forgotten: they notice, and delete nothing before it is
resolved.`,
		Example: `  coldbrook cluster etcd restore etcd.snapshot --config /etc/coldbrook/broker.properties`,
		Args:    exactly("FILE"),
	}
	load := a.settingsFlags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		o, err := inside(s.Broker())
		if err != nil {
			return err
		}
		if err := kv.RestoreSnapshot(o, args[0]); err != nil {
			return err
		}
		a.note("%s has what was in %s; start this broker, then the others without their etcd directories", o.Dir, args[0])
		return nil
	}
	return c
}

func (a *app) etcdForce() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "force-new-cluster",
		Short: "Let the etcd member inside this machine's broker go on alone",
		Long: `Let the etcd member inside this machine's broker go on as the only one of its cluster, with the data it has, after
a majority of the members was lost for good. All brokers must be stopped. Flags and --config are those of serve.
Choose the member that was last in touch with the others: what it does not have is lost. The others must never start
with their old etcd directories again; without them they join.`,
		Example: `  coldbrook cluster etcd force-new-cluster --yes --config /etc/coldbrook/broker.properties`,
		Args:    exactly(),
	}
	load := a.settingsFlags(c)
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		o, err := inside(s.Broker())
		if err != nil {
			return err
		}
		if !yes {
			return usagef("this cannot be taken back: save %s first, then say --yes", o.Dir)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), rescueTimeout)
		defer cancel()
		if err := kv.ForceNewCluster(ctx, o); err != nil {
			return err
		}
		a.note("%s is the only member of its cluster; start this broker, then the others without their etcd directories", o.Dir)
		return nil
	}
	return c
}

// inside describes the etcd member of the broker with these settings.
func inside(c config.Broker) (kv.EmbeddedOptions, error) {
	if !c.Etcd.Embedded {
		return kv.EmbeddedOptions{}, errors.New("etcd is elsewhere (etcd.endpoints): use its own tools there, etcdutl snapshot restore")
	}
	o := kv.EmbeddedOptions{Dir: c.Etcd.DataDir, QuotaBytes: c.Etcd.QuotaBytes, Logger: slog.New(slog.DiscardHandler)}
	for _, p := range c.Etcd.Peers {
		o.Peers = append(o.Peers, kv.Peer{Name: strconv.Itoa(int(p.Node)), URL: p.URL})
	}
	if len(o.Peers) > 0 {
		o.Name = fmt.Sprint(c.NodeID)
	}
	return o, nil
}
