package cost

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/manifest"
	"github.com/coldbrook/coldbrook/tiering/object"
)

// Rows of a Ledger that are no topic's; no topic can have such a name.
const (
	ClusterRow = "(cluster)" // requests for no topic: snapshots of the cluster, checks, lists of the whole bucket
	OtherRow   = "(other)"   // topics that were deleted, or are not known yet
)

// count numbers what a Ledger counts.
type count int

const (
	countPut count = iota
	countGet
	countHead
	countList
	countDelete
	countIn
	countOut
	countHits
	countMisses
	countHitBytes
	countMissBytes
	counts
)

// Used is what was asked of the object store, and of the cache before it.
type Used struct {
	Put, Get, Head, List, Delete int64 // requests; a delete is one for each object
	BytesIn, BytesOut            int64 // put into the store and read out of it
	CacheHits, CacheMisses       int64 // pieces that readers asked for; a hit needed no request of its own
	CacheHitBytes                int64
	CacheMissBytes               int64
}

// Add adds another's counts.
func (u *Used) Add(o Used) {
	u.Put, u.Get, u.Head, u.List, u.Delete = u.Put+o.Put, u.Get+o.Get, u.Head+o.Head, u.List+o.List, u.Delete+o.Delete
	u.BytesIn, u.BytesOut = u.BytesIn+o.BytesIn, u.BytesOut+o.BytesOut
	u.CacheHits, u.CacheMisses = u.CacheHits+o.CacheHits, u.CacheMisses+o.CacheMisses
	u.CacheHitBytes, u.CacheMissBytes = u.CacheHitBytes+o.CacheHitBytes, u.CacheMissBytes+o.CacheMissBytes
}

// billed are the counts that stores ask money for.
type billed struct {
	puts int64 // PUT and LIST, one class in S3's price list
	gets int64 // GET and HEAD, the other
	out  int64 // bytes
}

func (u Used) billed() billed { return billed{u.Put + u.List, u.Get + u.Head, u.BytesOut} }

func (b billed) minus(o billed) billed {
	return billed{b.puts - o.puts, b.gets - o.gets, b.out - o.out}
}

// The window that a day's cost is told from: a mark an hour, a day of them.
const (
	markEvery = time.Hour
	marksKept = 24
)

// Ledger counts what each topic costs at the object store. Counting takes no lock and no memory once a topic is
// known. There is a row for each topic of the cluster that was used, and two more: ClusterRow and OtherRow, into
// which topics are added up when they are deleted. Safe for concurrent use.
type Ledger struct {
	prefix string // "<cluster-id>/"
	topic  func(metadata.TopicID) (name string, ok bool)
	rows   atomic.Pointer[map[string]*usageRow] // by folder, "<topic>.<topic-id>"; replaced, never changed
	other  *usageRow
	none   *usageRow

	mu    sync.Mutex // guards marks, and replacing rows
	marks []time.Time
}

// usageRow is what one topic used since the start.
type usageRow struct {
	name  string
	id    metadata.TopicID
	n     [counts]atomic.Int64
	marks []billed // the last len(marks) of the ledger's; guarded by its mu
}

// NewLedger returns an empty ledger of a cluster's part of the bucket. topic says which topics there are.
func NewLedger(clusterID string, topic func(metadata.TopicID) (name string, ok bool)) *Ledger {
	l := &Ledger{
		prefix: clusterID + "/", topic: topic,
		other: &usageRow{name: OtherRow}, none: &usageRow{name: ClusterRow}, marks: []time.Time{time.Now()},
	}
	l.rows.Store(&map[string]*usageRow{})
	return l
}

// Request counts an operation of the store: it is an object.Count.
func (l *Ledger) Request(op object.OpKind, key string, requests, bytes int64) {
	path, ok := strings.CutPrefix(key, l.prefix)
	if !ok {
		path = ""
	}
	r := l.row(path)
	switch op {
	case object.OpPut:
		r.n[countPut].Add(requests)
		r.n[countIn].Add(bytes)
	case object.OpGet:
		r.n[countGet].Add(requests)
	case object.OpRead:
		r.n[countOut].Add(bytes)
	case object.OpHead:
		r.n[countHead].Add(requests)
	case object.OpDelete:
		r.n[countDelete].Add(requests)
	case object.OpList:
		r.n[countList].Add(requests)
	}
}

