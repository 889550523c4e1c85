// Command bench measures a Coldbrook broker beside the limits of the machine
// it runs on, and prints a table and JSON.
//
// It starts its own broker processes from the binary given with --broker, on
// free loopback ports and with data below --dir, and ends them. The load costs
// little itself: batches are built once and sent again and again as raw frames,
// responses are walked by batch header only. Every row that has a limit is
// measured right beside it: [syncLoop] for produce, [sendfileLoop] for fetch,
// [relay] before and after each replay from MinIO, [putLoop] for uploads.
//
// CPU is the broker's own, user and system, from /proc, per GB of record bytes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

type options struct {
	broker  string
	dir     string
	seconds float64
	only    string
	out     string
	topics  int
	cluster bool
	tierGB  float64
	dataGB  float64
	readGB  float64
	entries int
	row     *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.broker, "broker", "bin/coldbrook", "the broker's `binary`")
	flag.StringVar(&o.dir, "dir", "", "`directory` for data, on the disk to be measured (default: a new one under the working directory)")
	flag.Float64Var(&o.seconds, "seconds", 5, "length of each measured load")
	flag.StringVar(&o.only, "only", "", "run only the parts named, separated by commas: idle,produce,fetch,latency,cold,start,replay,table,isolation,memory,manifest,upload")
	flag.StringVar(&o.out, "out", "", "also write the JSON to this `file`")
	flag.IntVar(&o.topics, "partitions", 1000, "partitions of the start-up test and of a cluster")
	flag.BoolVar(&o.cluster, "cluster", false, "measure a cluster of three brokers instead; its parts: replication,failover,etcd,move")
	flag.Float64Var(&o.tierGB, "tier-gb", 20, "GB in the tier of the partition that --cluster moves")
	flag.Float64Var(&o.dataGB, "replay-gb", 4, "GB of the topics in MinIO that are replayed; caches hold 0.13")
	flag.Float64Var(&o.readGB, "memory-gb", 20, "GB that are replayed while the broker's memory is watched")
	flag.IntVar(&o.entries, "entries", 1_000_000, "segments in the tier of the partition with many; at most 2,000,000")
	consumes := flag.String("consume", "", "only consume, as the `JSON` says: what the bench starts itself with")
	row := flag.String("row", "", "measure only the loads whose name matches this `pattern`; isolation, memory and manifest are one whole each")
	flag.Parse()
	var err error
	if o.row, err = regexp.Compile(*row); err != nil {
		fmt.Fprintln(os.Stderr, "bench: -row:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *consumes != "" {
		err = consume(ctx, *consumes)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one group of rows that share a broker.
type part struct {
	name string
	run  func(context.Context, *bench) error
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp(".", "bench-data-")
		if err != nil {
			return err
		}
		o.dir = dir
		defer os.RemoveAll(dir)
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	b := &bench{options: o, data: int64(o.dataGB * 1e9), length: time.Duration(o.seconds * float64(time.Second))}
	parts := []part{{"idle", idle}, {"produce", produceRows}, {"fetch", fetchRows}, {"latency", latencyRows}, {"cold", coldRows}, {"start", startRows},
		{"replay", replayRows}, {"table", tableRows}, {"isolation", isolationRows}, {"memory", memoryRows}, {"manifest", manifestRows}, {"upload", uploadRows}}
	if o.cluster {
		parts = clusterParts
	}
	for _, p := range parts {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+p.name+",") {
			continue
		}
		if err := b.inside(ctx, p, dir); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.table(os.Stdout)
	j, err := json.MarshalIndent(b.rows, "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("\n%s\n", j)
	if o.out != "" {
		return os.WriteFile(o.out, append(j, '\n'), 0o644)
	}
	return nil
}

// inside runs a part in a directory of its own, which goes with it.
func (b *bench) inside(ctx context.Context, p part, dir string) error {
	b.dir = filepath.Join(dir, p.name)
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	return errors.Join(p.run(ctx, b), os.RemoveAll(b.dir))
}
