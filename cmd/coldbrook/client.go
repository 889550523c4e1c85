package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Where a broker is unless somebody says otherwise.
const (
	defaultBootstrap = "127.0.0.1:9092"
	defaultHTTP      = "127.0.0.1:9644"
	// requestTimeout bounds an administrative command.
	requestTimeout = 30 * time.Second
	// reachTimeout is how long we try to reach a broker before we say that there is none.
	reachTimeout = 5 * time.Second
)

// bootstrapFlag adds --bootstrap to a command that talks to a broker.
func (a *app) bootstrapFlag(c *cobra.Command) {
	def := a.getenv("COLDBROOK_BOOTSTRAP")
	if def == "" {
		def = defaultBootstrap
	}
	c.Flags().StringVarP(&a.bootstrap, "bootstrap", "b", def, "`HOST:PORT` of a broker, several with commas (env COLDBROOK_BOOTSTRAP)")
}

// connect returns a client that has reached a broker. Close it.
func (a *app) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	var seeds []string
	for s := range strings.SplitSeq(a.bootstrap, ",") {
		if s = strings.TrimSpace(s); s != "" {
			seeds = append(seeds, s)
		}
	}
	if len(seeds) == 0 {
		return nil, usagef("--bootstrap is empty")
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID("coldbrook"),
		kgo.SoftwareNameAndVersion("coldbrook", safeVersion(readBuild().Version)),
		// A machine that is gone does not answer at all: time must be left for the others.
		kgo.DialTimeout(max(time.Second, reachTimeout/time.Duration(len(seeds)+1))),
		kgo.RetryTimeout(requestTimeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		return nil, usageError{err}
	}
	reach, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := cl.Ping(reach); err != nil {
		cl.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("cannot reach a broker at %s: %w\nis it running? `coldbrook serve` starts one, --bootstrap names another", a.bootstrap, shortest(err))
	}
	return cl, nil
}

// safeVersion keeps what Kafka allows in a client's version.
func safeVersion(v string) string {
	ok := func(r rune) bool {
		return r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	v = strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return '-'
	}, v)
	return strings.Trim(v, ".-")
}

// shortest drops the wrapping that repeats what our own message says.
func shortest(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil || next.Error() == "" {
			return err
		}
		var dial interface{ Timeout() bool }
		if errors.As(err, &dial) && !errors.As(next, &dial) {
			return err
		}
		err = next
	}
}

// admin runs f with an administrative client, in bounded time.
func (a *app) admin(ctx context.Context, f func(context.Context, *kadm.Client) error) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(requestTimeout.Milliseconds()))
	return f(ctx, adm)
}

// brokerError is an error code of the broker and the sentence that came with it, which says more than
// the one that belongs to the code.
func brokerError(what string, err error, message string) error {
	var code *kerr.Error
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return &saidError{what + ": there is no such topic (`coldbrook topic list` shows them)", err}
	case message != "" && errors.As(err, &code):
		return &saidError{what + ": " + code.Message + ": " + message, err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// saidError is an error in better words than its own.
type saidError struct {
	say string
	err error
}

// Error returns the words.
func (s *saidError) Error() string { return s.say }

// Unwrap returns the error itself.
func (s *saidError) Unwrap() error { return s.err }

// pairs reads k=v flags; each must be there once.
func pairs(flag string, in []string) (map[string]*string, error) {
	out := make(map[string]*string, len(in))
	for _, kv := range in {
		k, v, ok := strings.Cut(kv, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return nil, usagef("--%s %s: want name=value", flag, kv)
		}
		if _, twice := out[k]; twice {
			return nil, usagef("--%s %s is given twice", flag, k)
		}
		out[k] = &v
	}
	return out, nil
}

// completeTopics completes the names of topics, if a broker answers at once.
func (a *app) completeTopics(first bool) cobra.CompletionFunc {
	return a.complete(first, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		topics, err := adm.ListTopics(ctx)
		return topics.Names(), err
	})
}

func (a *app) completeGroups(first bool) cobra.CompletionFunc {
	return a.complete(first, func(ctx context.Context, adm *kadm.Client) ([]string, error) {
		groups, err := adm.ListGroups(ctx)
		return groups.Groups(), err
	})
}

func (a *app) complete(first bool, list func(context.Context, *kadm.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if first && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		var out []cobra.Completion
		err := a.admin(ctx, func(ctx context.Context, adm *kadm.Client) error {
			names, err := list(ctx, adm)
			for _, n := range names {
				if strings.HasPrefix(n, prefix) && !slices.Contains(args, n) {
					out = append(out, n)
				}
			}
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
