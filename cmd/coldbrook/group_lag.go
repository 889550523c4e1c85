package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/coldbrook/coldbrook/broker/console"
)

// lagBatch is how many offsets one question is about.
const lagBatch = 100

// measureLags asks a broker's HTTP for the bytes and the time of what groups have not read. Kafka's protocol does not
// know them: without an answer the rows say so, and the reason is returned.
func (a *app) measureLags(ctx context.Context, adm *kadm.Client, groups []groupDescription) error {
	var rows []*groupLagRow
	for i := range groups {
		for j := range groups[i].Offsets {
			if r := &groups[i].Offsets[j]; r.Committed >= 0 && r.Error == "" {
				rows = append(rows, r)
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	meta, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for len(rows) > 0 {
		some := rows[:min(len(rows), lagBatch)]
		rows = rows[len(some):]
		query := url.Values{}
		for _, r := range some {
			query.Add("at", console.LagAt{Topic: r.Topic, Partition: r.Partition, Offset: r.Committed}.String())
		}
		var answer console.Lags
		switch err := a.get(ctx, "/api/v1/lag", query, &answer); {
		case err != nil:
			return err
		case answer.ClusterID != meta.Cluster || len(answer.Partitions) != len(some):
			return fmt.Errorf("%s is a broker of another cluster: --http names one", a.http)
		}
		for i, r := range some {
			l := answer.Partitions[i]
			if l.Error != "" {
				errs = append(errs, fmt.Errorf("%s-%d: %s", l.Topic, l.Partition, l.Error))
				continue
			}
			r.LagBytes, r.LagMs, r.Cold, r.ColdBytes, r.ColdMs = l.Bytes, l.Ms, l.ColdRecords, l.ColdBytes, l.ColdMs
		}
	}
	return errors.Join(errs...)
}

// unless writes a value that may not be known.
func unless(n int64, write func(int64) string) string {
	if n < 0 {
		return "-"
	}
	return write(n)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func milliseconds(n int64) string { return span(time.Duration(n) * time.Millisecond) }
