package console

import "github.com/coldbrook/coldbrook/broker/config"

// BrokerSettings returns the rows of /api/v1/config and of `coldbrook config print`.
func BrokerSettings(s *config.Settings) []Setting {
	values := s.Values()
	out := make([]Setting, 0, len(values))
	for _, v := range values {
		row := settingOf(v.Def)
		row.Value, row.Source, row.Dynamic = v.Value, v.Origin.String(), v.Def.Dynamic.String()
		if v.Def.Sensitive {
			row.Value = nil
		}
		out = append(out, row)
	}
	return out
}

// TopicSettings returns the rows of /api/v1/config?topic=.
func TopicSettings(s *config.Settings, overrides map[string]string) []Setting {
	entries := s.DescribeTopic(overrides)
	out := make([]Setting, 0, len(entries))
	for _, e := range entries {
		d, _ := config.Find(config.ScopeTopic, e.Name)
		row := settingOf(d)
		row.Value, row.Source = e.Value, e.Source.String()
		if len(e.Synonyms) > 0 && e.Synonyms[0].Name != e.Name {
			row.Source += " " + e.Synonyms[0].Name
		}
		out = append(out, row)
	}
	return out
}

func settingOf(d config.Def) Setting {
	row := Setting{Name: d.Name, Type: d.Type.String(), Unit: string(d.Unit), Valid: d.Valid.Text, Secret: d.Sensitive, Doc: d.Doc}
	if v, ok := d.DefaultValue(); ok {
		row.Default = &v
	}
	return row
}
