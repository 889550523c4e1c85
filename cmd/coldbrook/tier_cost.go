package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
)

func (a *app) tierCost() *cobra.Command {
	c := &cobra.Command{
		Use:               "cost [TOPIC]",
		Short:             "Show, topic by topic, what is asked of object storage and what a day of it costs",
		Args:              atMostOne,
		ValidArgsFunction: a.completeTopics(true),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.showCosts(cmd.Context(), args) },
	}
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}

// atMostOne allows one argument.
func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%q is one argument too many", args[1])
	}
	return nil
}

// showCosts prints the costs of one topic or all.
func (a *app) showCosts(ctx context.Context, args []string) error {
	query := url.Values{}
	if len(args) == 1 {
		query.Set("topic", args[0])
	}
	var c console.TierCosts
	if err := a.get(ctx, "/api/v1/tier/cost", query, &c); err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(c)
	}
	return a.printCosts(c)
}

func (a *app) printCosts(c console.TierCosts) error {
	t := newTable("TOPIC", "<REMOTE", "<SEGMENTS", "<PUT", "<GET", "<HEAD", "<LIST", "<DELETE", "<IN", "<OUT", "<CACHE", "<"+strings.ToUpper(c.Currency)+"/DAY")
	add := func(r console.TierCost) {
		t.add(r.Topic, size(r.RemoteBytes), r.RemoteSegments, r.Put, r.Get, r.Head, r.List, r.Delete, size(r.BytesIn), size(r.BytesOut), hitRatio(r), money(r.CostPerDay))
	}
	all := console.TierCost{Topic: "all"}
	for _, r := range c.Topics {
		add(r)
		all.Add(r)
	}
	if len(c.Topics) > 1 {
		add(all)
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	window := time.Duration(c.WindowMs) * time.Millisecond
	a.note("requests of %d of %s, since each started; a day costs what the last %s did, made a day as if it were at least 10m, and what is stored now",
		len(c.Counted), count(int64(len(c.Counted)+len(c.Missing)), "broker"), span(window))
	a.note("prices in %s: 1,000 PUT or LIST %s, 1,000 GET or HEAD %s, a GB stored for a month %s, a GB read %s", c.Currency,
		number(c.Prices.PutPer1000), number(c.Prices.GetPer1000), number(c.Prices.GBMonth), number(c.Prices.EgressGB))
	for _, m := range c.Missing {
		a.note("broker %d is not in it: %s", m.Broker, m.Reason)
	}
	return nil
}

// hitRatio is the part of what readers asked for that needed no request of its own, in bytes.
func hitRatio(r console.TierCost) string {
	asked := r.CacheHitBytes + r.CacheMissBytes
	if asked == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(r.CacheHitBytes)/float64(asked))
}

// money writes an amount with two digits, or as many as it takes to see something.
func money(v float64) string {
	for digits := 2; digits < 6; digits++ {
		if s := strconv.FormatFloat(v, 'f', digits, 64); v == 0 || strings.Trim(s, "0.") != "" {
			return s
		}
	}
	return "0.00"
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
