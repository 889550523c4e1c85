package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/coldbrook/coldbrook/broker/quota"
)

func (a *app) quotaCommand() *cobra.Command {
	return family("quota", "List, set and delete what clients may use", a.quotaList(), a.quotaSet(), a.quotaDelete())
}

// quotaOwner are the flags that say whom a quota is for.
type quotaOwner struct {
	user, client                 string
	everyUser, everyClient       bool
	userGiven, clientGiven, some bool
}

func (o *quotaOwner) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.user, "user", "", "a `USER`")
	f.BoolVar(&o.everyUser, "default-user", false, "each user that has no quota of its own")
	f.StringVar(&o.client, "client-id", "", "an `ID` of clients")
	f.BoolVar(&o.everyClient, "default-client-id", false, "each client id that has no quota of its own")
}

// read looks at what was given.
func (o *quotaOwner) read(c *cobra.Command) error {
	o.userGiven, o.clientGiven = c.Flags().Changed("user"), c.Flags().Changed("client-id")
	if o.userGiven && o.everyUser || o.clientGiven && o.everyClient {
		return usagef("a name and the default of it are two quotas: set them one after the other")
	}
	if o.userGiven && o.user == "" || o.clientGiven && o.client == "" {
		return usagef("--user and --client-id want a name; --default-user and --default-client-id are for the others")
	}
	o.some = o.userGiven || o.clientGiven || o.everyUser || o.everyClient
	return nil
}

// entity is whom the flags name.
func (o *quotaOwner) entity() kadm.ClientQuotaEntity {
	var e kadm.ClientQuotaEntity
	for _, p := range []struct {
		kind, name   string
		given, every bool
	}{{"user", o.user, o.userGiven, o.everyUser}, {"client-id", o.client, o.clientGiven, o.everyClient}} {
		switch {
		case p.given:
			e = append(e, kadm.ClientQuotaEntityComponent{Type: p.kind, Name: &p.name})
		case p.every:
			e = append(e, kadm.ClientQuotaEntityComponent{Type: p.kind})
		}
	}
	return e
}

// filter asks for what the flags name.
func (o *quotaOwner) filter() []kadm.DescribeClientQuotaComponent {
	var list []kadm.DescribeClientQuotaComponent
	for _, p := range o.entity() {
		c := kadm.DescribeClientQuotaComponent{Type: p.Type, MatchName: p.Name}
		if p.Name == nil {
			c.MatchType = 1 // the default
		}
		list = append(list, c)
	}
	return list
}

// quotaRow is one entity of `quota list -o json`. A default is "<default>", what a quota does not ask for is left out.
type quotaRow struct {
	User     string             `json:"user,omitempty"`
	ClientID string             `json:"client_id,omitempty"`
	Quotas   map[string]float64 `json:"quotas"`
}

func quotaRowOf(q kadm.DescribedClientQuota) quotaRow {
	row := quotaRow{Quotas: map[string]float64{}}
	for _, p := range q.Entity {
		name := quota.Default().String()
		if p.Name != nil {
			name = *p.Name
		}
		switch p.Type {
		case "user":
			row.User = name
		case "client-id":
			row.ClientID = name
		}
	}
	for _, v := range q.Values {
		row.Quotas[v.Key] = v.Value
	}
	return row
}

func (a *app) quotaList() *cobra.Command {
	var o quotaOwner
	c := &cobra.Command{
		Use:   "list",
		Short: "List the quotas, all or those of a user or client id",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.read(cmd); err != nil {
				return err
			}
			return a.admin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				described, err := adm.DescribeClientQuotas(ctx, false, o.filter())
				if err != nil {
					return err
				}
				rows := []quotaRow{}
				t := newTable("USER", "CLIENT ID", "QUOTA", "<VALUE")
				for _, q := range described {
					row := quotaRowOf(q)
					rows = append(rows, row)
					for _, name := range sorted(row.Quotas) {
						t.add(dash(row.User), dash(row.ClientID), name, quotaValue(name, row.Quotas[name]))
					}
				}
				if a.json() {
					return a.printJSON(rows)
				}
				return t.print(a.out)
			})
		},
	}
	o.flags(c)
	return a.client(c)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// quotaValue writes a quota as people read it.
func quotaValue(name string, v float64) string {
	switch kind, _ := quota.ParseKind(name); {
	case kind == quota.Request && name == kind.String():
		return strconv.FormatFloat(v, 'g', -1, 64) + "%"
	case strings.HasSuffix(name, "_byte_rate") && v >= 1:
		return size(int64(v)) + "/s"
	}
	return strconv.FormatFloat(v, 'g', -1, 64) + "/s"
}

// quotaFlag is the flag of a kind of quota.
func quotaFlag(k quota.Kind) string { return strings.ReplaceAll(k.String(), "_", "-") }

