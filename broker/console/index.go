package console

import (
	"html/template"
	"net/http"
)

var indexPage = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Coldbrook</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{margin-bottom:0}p.sub{margin-top:0;color:#555}td,th{padding:.2rem 1.5rem .2rem 0;vertical-align:top;text-align:left}a{color:#0057b8}
.good{color:#0a7d33}.bad{color:#b00020}.warn{color:#8a5a00}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}p.sub{color:#999}a{color:#6ab0ff}.good{color:#5fd38a}.bad{color:#ff6b7d}.warn{color:#e0b050}}</style></head>
<body><h1>Coldbrook</h1>
<p class="sub">{{with .Version}}version {{.Version}}, node {{.NodeID}}{{with .ClusterID}}, cluster {{.}}{{end}}{{end}}</p>
{{if .Reasons}}<p class="bad"><strong>Not ready.</strong></p><ul>{{range .Reasons}}<li>{{.Component}}: {{.Reason}}</li>{{end}}</ul>
{{else}}<p class="good"><strong>Ready.</strong></p>{{end}}
{{with .Health}}{{if gt (len .Brokers) 1}}<p{{if .Leaderless}} class="bad"{{else if .UnderReplicated}} class="warn"{{else}} class="good"{{end}}><strong>Cluster:</strong>
{{.Live}} of {{len .Brokers}} brokers live, {{.Partitions}} partitions, {{len .Leaderless}} without a leader, {{len .UnderReplicated}} under-replicated,
{{len .Reassigning}} being reassigned{{if lt .Controller 0}}, no controller{{end}}.</p>
<table><tr><th>Broker</th><th>Rack</th><th>Role</th><th>Leads</th><th>Holds</th><th>State</th></tr>
{{$c := .Controller}}{{range .Brokers}}<tr><td>{{.ID}}</td><td>{{.Rack}}</td><td>{{or .Role "broker"}}</td><td>{{.Leaders}}</td><td>{{.Partitions}}</td>
<td>{{or .State "live"}}{{if eq .ID $c}}, controller{{end}}</td></tr>{{end}}</table>{{end}}{{end}}
<table>{{range .Links}}<tr><td><a href="{{.Path}}">{{.Path}}</a></td><td>{{.Text}}</td></tr>{{end}}</table>
</body></html>
`))

type link struct{ Path, Text string }

// index lists what there is.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	page := struct {
		Version *Version
		Reasons []Reason
		Health  *Health
		Links   []link
	}{Links: s.links(r)}
	if s.o.Version != nil {
		v := s.o.Version()
		page.Version = &v
	}
	if s.o.Unhealthy != nil {
		page.Reasons = append(page.Reasons, s.o.Unhealthy()...)
	}
	if s.o.NotReady != nil {
		page.Reasons = append(page.Reasons, s.o.NotReady()...)
	}
	if s.o.Brokers != nil && s.o.Topics != nil {
		if h, err := s.health(r.Context()); err == nil { // a page that cannot say how the cluster is still says what is here
			page.Health = &h
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := indexPage.Execute(w, page); err != nil {
		s.o.Logger.Debug("http page not written", "err", err) // the client is gone
	}
}

func (s *Server) links(r *http.Request) []link {
	all := []struct {
		there bool
		link
	}{
		{true, link{"/healthz", "whether the process works"}},
		{true, link{"/readyz", "whether clients can be served"}},
		{s.o.Metrics != nil, link{"/metrics", "metrics, for Prometheus"}},
		{s.o.Tier != nil, link{"/api/v1/tier", "what is local, what is remote, what waits for upload"}},
		{s.o.Brokers != nil && s.o.Topics != nil, link{"/api/v1/cluster", "how the cluster is"}},
		{s.o.Topics != nil, link{"/api/v1/topics", "topics and partitions"}},
		{s.o.Brokers != nil, link{"/api/v1/brokers", "the cluster's brokers"}},
		{s.o.Settings != nil, link{"/api/v1/config", "settings, and where each came from"}},
		{s.o.Version != nil, link{"/api/v1/version", "what runs here"}},
		{s.mayAdmin(r), link{"/debug/pprof/", "profiles of this process"}},
	}
	var out []link
	for _, l := range all {
		if l.there {
			out = append(out, l.link)
		}
	}
	return out
}
