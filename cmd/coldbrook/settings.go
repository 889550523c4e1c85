package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
)

// settingsFlags adds the flags that configure a broker and returns a function that loads the settings.
func (a *app) settingsFlags(c *cobra.Command) func() (*config.Settings, error) {
	f := c.Flags()
	file := f.String("config", "", "configuration `FILE` in Kafka's properties format (env COLDBROOK_CONFIG)")
	help := map[string]string{
		"listen":    "`HOST:PORT` for Kafka clients",
		"advertise": "`HOST:PORT` that clients are told to connect to",
		"http":      "`HOST:PORT` for health, metrics and the JSON API; empty for none",
		"data-dir":  "`DIR` for everything",
		"node-id":   "`N`, the number of this broker",
		"role":      "`ROLE`: broker, or replay for one that only serves old records",
		"rack":      "`NAME` of the rack or zone",
		"store":     "`URL` of the object store: file:///dir, s3://bucket/prefix, minio://host:port/bucket",
		"cache-dir": "`DIR` for a cache of the object store on disk, beside that in memory; without it none",
		"etcd":      "`URL,URL` of an etcd cluster; without it etcd runs inside",

		"etcd-embedded": "run a member of the etcd cluster inside",
		"etcd-peers":    "`N=URL,N=URL`: brokers with an etcd member inside, this one too",
	}
	values := map[string]*string{}
	for _, d := range config.Brokers() {
		if d.Flag == "" {
			continue
		}
		text := help[d.Flag]
		if v, ok := d.DefaultValue(); ok && v != "" {
			text += " (default " + strings.TrimPrefix(v, "PLAINTEXT://") + ")"
		}
		values[d.Flag] = f.String(d.Flag, "", text)
		if d.Type == config.Boolean {
			f.Lookup(d.Flag).NoOptDefVal = "true"
		}
	}
	set := f.StringArrayP("set", "s", nil, "any other setting, `name=value`; repeatable")
	return func() (*config.Settings, error) {
		flags := map[string]string{}
		for _, d := range config.Brokers() {
			if d.Flag != "" && f.Changed(d.Flag) {
				flags[d.Name] = *values[d.Flag]
			}
		}
		more, err := pairs("set", *set)
		if err != nil {
			return nil, err
		}
		for k, v := range more {
			if _, twice := flags[k]; twice {
				return nil, usagef("--set %s and its own flag are both given", k)
			}
			flags[k] = *v
		}
		name := *file
		if name == "" {
			name = a.getenv("COLDBROOK_CONFIG")
		}
		s, err := config.Load(name, a.env, flags)
		if err != nil {
			return nil, fmt.Errorf("the configuration is wrong:\n%w", indented{err})
		}
		return s, nil
	}
}

// indented shows an error of several lines below a heading.
type indented struct{ err error }

// Error returns the lines, each two columns in.
func (i indented) Error() string { return "  " + strings.ReplaceAll(i.err.Error(), "\n", "\n  ") }

// Unwrap returns the error itself.
func (i indented) Unwrap() error { return i.err }

func (a *app) configCommand() *cobra.Command {
	return family("config", "Print, explain and check settings", a.configPrint(), a.configReference(), a.configValidate())
}

func (a *app) configPrint() *cobra.Command {
	var changed bool
	c := &cobra.Command{
		Use:   "print",
		Short: "Print every setting `serve` would have with the same flags, and where it came from",
		Args:  exactly(),
	}
	load := a.settingsFlags(c)
	c.Flags().BoolVar(&changed, "changed", false, "only those that do not have their default")
	c.RunE = func(*cobra.Command, []string) error {
		s, err := load()
		if err != nil {
			return err
		}
		rows := []console.Setting{}
		for _, r := range console.BrokerSettings(s) {
			if !changed || r.Source != "default" {
				rows = append(rows, r)
			}
		}
		if a.json() {
			return a.printJSON(rows)
		}
		t := newTable("SETTING", "VALUE", "FROM")
		for _, r := range rows {
			value := "-"
			switch {
			case r.Value != nil:
				value = *r.Value
			case r.Secret && r.Source != "default":
				value = "(secret)"
			}
			t.add(r.Name, value, r.Source)
		}
		return t.print(a.out)
	}
	a.outputFlag(c)
	return c
}

func (a *app) configReference() *cobra.Command {
	var topics, brokers bool
	c := &cobra.Command{
		Use:   "reference",
		Short: "Print the manual of all settings, in Markdown",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			if !topics && !brokers {
				topics, brokers = true, true
			}
			if a.json() {
				return a.printJSON(config.ReferenceJSON(brokers, topics))
			}
			_, err := fmt.Fprint(a.out, config.Reference(brokers, topics))
			return err
		},
	}
	c.Flags().BoolVar(&brokers, "brokers", false, "only settings of brokers")
	c.Flags().BoolVar(&topics, "topics", false, "only settings of topics")
	a.outputFlag(c)
	return c
}

func (a *app) configValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE…",
		Short: "Check configuration files without starting anything",
		Args:  atLeastOne("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				if _, err := os.Stat(name); err != nil {
					errs = append(errs, err)
					continue
				}
				// Without the environment: the file is what is asked about.
				s, err := config.Load(name, nil, nil)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				for _, v := range s.Inert() {
					a.note("%s: %s has no effect: %s", v.Origin, v.Def.Name, v.Def.Doc)
				}
				a.note("%s is good", name)
			}
			return errors.Join(errs...)
		},
	}
}
