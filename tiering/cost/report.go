package cost

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Prices are what the operator of the store asks for, in any currency.
type Prices struct {
	PutPer1000 float64 // PUT and LIST requests
	GetPer1000 float64 // GET and HEAD requests
	GBMonth    float64 // 2³⁰ bytes kept for 30 days
	EgressGB   float64 // 2³⁰ bytes read
}

const gb = 1 << 30

// leastWindow is the shortest window from which a day's requests are told. What a broker does in its first minutes, when
// it reads manifests and fills its cache, is no day's work: without the bound one second of it would count 86,400 times.
const leastWindow = 10 * time.Minute

// perDay is what a day costs that goes on as the window did, with so many bytes stored.
func (p Prices) perDay(b billed, window time.Duration, stored int64) float64 {
	storage := float64(stored) / gb * p.GBMonth / 30
	requests := float64(b.puts)/1000*p.PutPer1000 + float64(b.gets)/1000*p.GetPer1000 + float64(b.out)/gb*p.EgressGB
	return storage + requests*float64(24*time.Hour)/float64(max(window, leastWindow))
}

// Row is what one topic uses of the object store: the requests of this broker, the bytes of the partitions
// that it leads.
type Row struct {
	Topic       string // or ClusterRow or OtherRow
	Used        Used   // since the start
	RemoteBytes int64  // of segments
	Segments    int64
	PerDay      float64 // of the window's requests and what is stored now
}

// Stored is what lies in the store of a topic's partitions that this broker leads.
type Stored struct {
	Topic           string
	Bytes, Segments int64
}

// Report is what each topic uses and costs, sorted by name, and when the window began from which a day's requests
// are told: a day ago, or the start of this broker if that was later. Without a ledger it knows only what is stored.
func Report(l *Ledger, stored []Stored, now time.Time, p Prices) (rows []Row, since time.Time) {
	since = now
	byName := map[string]*Row{}
	row := func(name string) *Row {
		if byName[name] == nil {
			byName[name] = &Row{Topic: name}
		}
		return byName[name]
	}
	for _, s := range stored {
		r := row(s.Topic)
		r.RemoteBytes += s.Bytes
		r.Segments += s.Segments
	}
	windows := map[string]billed{}
	if l != nil {
		var all []usage
		all, since = l.usages()
		for _, u := range all {
			row(u.name).Used, windows[u.name] = u.used, u.window
		}
	}
	for name, r := range byName {
		r.PerDay = p.perDay(windows[name], now.Sub(since), r.RemoteBytes)
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(own(a.Topic), own(b.Topic)), strings.Compare(a.Topic, b.Topic))
	})
	return rows, since
}

// Total adds rows up.
func Total(rows []Row) Row {
	var t Row
	for _, r := range rows {
		t.Used.Add(r.Used)
		t.RemoteBytes, t.Segments, t.PerDay = t.RemoteBytes+r.RemoteBytes, t.Segments+r.Segments, t.PerDay+r.PerDay
	}
	return t
}

// own is 1 for the rows that are no topic's, which come last.
func own(name string) int {
	if name == ClusterRow || name == OtherRow {
		return 1
	}
	return 0
}
