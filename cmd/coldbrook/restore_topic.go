package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/console"
)

func (a *app) topicRecover() *cobra.Command {
	var cluster string
	c := &cobra.Command{
		Use:   "recover NAME",
		Short: "Make a topic whose objects are in the brokers' object store a topic of their cluster",
		Long: `Make a topic whose objects are in the brokers' object store a topic of their cluster: one that etcd has
lost, or with --cluster-id one of another cluster in the same store, whose objects are copied. The name
must be free. The topic has its id, if that is free, its configuration and all that was uploaded. A
topic that was deleted a while ago is brought back by ` + "`coldbrook topic undelete`" + `.`,
		Example: `  coldbrook topic recover events
  coldbrook topic recover events --cluster-id tn3z44XBTfS7M1CwtyxqEw`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"topic": {args[0]}}
			if cluster != "" {
				query.Set("cluster", cluster)
			}
			var back *console.Recovered
			var failed error
			var bar *progress
			err := a.stream(cmd.Context(), true, "/api/v1/topics/recover", query, func(l checkLine) {
				var at console.CopyProgress
				switch {
				case l.Error != "":
					failed = errors.New(l.Error)
				case l.Summary != nil:
					back = new(console.Recovered)
					failed = json.Unmarshal(l.Summary, back)
				case json.Unmarshal(l.Progress, &at) == nil:
					if bar == nil {
						bar = a.progress("copying", at.Total, size)
					}
					bar.at(at.Bytes)
				}
			})
			if bar != nil {
				bar.done()
			}
			if err = errors.Join(err, failed); err != nil {
				return err
			}
			if back == nil {
				return errors.New("the broker's answer broke off")
			}
			return a.printRecovered(back)
		},
	}
	c.Flags().StringVar(&cluster, "cluster-id", "", "`ID` of the cluster that the topic was of; without it the brokers' own")
	a.httpFlag(c)
	a.outputFlag(c)
	return c
}

func (a *app) printRecovered(back *console.Recovered) error {
	for _, p := range back.Problems {
		a.note("warning: %s", p)
	}
	if a.json() {
		return a.printJSON(back)
	}
	t := newTable("<PART", "REPLICAS", "<FROM", "<TO", "<SIZE", "NEWEST RECORD")
	for _, p := range back.Partitions {
		newest := "-"
		if p.Newest >= 0 {
			newest = stamp(p.Newest)
		}
		t.add(p.Partition, numbers(p.Replicas), p.StartOffset, p.EndOffset, size(p.Bytes), newest)
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	copied := ""
	if back.Copied > 0 {
		copied = fmt.Sprintf(", %s copied", size(back.Copied))
	}
	a.note("topic %s with id %s is back, from cluster %s%s", back.Topic, back.TopicID, strings.TrimSpace(back.From), copied)
	return nil
}
