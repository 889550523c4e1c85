package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/otel"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// logTimeout bounds the wait at the end for a log that nothing reads.
const logTimeout = time.Second

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: `Run a broker. Without any flag: Kafka on 127.0.0.1:9092, HTTP on 127.0.0.1:9644, etcd inside, and
everything, the object store too, in ./coldbrook-data.

A flag beats the environment (log.retention.ms is COLDBROOK_LOG_RETENTION_MS), which beats the file.
Ctrl-C stops it; a second one does so at once. Where logs, data and objects are is printed at the
start; logs go to standard error.`,
		Example: `  coldbrook serve
  coldbrook serve --data-dir /var/lib/coldbrook --store 's3://my-bucket/coldbrook?region=eu-west-1'
  coldbrook serve --listen 0.0.0.0:9092 --advertise broker1.example.com:9092
  coldbrook serve --node-id 1 --etcd-peers 1=http://10.0.0.1:2380,2=http://10.0.0.2:2380,3=http://10.0.0.3:2380 …`,
		Args: exactly(),
	}
	load := a.settingsFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		surviveReaders()
		log := otel.NewPatient(a.err)
		defer log.Close(logTimeout)
		heard := *a
		heard.err = log
		return heard.serve(cmd.Context(), s)
	}
	return c
}

func (a *app) serve(ctx context.Context, s *config.Settings) (err error) {
	begun := time.Now()
	c, info := s.Broker(), readBuild()
	node := strconv.Itoa(int(c.NodeID))
	tel, err := otel.Start(ctx, otel.Options{Version: info.Version, Instance: node, LogFormat: c.LogFormat, LogLevel: c.LogLevel, LogOutput: a.err})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), reachTimeout)
		defer cancel()
		if serr := tel.Shutdown(stop); serr != nil {
			tel.Logger.Warn("telemetry not delivered", "err", serr)
		}
	}()
	var tracer func(pkg string) trace.Tracer
	if slices.Contains(tel.Exports(), "traces") {
		tracer = tel.Tracer
	}
	b, err := broker.New(broker.Options{
		Settings: s, Logger: tel.Logger, Tracer: tracer, Meter: tel.Meter, Metrics: tel.MetricsHandler(), SetLogLevel: tel.SetLevel,
		Version: console.Version{Version: info.Version, Commit: info.Commit, Built: info.Built, Go: info.Go, Platform: info.Platform, NodeID: c.NodeID},
	})
	if err != nil {
		return err
	}
	quiet := context.AfterFunc(ctx, func() { a.note("stopping; Ctrl-C again stops at once") })
	defer quiet()
	err = b.Run(ctx, func(at broker.Addresses) {
		fmt.Fprint(a.out, banner(c, at, info, time.Since(begun), program()))
	})
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return advised(err)
	}
	a.note("stopped")
	return nil
}

// advised adds what to do about an error that a person at the terminal can do something about.
func advised(err error) error {
	var advice string
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "stop the program that listens there, or choose another address with --listen (Kafka) or --http"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = "that is no address of this machine: choose one with --listen (Kafka) or --http; --advertise is what clients are told"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		advice = "this user may not do that: choose a port of 1024 or more, a --data-dir of its own, or another user"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, broker.ErrFewFiles):
		advice = "raise the limit of open files: LimitNOFILE= of the service, or ulimit -n 65536 before the start"
	case errors.Is(err, vfs.ErrLocked):
		advice = "a broker runs there already: stop it, or give this one its own --data-dir (and --cache-dir)"
	default:
		return err
	}
	return fmt.Errorf("%w\n%s", err, advice)
}

// program is how this command was called, for examples that can be pasted.
func program() string {
	if len(os.Args) > 0 && strings.ContainsRune(os.Args[0], '/') {
		return os.Args[0]
	}
	return "coldbrook"
}

// banner says where things are and what to try.
func banner(c config.Broker, at broker.Addresses, info build, took time.Duration, program string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nColdbrook %s is ready after %s.\n\n", info.Version, span(took))
	row := func(what, where string) { fmt.Fprintf(&b, "  %-13s %s\n", what, where) }
	row("Kafka", strings.Join(at.Kafka, ", "))
	if at.HTTP != "" {
		row("HTTP", "http://"+at.HTTP)
	}
	row("data", at.DataDir)
	row("object store", at.Store)
	switch peers := len(c.Etcd.Peers); {
	case !c.Etcd.Embedded:
		row("etcd", strings.Join(c.Etcd.Endpoints, ", "))
	case peers > 1:
		row("etcd", fmt.Sprintf("one of %d members inside, %s", peers, at.Etcd))
	default:
		row("etcd", "inside, "+at.Etcd)
	}
	for _, told := range c.Etcd.AdvertiseClients {
		row("", "for brokers without one: --etcd "+told)
	}
	row("cluster", fmt.Sprintf("%s, node %d", at.ClusterID, c.NodeID))
	flag := ""
	if len(c.AdvertisedListeners) > 0 && len(at.Kafka) > 0 {
		if told := c.AdvertisedListeners[0]; told.Port == 0 {
			flag = " -b " + at.Kafka[0]
		} else if told.Address() != defaultBootstrap {
			flag = " -b " + told.Address()
		}
	}
	fmt.Fprintf(&b, "\nTry:\n  %[1]s topic create events --partitions 3%[2]s\n  echo hello | %[1]s produce events%[2]s\n  %[1]s consume events%[2]s\n\nCtrl-C stops it.\n\n", program, flag)
	return b.String()
}
