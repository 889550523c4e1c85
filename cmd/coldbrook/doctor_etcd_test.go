package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

func TestDoctorJudgesEtcd(t *testing.T) {
	member := func(name string, change func(*kv.MemberHealth)) kv.MemberHealth {
		m := kv.MemberHealth{Name: name, ID: "a" + name, URL: "http://" + name + ":2379", Version: "3.7.3", Bytes: 1 << 20, Quota: 1 << 30, Leader: name == "1"}
		if change != nil {
			change(&m)
		}
		return m
	}
	away := func(m *kv.MemberHealth) { m.Err, m.Version = errors.New("refused"), "" }
	for name, c := range map[string]struct {
		health kv.Health
		want   []string // a status and a part of the text
	}{
		"all well": {kv.Health{Cluster: "c", Members: []kv.MemberHealth{member("1", nil), member("2", nil)}}, []string{"ok cluster c: 2 of 2 members answer, leader 1"}},
		"one away": {kv.Health{Members: []kv.MemberHealth{member("1", nil), member("2", nil), member("3", away)}}, []string{"warn 2 of 3 members answer", "warn 3 at http://3:2379: refused"}},
		"no quorum": {kv.Health{Quorum: errors.New("no leader"), Members: []kv.MemberHealth{member("1", nil), member("2", away), member("3", away)}},
			[]string{"fail 1 of 3 members answer", "fail there is no quorum: no leader"}},
		"clock":       {kv.Health{Members: []kv.MemberHealth{member("1", func(m *kv.MemberHealth) { m.Ahead = -5 * time.Second })}}, []string{"ok ", "warn the clock of member 1", "warn by 5"}},
		"nearly full": {kv.Health{Members: []kv.MemberHealth{member("1", func(m *kv.MemberHealth) { m.Bytes = 900 << 20 })}}, []string{"ok ", "warn member 1 uses"}},
		"versions":    {kv.Health{Members: []kv.MemberHealth{member("1", nil), member("2", func(m *kv.MemberHealth) { m.Version = "3.6.0" })}}, []string{"ok version 3.6.0 and 3.7.3"}},
		"alarm":       {kv.Health{Members: []kv.MemberHealth{member("1", nil)}, Alarms: []string{"NOSPACE"}}, []string{"ok ", "fail it refuses writes: NOSPACE"}},
		"uncompacted": {kv.Health{Members: []kv.MemberHealth{member("1", nil)}, Uncompacted: 50000}, []string{"ok ", "warn nothing compacts it: it keeps 50000 revisions"}},
	} {
		found := etcdFindings(c.health)
		for _, want := range c.want {
			status, text, _ := strings.Cut(want, " ")
			if !slices.ContainsFunc(found, func(f finding) bool { return f.Status == status && strings.Contains(f.Detail, text) }) {
				t.Errorf("%s: no %q in %+v", name, want, found)
			}
		}
		for _, f := range found {
			if f.Status != "ok" && !slices.ContainsFunc(c.want, func(want string) bool { return strings.HasPrefix(want, f.Status) }) {
				t.Errorf("%s: %+v was not expected", name, f)
			}
			if f.Status != "ok" && f.Hint == "" {
				t.Errorf("%s: %+v does not say what to do", name, f)
			}
		}
	}
}