var quotaDocs = map[quota.Kind]string{
	quota.Produce:            "`BYTES` a second that are produced, such as 50MB",
	quota.Fetch:              "`BYTES` a second that are consumed",
	quota.RemoteFetch:        "`BYTES` a second that are consumed out of the object store",
	quota.Request:            "`PERCENT` of one processor",
	quota.ControllerMutation: "`PARTITIONS` a second that are created or deleted",
}

func (a *app) quotaSet() *cobra.Command {
	var o quotaOwner
	values := map[quota.Kind]*string{}
	c := &cobra.Command{
		Use:   "set",
		Short: "Set quotas of a user, a client id, or a client id of a user; others of it stay",
		Long: `Set quotas of a user, a client id, or a client id of a user; others of it stay.

Each broker holds its clients to it for itself. It counts from the next request on.
Of the quotas that match a client, the most specific applies: a user's before a
client id's, a name before a default. Clients that a default covers do not share it.`,
		Example: `  coldbrook quota set --client-id replay --remote-fetch-byte-rate 50MB
  coldbrook quota set --default-client-id --consumer-byte-rate 200MB
  coldbrook quota set --user alice --client-id backfill --producer-byte-rate 10MB`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.read(cmd); err != nil {
				return err
			}
			var ops []kadm.AlterClientQuotaOp
			for _, k := range quota.Kinds() {
				if !cmd.Flags().Changed(quotaFlag(k)) {
					continue
				}
				v, err := parseQuota(k, *values[k])
				if err != nil {
					return err
				}
				ops = append(ops, kadm.AlterClientQuotaOp{Key: k.String(), Value: v})
			}
			if len(ops) == 0 {
				return usagef("nothing to set: want a quota such as --%s", quotaFlag(quota.RemoteFetch))
			}
			return a.alterQuota(cmd.Context(), "set", o, func(context.Context, *kadm.Client) ([]kadm.AlterClientQuotaOp, error) { return ops, nil })
		},
	}
	o.flags(c)
	for _, k := range quota.Kinds() {
		values[k] = c.Flags().String(quotaFlag(k), "", quotaDocs[k])
	}
	a.bootstrapFlag(c)
	return c
}

func parseQuota(k quota.Kind, text string) (float64, error) {
	if k == quota.Request || k == quota.ControllerMutation {
		v, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || !(v > 0) || v > 1e9 {
			return 0, usagef("--%s %s: want a number above 0", quotaFlag(k), text)
		}
		return v, nil
	}
	n, err := parseRate(quotaFlag(k), text)
	return float64(n), err
}

func (a *app) quotaDelete() *cobra.Command {
	var o quotaOwner
	c := &cobra.Command{
		Use:     "delete [QUOTA…]",
		Short:   "Delete quotas of a user, a client id, or a client id of a user; all of them if none is named",
		Example: `  coldbrook quota delete --client-id replay remote_fetch_byte_rate`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd); err != nil {
				return err
			}
			return a.alterQuota(cmd.Context(), "deleted", o, func(ctx context.Context, adm *kadm.Client) ([]kadm.AlterClientQuotaOp, error) {
				names := args
				if len(names) == 0 {
					described, err := adm.DescribeClientQuotas(ctx, true, o.filter())
					if err != nil {
						return nil, err
					}
					for _, q := range described {
						names = append(names, sorted(quotaRowOf(q).Quotas)...)
					}
				}
				var ops []kadm.AlterClientQuotaOp
				for _, name := range names {
					ops = append(ops, kadm.AlterClientQuotaOp{Key: strings.ReplaceAll(name, "-", "_"), Remove: true})
				}
				return ops, nil
			})
		},
	}
	o.flags(c)
	a.bootstrapFlag(c)
	return c
}

// alterQuota changes the quotas of whom o names.
func (a *app) alterQuota(ctx context.Context, done string, o quotaOwner, ops func(context.Context, *kadm.Client) ([]kadm.AlterClientQuotaOp, error)) error {
	if !o.some {
		return usagef("whose quota? want --user, --client-id, --default-user or --default-client-id")
	}
	return a.admin(ctx, func(ctx context.Context, adm *kadm.Client) error {
		what, err := ops(ctx, adm)
		if err != nil {
			return err
		}
		e := o.entity()
		if len(what) == 0 {
			return fmt.Errorf("there are no quotas of %s", e)
		}
		altered, err := adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: e, Ops: what}})
		if err != nil {
			return err
		}
		for _, q := range altered {
			if q.Err != nil {
				return brokerError("quotas of "+e.String(), q.Err, q.ErrMessage)
			}
		}
		slices.SortFunc(what, func(x, y kadm.AlterClientQuotaOp) int { return strings.Compare(x.Key, y.Key) })
		for _, op := range what {
			if op.Remove {
				a.note("%s %s of %s", done, op.Key, e)
			} else {
				a.note("%s %s of %s to %s", done, op.Key, e, quotaValue(op.Key, op.Value))
			}
		}
		return nil
	})
}
