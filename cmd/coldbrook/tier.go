package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
)

func (a *app) tierCommand() *cobra.Command {
	return family("tier", "Show and check what is in object storage", a.tierStatus(), a.tierCost(), a.tierList(), a.tierFsck(), a.tierVerify(), a.tierAdopt())
}

// httpFlag adds --http to a command that asks a broker over HTTP.
func (a *app) httpFlag(c *cobra.Command) {
	def := a.getenv("COLDBROOK_HTTP")
	if def == "" {
		def = defaultHTTP
	}
	c.Flags().StringVar(&a.http, "http", def, "`HOST:PORT` of a broker's HTTP (env COLDBROOK_HTTP)")
}

func (a *app) tierStatus() *cobra.Command {
	var wait, byTopic bool
	c := &cobra.Command{
		Use:               "status [TOPIC]",
		Short:             "Show, partition by partition, what is local, what is remote and what waits for upload",
		Args:              atMostOne,
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if byTopic && wait {
				return usagef("--wait is for partitions, not for --by-topic")
			}
			if byTopic {
				return a.showCosts(cmd.Context(), args)
			}
			query := url.Values{}
			if len(args) == 1 {
				query.Set("topic", args[0])
			}
			rows, err := a.tierRows(cmd.Context(), query, wait)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(rows)
			}
			return a.printTier(rows)
		},
	}
	c.Flags().BoolVar(&byTopic, "by-topic", false, "a topic a line, with requests and cost: the same as tier cost")
	c.Flags().BoolVar(&wait, "wait", false, "wait until nothing waits for upload")
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}

// tierRows fetches the status, and with wait again and again until every sealed segment is uploaded.
func (a *app) tierRows(ctx context.Context, query url.Values, wait bool) ([]console.TierPartition, error) {
	var most int64
	var bar *progress
	for {
		rows := []console.TierPartition{}
		if err := a.get(ctx, "/api/v1/tier", query, &rows); err != nil {
			return nil, err
		}
		var pending int64
		for _, r := range rows {
			pending += r.PendingSegments
		}
		if !wait || pending == 0 {
			if bar != nil {
				bar.done()
			}
			return rows, nil
		}
		if bar == nil || pending > most {
			most = pending
			bar = a.progress("uploading", most, func(n int64) string { return count(n, "segment") })
		}
		bar.at(most - pending)
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			bar.done()
			return nil, fmt.Errorf("%s still to be uploaded: %w", count(pending, "segment"), ctx.Err())
		}
	}
}

func (a *app) printTier(rows []console.TierPartition) error {
	t := newTable("TOPIC", "<PART", "<START", "<LOCAL FROM", "<REMOTE TO", "<END", "<LOCAL", "<REMOTE", "<SEGMENTS", "<PENDING", "<OLDEST")
	var local, remote, segments, pending int64
	for _, r := range rows {
		upTo, oldest := "-", "-"
		if r.HighestRemoteOffset >= 0 {
			upTo = strconv.FormatInt(r.HighestRemoteOffset, 10)
		}
		if r.PendingSegments > 0 {
			oldest = span(time.Duration(r.OldestUnuploadedAgeMs) * time.Millisecond)
		}
		t.add(r.Topic, r.Partition, r.LogStartOffset, r.LocalLogStartOffset, upTo, r.HighWatermark, size(r.LocalBytes), size(r.RemoteBytes), r.RemoteSegments, r.PendingSegments, oldest)
		local, remote, segments, pending = local+r.LocalBytes, remote+r.RemoteBytes, segments+r.RemoteSegments, pending+r.PendingSegments
	}
	if len(rows) > 1 {
		t.add("all", len(rows), "", "", "", "", size(local), size(remote), segments, pending, "")
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	a.noteHeld(rows)
	return nil
}

// segmentRow is one segment of `tier ls -o json`.
type segmentRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	console.TierSegment
}

func (a *app) tierList() *cobra.Command {
	var partitions []int32
	c := &cobra.Command{
		Use:               "ls TOPIC",
		Short:             "List a topic's segments in object storage",
		Args:              exactly("TOPIC"),
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			var status []console.TierPartition
			if err := a.get(cmd.Context(), "/api/v1/tier", url.Values{"topic": {args[0]}}, &status); err != nil {
				return err
			}
			rows := []segmentRow{}
			for _, s := range status {
				if len(partitions) > 0 && !slices.Contains(partitions, s.Partition) {
					continue
				}
				err := a.eachSegment(cmd.Context(), args[0], s.Partition, func(seg console.TierSegment) {
					rows = append(rows, segmentRow{args[0], s.Partition, seg})
				})
				if err != nil {
					return err
				}
			}
			if a.json() {
				return a.printJSON(rows)
			}
			t := newTable("<PART", "<FIRST", "<LAST", "<SIZE", "NEWEST RECORD", "UPLOADED", "OBJECT")
			for _, r := range rows {
				t.add(r.Partition, r.BaseOffset, r.LastOffset, size(r.Bytes), stamp(r.MaxTimestamp), stamp(r.Created), r.Object)
			}
			return t.print(a.out)
		},
	}
	c.Flags().Int32SliceVarP(&partitions, "partition", "p", nil, "`numbers` of the partitions; all without it")
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}

// eachSegment pages through a partition's segments.
func (a *app) eachSegment(ctx context.Context, topic string, partition int32, each func(console.TierSegment)) error {
	const page = 1000
	for from := int64(0); ; {
		var segments []console.TierSegment
		q := url.Values{"topic": {topic}, "partition": {strconv.Itoa(int(partition))}, "from": {strconv.FormatInt(from, 10)}, "limit": {strconv.Itoa(page)}}
		if err := a.get(ctx, "/api/v1/tier/segments", q, &segments); err != nil {
			return err
		}
		for _, s := range segments {
			each(s)
		}
		if len(segments) < page {
			return nil
		}
		from = segments[len(segments)-1].LastOffset + 1
	}
}

// get fetches JSON from the broker's HTTP.
func (a *app) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := a.request(ctx, false, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s did not answer as a broker does: %w", a.http, err)
	}
	return nil
}

// maxAnswer bounds an answer: the status of a million partitions is smaller.
const maxAnswer = 512 << 20
