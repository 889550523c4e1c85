// Command coldbrook is the broker and its operator's tool in one: `coldbrook serve` runs a broker,
// every other command is a client of a running one (or looks at this machine: config, doctor).
//
// Data goes to standard output, everything said about it to standard error, so that output can be
// piped. The exit code is 0 when it worked, 1 when it did not, 2 when the command line was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// processorsPerCPU is how many of Go's processors each CPU gets. A sync of a log holds one until the
// runtime's monitor notices: with as many as there are CPUs, two syncs under way keep requests waiting
// while a CPU is idle, most of all beside replays (p99 of producers 12-25 ms with one, 10 ms with two).
const processorsPerCPU = 2

func main() {
	ctx, stop := untilTold(context.Background())
	defer stop()
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processorsPerCPU * runtime.GOMAXPROCS(0))
	}
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env: os.Environ(), getenv: os.Getenv,
		inTerminal: isTerminal(os.Stdin), outTerminal: isTerminal(os.Stdout), errTerminal: isTerminal(os.Stderr),
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// app is one run of the command: its streams and what all commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      []string
	getenv   func(string) string

	inTerminal, outTerminal, errTerminal bool

	bootstrap string
	http      string
	output    string
	started   bool // the command line was understood
}

// usageError is a mistake in the command line.
type usageError struct{ error }

// Unwrap returns the mistake itself.
func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command whose error has been shown already.
var errReported = errors.New("reported")

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var usage usageError
	switch {
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage) || !a.started:
		fmt.Fprintf(a.err, "coldbrook: %v\nsee `%s --help`\n", err, cmd.CommandPath())
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(a.err, "coldbrook: interrupted")
		return exitFailed
	}
	fmt.Fprintf(a.err, "coldbrook: %v\n", err)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "coldbrook",
		Short: "A Kafka-compatible broker that keeps years of history in object storage",
		Long: `Coldbrook is a Kafka-compatible broker that keeps recent data on local disk and years of history
in object storage. Every Kafka client works with it unchanged.

  coldbrook serve                 run a broker, with nothing to configure
  coldbrook topic create events   make a topic
  echo hello | coldbrook produce events
  coldbrook consume events        read it back`,
		Version:           readBuild().line(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { a.started = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("{{.Version}}")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(&cobra.Group{ID: "broker", Title: "Run a broker:"}, &cobra.Group{ID: "client", Title: "Use a running broker:"})
	for _, c := range []*cobra.Command{a.serveCommand(), a.configCommand(), a.doctorCommand(), a.versionCommand()} {
		c.GroupID = "broker"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{a.topicCommand(), a.produceCommand(), a.consumeCommand(), a.groupCommand(), a.tierCommand(), a.quotaCommand(), a.clusterCommand()} {
		c.GroupID = "client"
		root.AddCommand(c)
	}
	return root
}

// family is a command that only has other commands under it.
func family(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	c.AddCommand(commands...)
	return c
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return usagef("%s has no command %q; did you mean %s?", cmd.CommandPath(), name, near[0])
	}
	return usagef("%s has no command %q", cmd.CommandPath(), name)
}

// exactly and atLeastOne are cobra's checks with messages that name what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef("%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

func atLeastOne(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", name)
		}
		return nil
	}
}

// note says something to the person at the terminal.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