// Cache counts a piece of an object that was asked for; object is a path below the cluster's prefix.
func (l *Ledger) Cache(object string, bytes int64, hit bool) {
	r := l.row(object)
	if hit {
		r.n[countHits].Add(1)
		r.n[countHitBytes].Add(bytes)
	} else {
		r.n[countMisses].Add(1)
		r.n[countMissBytes].Add(bytes)
	}
}

// row returns the row of a path below the cluster's prefix.
func (l *Ledger) row(path string) *usageRow {
	rest, ok := strings.CutPrefix(path, manifest.TopicsDir)
	folder, _, inside := strings.Cut(rest, "/")
	if !ok || !inside {
		return l.none
	}
	if r := (*l.rows.Load())[folder]; r != nil {
		return r
	}
	id, err := metadata.ParseTopicID(folder[strings.LastIndexByte(folder, '.')+1:])
	if err != nil {
		return l.none
	}
	name, ok := l.topic(id)
	if !ok {
		return l.other
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := *l.rows.Load()
	if r := rows[folder]; r != nil {
		return r
	}
	r := &usageRow{name: name, id: id}
	next := make(map[string]*usageRow, len(rows)+1)
	for k, v := range rows {
		next[k] = v
	}
	next[strings.Clone(folder)] = r
	l.rows.Store(&next)
	return r
}

// Run keeps the window of the last day until ctx ends, and adds up what was deleted.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			l.fold()
			l.mark(now)
		case <-ctx.Done():
			return nil
		}
	}
}

// mark begins a further hour of the window.
func (l *Ledger) mark(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = append(l.marks, now)
	drop := max(len(l.marks)-marksKept, 0)
	l.marks = slices.Delete(l.marks, 0, drop)
	for _, r := range l.allLocked() {
		r.marks = append(r.marks, r.used().billed())
		r.marks = slices.Delete(r.marks, 0, max(len(r.marks)-marksKept, 0))
	}
}

// fold adds the rows of deleted topics to OtherRow. A count that is on its way into such a row may be lost.
func (l *Ledger) fold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := *l.rows.Load()
	var gone []string
	for folder, r := range rows {
		if _, ok := l.topic(r.id); !ok {
			gone = append(gone, folder)
		}
	}
	if len(gone) == 0 {
		return
	}
	next := make(map[string]*usageRow, len(rows))
	for k, v := range rows {
		next[k] = v
	}
	for _, folder := range gone {
		delete(next, folder)
	}
	l.rows.Store(&next)
	for _, folder := range gone {
		l.other.take(rows[folder])
	}
}

// take adds another row that ends, with its part of the window.
func (r *usageRow) take(o *usageRow) {
	for i := range o.n {
		r.n[i].Add(o.n[i].Swap(0))
	}
	r.marks = slices.Concat(make([]billed, max(len(o.marks)-len(r.marks), 0)), r.marks)
	for i, b := range o.marks {
		to := &r.marks[len(r.marks)-len(o.marks)+i]
		*to = billed{to.puts + b.puts, to.gets + b.gets, to.out + b.out}
	}
}

func (l *Ledger) allLocked() []*usageRow {
	all := []*usageRow{l.none, l.other}
	for _, r := range *l.rows.Load() {
		all = append(all, r)
	}
	return all
}

func (r *usageRow) used() Used {
	n := func(c count) int64 { return r.n[c].Load() }
	return Used{
		Put: n(countPut), Get: n(countGet), Head: n(countHead), List: n(countList), Delete: n(countDelete),
		BytesIn: n(countIn), BytesOut: n(countOut), CacheHits: n(countHits), CacheMisses: n(countMisses),
		CacheHitBytes: n(countHitBytes), CacheMissBytes: n(countMissBytes),
	}
}

// usage is what one row used, since the start and since the window began.
type usage struct {
	name   string
	used   Used
	window billed
}

// usages returns all rows that were used, and when their window began: the start, or a day ago.
func (l *Ledger) usages() ([]usage, time.Time) {
	l.fold()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []usage
	for _, r := range l.allLocked() {
		u := usage{name: r.name, used: r.used()}
		u.window = u.used.billed()
		// A row that began later than the window has less marks: it had used nothing before. So had all of them at
		// the first mark, the start.
		if n := len(l.marks); len(r.marks) == n {
			u.window = u.window.minus(r.marks[0])
		}
		if u.used != (Used{}) {
			all = append(all, u)
		}
	}
	return all, l.marks[0]
}
