package config

import (
	"fmt"
	"strings"
)

// Reference returns the manual of the settings in Markdown, from the table.
func Reference(brokers, topics bool) string {
	var b strings.Builder
	if brokers {
		b.WriteString("## Broker settings\n\n")
		fmt.Fprintf(&b, "Set them in the file of `--config`, as environment variables (`log.retention.ms` is `%s`) or with `--set`.\n"+
			"Those that are *cluster-wide* or *per-broker* can be changed while brokers run, with any Kafka tool.\n\n", EnvName("log.retention.ms"))
		for i := range brokerDefs {
			writeDef(&b, &brokerDefs[i])
		}
	}
	if topics {
		b.WriteString("## Topic settings\n\nAll can be changed at any time. The default is what the broker's setting in brackets says.\n\n")
		for i := range topicDefs {
			writeDef(&b, &topicDefs[i])
		}
	}
	return b.String()
}

func writeDef(b *strings.Builder, d *Def) {
	if d.Internal {
		return
	}
	fmt.Fprintf(b, "### %s\n\n%s\n\n", d.Name, d.Doc)
	kind := d.Type.String()
	if d.Unit != "" {
		kind += ", " + string(d.Unit)
	}
	fmt.Fprintf(b, "* type: %s\n", kind)
	if v, ok := d.DefaultValue(); ok {
		if v == "" {
			v = "(empty)"
		}
		fmt.Fprintf(b, "* default: `%s`", v)
	} else {
		b.WriteString("* default: none")
	}
	if len(d.Synonyms) > 0 {
		names := make([]string, len(d.Synonyms))
		for i, s := range d.Synonyms {
			names[i] = s.Name
		}
		fmt.Fprintf(b, " [%s]", strings.Join(names, ", "))
	}
	b.WriteByte('\n')
	if d.Valid.Text != "" {
		fmt.Fprintf(b, "* values: %s\n", d.Valid.Text)
	}
	if d.Scope == ScopeBroker {
		fmt.Fprintf(b, "* change: %s\n", d.Dynamic)
	}
	if d.Flag != "" {
		fmt.Fprintf(b, "* flag: `--%s`\n", d.Flag)
	}
	if d.Own {
		b.WriteString("* Coldbrook's own\n")
	}
	b.WriteByte('\n')
}

// ReferenceRow is one setting of the manual for programs.
type ReferenceRow struct {
	Name     string   `json:"name"`
	Scope    string   `json:"scope"`
	Type     string   `json:"type"`
	Unit     string   `json:"unit,omitempty"`
	Default  *string  `json:"default"`
	Valid    string   `json:"valid,omitempty"`
	Dynamic  string   `json:"dynamic"`
	Flag     string   `json:"flag,omitempty"`
	Env      string   `json:"env,omitempty"`
	Synonyms []string `json:"synonyms,omitempty"`
	Own      bool     `json:"own"`
	Doc      string   `json:"doc"`
}

// ReferenceJSON returns the manual as rows.
func ReferenceJSON(brokers, topics bool) []ReferenceRow {
	var defs []Def
	if brokers {
		defs = append(defs, brokerDefs...)
	}
	if topics {
		defs = append(defs, topicDefs...)
	}
	rows := make([]ReferenceRow, 0, len(defs))
	for _, d := range defs {
		if d.Internal {
			continue
		}
		row := ReferenceRow{Name: d.Name, Scope: d.Scope.String(), Type: d.Type.String(), Unit: string(d.Unit), Valid: d.Valid.Text,
			Dynamic: d.Dynamic.String(), Flag: d.Flag, Own: d.Own, Doc: d.Doc}
		if d.Scope == ScopeTopic {
			row.Dynamic = "cluster-wide"
		} else {
			row.Env = EnvName(d.Name)
		}
		if v, ok := d.DefaultValue(); ok {
			row.Default = &v
		}
		for _, s := range d.Synonyms {
			row.Synonyms = append(row.Synonyms, s.Name)
		}
		rows = append(rows, row)
	}
	return rows
}
