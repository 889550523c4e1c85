package main

import (
	"strings"
	"testing"

	"github.com/coldbrook/coldbrook/broker/quota"
)

func TestQuotasAreWrittenAsPeopleWriteThem(t *testing.T) {
	for _, c := range []struct {
		kind  quota.Kind
		in    string
		want  float64 // 0: refused
		shown string
	}{
		{quota.RemoteFetch, "50MB", 50e6, "48 MiB/s"}, {quota.Produce, "1.5MiB/s", 1.5 * (1 << 20), "1.5 MiB/s"}, {quota.Fetch, "100", 100, "100 B/s"},
		{quota.Request, "12.5%", 12.5, "12.5%"}, {quota.Request, "200", 200, "200%"}, {quota.ControllerMutation, "0.5", 0.5, "0.5/s"},
		{quota.RemoteFetch, "0", 0, ""}, {quota.RemoteFetch, "-1MB", 0, ""}, {quota.Fetch, "fast", 0, ""}, {quota.Request, "0", 0, ""}, {quota.Request, "NaN", 0, ""},
	} {
		got, err := parseQuota(c.kind, c.in)
		switch {
		case c.want == 0 && (err == nil || !strings.Contains(err.Error(), "--"+quotaFlag(c.kind))):
			t.Errorf("%s %s: %v, want an error that names the flag", c.kind, c.in, err)
		case c.want != 0 && (err != nil || got != c.want || quotaValue(c.kind.String(), got) != c.shown):
			t.Errorf("%s %s: %g as %s, %v; want %g as %s", c.kind, c.in, got, quotaValue(c.kind.String(), got), err, c.want, c.shown)
		}
	}
}

func TestAQuotaNeedsAnOwnerAndAValue(t *testing.T) {
	for _, args := range [][]string{
		{"set", "--remote-fetch-byte-rate", "1MB"}, {"set", "--client-id", "replay"}, {"delete"},
		{"set", "--client-id", "", "--consumer-byte-rate", "1"}, {"set", "--user", "a", "--default-user", "--consumer-byte-rate", "1"},
		{"list", "--client-id", "c", "--default-client-id"}, {"set", "--client-id", "c", "--consumer-byte-rate", "x"},
	} {
		if code, out, errs := command(t, "", append([]string{"quota"}, args...)...); code != exitUsage || out != "" {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, errs)
		}
	}
}
