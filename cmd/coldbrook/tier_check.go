package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/tiering/gc"
)

// checkReport is `tier fsck -o json` and `tier verify -o json`. The names are a promise to scripts.
type checkReport struct {
	Problems []gc.Problem    `json:"problems"`
	Summary  json.RawMessage `json:"summary,omitempty"`
	Error    string          `json:"error,omitempty"` // something could not be looked at
}

func (a *app) tierFsck() *cobra.Command {
	var topic string
	var repair, quick bool
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Compare object storage with the manifests: missing, wrong and orphaned objects",
		Long: `Compare object storage with the manifests: missing objects, objects that no manifest names, wrong sizes and
checksums, manifests that cannot be read, pointers that name none. Segments are not read; ` + "`tier verify`" + ` does that.

Without --repair nothing is changed. With it, orphans that the broker has known for remote.delete.grace.ms are deleted,
and missing or bad segments are copied again from the local log, both for the partitions that the asked broker leads
(and, on the controller's, for those that nobody leads).

The exit code is 1 when something is wrong and was not repaired.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"quick": {strconv.FormatBool(quick)}}
			bar := a.progress("comparing", 0, func(n int64) string { return count(n, "partition") })
			return a.tierCheck(cmd.Context(), "fsck", topic, repair, query, bar, func(sum json.RawMessage) (int64, string) {
				var s gc.FsckSummary
				_ = json.Unmarshal(sum, &s) // an empty one when it is not
				return s.Partitions, fmt.Sprintf("%s, %s, %s; %s of uploads under way", count(s.Partitions, "partition"), count(s.Segments, "segment"), size(s.Bytes), count(s.Young, "object"))
			})
		},
	}
	c.Flags().BoolVar(&quick, "quick", false, "do not ask for each object's checksum")
	a.checkFlags(c, &topic, &repair)
	return c
}

func (a *app) tierVerify() *cobra.Command {
	var topic, rate string
	var repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read and check every byte in object storage, at a limited rate",
		Long: `Read every segment and every index in object storage and check them: the objects' checksums, those of all batches
and of all sections of the indexes. With --repair, bad segments are copied again from the local log of the asked broker,
where it leads the partition and still has them.

The exit code is 1 when something is wrong and was not repaired.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if rate != "" {
				n, err := parseRate("rate", rate)
				if err != nil {
					return err
				}
				query.Set("rate", strconv.FormatInt(n, 10))
			}
			bar := a.progress("verifying", 0, size)
			return a.tierCheck(cmd.Context(), "verify", topic, repair, query, bar, func(sum json.RawMessage) (int64, string) {
				var s gc.VerifySummary
				_ = json.Unmarshal(sum, &s) // an empty one when it is not
				return s.Bytes, fmt.Sprintf("%s, %s, %s", count(s.Partitions, "partition"), count(s.Segments, "segment"), size(s.Bytes))
			})
		},
	}
	c.Flags().StringVar(&rate, "rate", "", "most `BYTES` to read a second, such as 50MB; unlimited without it")
	a.checkFlags(c, &topic, &repair)
	return c
}

// units of a number of bytes, the longer names first.
var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// parseRate reads what people write in a flag: 500000, 50MB, 1.5GiB, also with /s.
func parseRate(flag, text string) (int64, error) {
	t := strings.TrimSuffix(text, "/s")
	for _, u := range units {
		number, ok := strings.CutSuffix(t, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n*u.bytes >= 1) || n*u.bytes > 1<<50 {
			break
		}
		return int64(n * u.bytes), nil
	}
	return 0, usagef("--%s %s: want bytes a second, such as 50MB", flag, text)
}

func (a *app) checkFlags(c *cobra.Command, topic *string, repair *bool) {
	c.Flags().StringVar(topic, "topic", "", "`NAME` of a topic; all without it")
	c.Flags().BoolVar(repair, "repair", false, "repair what can be repaired")
	a.httpFlag(c)
	a.outputFlag(c)
}

// tierCheck runs a check on the broker and prints what it finds. describe says of a summary how far that is, and in
// words what was looked at.
func (a *app) tierCheck(ctx context.Context, name, topic string, repair bool, query url.Values, bar *progress, describe func(json.RawMessage) (int64, string)) error {
	if topic != "" {
		query.Set("topic", topic)
	}
	report := checkReport{Problems: []gc.Problem{}}
	err := a.stream(ctx, repair, "/api/v1/tier/"+name, query, func(l checkLine) {
		switch {
		case l.Problem != nil:
			report.Problems = append(report.Problems, *l.Problem)
		case l.Progress != nil:
			at, _ := describe(l.Progress)
			bar.at(at)
		case l.Summary != nil:
			report.Summary = l.Summary
		case l.Error != "":
			report.Error = l.Error
		}
	})
	bar.done()
	if err == nil && report.Summary == nil && report.Error == "" {
		err = errors.New("the broker's answer broke off")
	}
	if err != nil {
		return err
	}
	wrong := 0
	for _, p := range report.Problems {
		if !p.Repaired {
			wrong++
		}
	}
	if a.json() {
		err = a.printJSON(report)
	} else {
		err = a.printFound(report)
		_, end := describe(report.Summary)
		a.note("%s: %s", end, found(len(report.Problems), wrong))
	}
	switch {
	case err != nil:
		return err
	case report.Error != "":
		return fmt.Errorf("not everything could be looked at: %s", report.Error)
	case wrong > 0:
		return errReported
	}
	return nil
}

