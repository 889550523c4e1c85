package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
)

// finding is what one check found.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn, fail
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

func good(check, format string, args ...any) finding {
	return finding{Check: check, Status: "ok", Detail: fmt.Sprintf(format, args...)}
}

func warn(check, hint, format string, args ...any) finding {
	return finding{Check: check, Status: "warn", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func bad(check, hint, format string, args ...any) finding {
	return finding{Check: check, Status: "fail", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check that a broker with the same flags could run here, or how the one that does is",
		Long: `Check everything a broker needs, with the flags and files serve would get: the configuration, the
addresses (free, or ours because it runs already), the data directory (space, speed of a sync), limits
of this process, whether clients can reach the advertised address, etcd (each member, whether they have
a majority, their versions, clocks and space), and the object store with a round trip of a small object.
Exit code 1 if a check fails.`,
		Args: exactly(),
	}
	load := a.settingsFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		return a.doctor(cmd.Context(), s)
	}
	a.outputFlag(c)
	return c
}

func (a *app) doctor(ctx context.Context, s *config.Settings) error {
	d := &doctor{app: a, c: s.Broker()}
	all := []finding{good("configuration", "%s", describeSettings(s))}
	report := func(fs ...finding) {
		for _, f := range fs {
			if !a.json() {
				a.printFinding(f)
			}
		}
	}
	report(all...)
	d.findRunning(ctx)
	for _, check := range []func(context.Context) []finding{
		d.addresses, d.advertised, d.disk, d.limits, d.etcd, d.store, d.running,
	} {
		found := check(ctx)
		all = append(all, found...)
		report(found...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if a.json() {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	failed, warned := 0, 0
	for _, f := range all {
		switch f.Status {
		case "fail":
			failed++
		case "warn":
			warned++
		}
	}
	switch {
	case failed > 0:
		a.note("%s failed", count(int64(failed), "check"))
		return errReported
	case warned > 0:
		a.note("all checks passed, with %s", count(int64(warned), "warning"))
	default:
		a.note("all checks passed")
	}
	return nil
}

func (a *app) printFinding(f finding) {
	fmt.Fprintf(a.out, "%-5s %-14s %s\n", f.Status, f.Check, strings.ReplaceAll(printable(f.Detail), `\n`, "\n                     "))
	if f.Hint != "" {
		fmt.Fprintf(a.out, "%20s → %s\n", "", f.Hint)
	}
}

func describeSettings(s *config.Settings) string {
	n := 0
	for _, v := range s.Values() {
		if v.Origin.Kind != config.FromDefault {
			n++
		}
	}
	if n == 0 {
		return "every setting has its default"
	}
	return count(int64(n), "setting") + " changed (`config print --changed` shows them)"
}

// doctor is one run of the checks.
type doctor struct {
	app *app
	c   config.Broker

	node *console.Version // of a broker with our node id that answers on our HTTP address
}

// checkTimeout bounds one check of something on the network.
const checkTimeout = 15 * time.Second

// findRunning asks our HTTP address whether our own broker runs already.
func (d *doctor) findRunning(ctx context.Context) {
	if d.c.HTTPListen == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	ask := *d.app
	ask.http = d.c.HTTPListen
	var v console.Version
	if err := ask.get(ctx, "/api/v1/version", nil, &v); err == nil && v.NodeID == d.c.NodeID && v.Version != "" {
		d.node = &v
	}
}

// running reports what a running broker says of itself.
func (d *doctor) running(ctx context.Context) []finding {
	const name = "broker"
	if d.node == nil {
		return []finding{good(name, "not running")}
	}
	ask := *d.app
	ask.http = d.c.HTTPListen
	var state struct{ Status string }
	if err := ask.get(ctx, "/readyz", nil, &state); err != nil {
		return []finding{bad(name, "http://"+d.c.HTTPListen+"/readyz says what is missing", "node %d runs and is not ready: %v", d.node.NodeID, err)}
	}
	return []finding{good(name, "node %d runs, version %s, cluster %s", d.node.NodeID, d.node.Version, d.node.ClusterID)}
}