func found(all, wrong int) string {
	switch {
	case all == 0:
		return "nothing is wrong"
	case wrong == 0:
		return count(int64(all), "problem") + ", all repaired"
	case wrong < all:
		return fmt.Sprintf("%s, %d repaired", count(int64(all), "problem"), all-wrong)
	}
	return count(int64(all), "problem")
}

func (a *app) printFound(r checkReport) error {
	if len(r.Problems) == 0 {
		return nil
	}
	t := newTable("PROBLEM", "TOPIC", "<PART", "OFFSETS", "<SIZE", "<AGE", "OBJECT", "WHAT")
	for _, p := range r.Problems {
		part, offsets, bytes, age := "-", "-", "-", "-"
		if p.Partition >= 0 {
			part = strconv.Itoa(int(p.Partition))
		}
		if p.BaseOffset >= 0 {
			offsets = strconv.FormatInt(p.BaseOffset, 10)
		}
		if p.LastOffset >= p.BaseOffset && p.LastOffset >= 0 {
			offsets += "–" + strconv.FormatInt(p.LastOffset, 10)
		}
		if p.Size > 0 {
			bytes = size(p.Size)
		}
		if p.AgeMs > 0 {
			age = span(time.Duration(p.AgeMs) * time.Millisecond)
		}
		what := p.Action
		if what == "" {
			what = p.Detail
		}
		if what == "" && p.Want > 0 && p.Size > 0 {
			what = "want " + size(p.Want)
		}
		t.add(p.Kind, p.Topic, part, offsets, bytes, age, p.Object, what)
	}
	return t.print(a.out)
}

// checkLine is a console.TierLine as it comes in.
type checkLine struct {
	Problem  *gc.Problem     `json:"problem"`
	Progress json.RawMessage `json:"progress"`
	Summary  json.RawMessage `json:"summary"`
	Error    string          `json:"error"`
}

// stream reads JSON lines from the broker's HTTP for as long as they come.
func (a *app) stream(ctx context.Context, post bool, path string, query url.Values, each func(checkLine)) error {
	resp, err := a.request(ctx, post, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var l checkLine
		err := d.Decode(&l)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("the broker's answer broke off: %w", err)
		}
		each(l)
	}
}

// request asks the broker's HTTP and returns its answer, an error for any that is not 200. The caller closes the body.
func (a *app) request(ctx context.Context, post bool, path string, query url.Values) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: a.http, Path: path, RawQuery: query.Encode()}
	method := http.MethodGet
	if post {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, usagef("--http %s: want HOST:PORT", a.http)
	}
	if post {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(console.TokenHeader, cmp.Or(a.getenv("COLDBROOK_HTTP_TOKEN"), "coldbrook"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("cannot reach a broker's HTTP at %s: %w\nis it running? `coldbrook serve` starts one, --http names another", a.http, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var problem struct{ Error string }
	if err == nil && json.Unmarshal(body, &problem) == nil && problem.Error != "" {
		return nil, errors.New(problem.Error)
	}
	return nil, fmt.Errorf("%s answered %s", u.String(), resp.Status)
}

func (a *app) topicUndelete() *cobra.Command {
	c := &cobra.Command{
		Use:   "undelete NAME|ID",
		Short: "Bring a deleted topic back, as long as its data is in object storage",
		Long: `Bring a deleted topic back under its name and id, with its configuration and partitions, within
remote.delete.grace.ms of its deletion. Each partition begins with what object storage has; records that were only on
local disks come back where the new leader still has its files. Committed offsets of groups do not come back.`,
		Args: exactly("NAME or ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), requestTimeout)
			defer cancel()
			resp, err := a.request(ctx, true, "/api/v1/topics/undelete", url.Values{"topic": {args[0]}})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var back console.Undeleted
			if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&back); err != nil {
				return fmt.Errorf("the broker did not answer as expected: %w", err)
			}
			if a.json() {
				return a.printJSON(back)
			}
			a.note("topic %s with id %s is back; it was deleted %s", back.Topic, back.TopicID, stamp(back.Deleted.UnixMilli()))
			t := newTable("<PART", "<LEADER", "<START", "LOST")
			for _, p := range back.Partitions {
				lost := fmt.Sprintf("records from offset %d on, unless the leader has its files", p.LostFrom)
				start, leader := "-", "-"
				if p.StartOffset >= 0 {
					start = strconv.FormatInt(p.StartOffset, 10)
				}
				if p.Leader >= 0 {
					leader = strconv.Itoa(int(p.Leader))
				}
				t.add(p.Partition, leader, start, lost)
			}
			return t.print(a.out)
		},
	}
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}
