package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/ports"
)

// testCluster are embedded members on loopback addresses.
type testCluster struct {
	t       *testing.T
	options []EmbeddedOptions
	running []*Embedded // nil: not running
	logs    []*lockedBuffer
}

// lockedBuffer collects log lines of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	at, err := ports.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// newCluster describes n members; change may change them. None is started.
func newCluster(t *testing.T, n int, change func(*EmbeddedOptions)) *testCluster {
	t.Helper()
	c := &testCluster{t: t, running: make([]*Embedded, n)}
	scheme := "http://"
	probe := EmbeddedOptions{}
	if change != nil {
		change(&probe)
	}
	if probe.CertFile != "" {
		scheme = "https://"
	}
	var peers []Peer
	for i := range n {
		peers = append(peers, Peer{Name: fmt.Sprint(i + 1), URL: scheme + freeAddress(t)})
	}
	dir := t.TempDir()
	for i, p := range peers {
		c.logs = append(c.logs, &lockedBuffer{})
		o := EmbeddedOptions{
			Dir: filepath.Join(dir, "etcd-"+p.Name), Name: p.Name, Peers: peers, ListenPeers: []string{p.URL}, ListenClients: []string{scheme + freeAddress(t)},
			Unsafe: true, JoinTimeout: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(c.logs[i], nil)),
		}
		if change != nil {
			change(&o)
		}
		c.options = append(c.options, o)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for i, l := range c.logs {
				t.Logf("log of member %d:\n%s", i+1, l)
			}
		}
	})
	return c
}

// startCluster starts a new cluster of n members.
func startCluster(t *testing.T, n int, change func(*EmbeddedOptions)) *testCluster {
	t.Helper()
	c := newCluster(t, n, change)
	t.Cleanup(func() {
		for i := range c.running {
			c.stop(i)
		}
	})
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	c.start(all...)
	return c
}

// start starts members, given by their place in the list, at once.
func (c *testCluster) start(which ...int) {
	c.t.Helper()
	if err := c.tryStart(c.t.Context(), which...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testCluster) tryStart(ctx context.Context, which ...int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for n, i := range which {
		wg.Go(func() { c.running[i], errs[n] = StartEmbedded(ctx, c.options[i]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stop ends a member as a clean stop does.
func (c *testCluster) stop(i int) {
	if c.running[i] != nil {
		closeKV(c.t, c.running[i])
		c.running[i] = nil
	}
}

// kill ends a member without a word to the others, but for its connections.
func (c *testCluster) kill(i int) {
	c.running[i].etcd.Server.HardStop()
	c.stop(i)
}

func (c *testCluster) wipe(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.options[i].Dir); err != nil {
		c.t.Fatal(err)
	}
}

// kv is one member's.
func (c *testCluster) kv(i int) KV { return c.running[i].KV() }

// leader is the place of the leader, once all running members know it.
func (c *testCluster) leader() int {
	c.t.Helper()
	for {
		for i, e := range c.running {
			if e != nil && e.Leading() {
				return i
			}
		}
		select {
		case <-c.t.Context().Done():
			c.t.Fatal("no leader")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// clients are the URLs of all members for clients.
func (c *testCluster) clients() []string {
	var urls []string
	for _, o := range c.options {
		urls = append(urls, o.ListenClients...)
	}
	return urls
}

func (c *testCluster) members(i int) string {
	c.t.Helper()
	list, err := c.running[i].kv.client.MemberList(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, m := range list.Members {
		name := m.Name
		if m.IsLearner {
			name += "(learner)"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// putSoon writes as soon as there is a leader.
func putSoon(t *testing.T, kv KV, key, value string) int64 {
	t.Helper()
	for {
		resp, err := kv.Txn(t.Context(), Txn{Then: []Op{Put(key, []byte(value), 0)}})
		if err == nil {
			return resp.Revision
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func TestNewMembersMakeOneClusterThatSurvivesTheLossOfAny(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	putSoon(t, c.kv(0), "k", "v")
	for i := range c.running {
		if got := pairs(mustRange(t, c.kv(i), RangeRequest{Key: "k"}).KVs); got != "k=v" {
			t.Errorf("member %d: got %q, want k=v", i+1, got)
		}
	}
	if got := c.members(1); got != "1 2 3" {
		t.Errorf("members %q, want 1 2 3", got)
	}
	lost := c.leader()
	c.kill(lost)
	left := (lost + 1) % 3
	putSoon(t, c.kv(left), "k", "w")
	c.start(lost)
	if got := pairs(mustRange(t, c.kv(lost), RangeRequest{Key: "k"}).KVs); got != "k=w" {
		t.Errorf("the member that came back: got %q, want k=w", got)
	}
}

func TestMemberWithoutDataTakesThePlaceOfTheDeadOne(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	putSoon(t, c.kv(0), "k", "v")
	before := c.running[0].Cluster()
	for i := range 3 { // also the one that made the cluster, and the leader among them
		c.kill(i)
		c.wipe(i)
		putSoon(t, c.kv((i+1)%3), "k", fmt.Sprint(i))
		c.start(i)
		if got := pairs(mustRange(t, c.kv(i), RangeRequest{Key: "k"}).KVs); got != "k="+fmt.Sprint(i) {
			t.Errorf("replaced member %d: got %q, want k=%d", i+1, got, i)
		}
		if got := c.members(i); got != "1 2 3" {
			t.Errorf("members %q, want 1 2 3", got)
		}
	}
	if after := c.running[0].Cluster(); after != before {
		t.Errorf("cluster %s, was %s", after, before)
	}
	// It counts: with another one gone it is half of the majority.
	c.kill(1)
	putSoon(t, c.kv(0), "k", "x")
}

func TestMemberOnAnotherMachineTakesThePlaceOfTheDeadOne(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	putSoon(t, c.kv(0), "k", "v")
	c.kill(2)
	c.wipe(2)
	// Only its own configuration has the new address.
	c.options[2].Peers = slices.Clone(c.options[2].Peers)
	c.options[2].Peers[2].URL = "http://" + freeAddress(t)
	c.options[2].ListenPeers = []string{c.options[2].Peers[2].URL}
	c.start(2)
	if got := c.members(0); got != "1 2 3" {
		t.Errorf("members %q, want 1 2 3", got)
	}
	// With its data it may move again.
	c.stop(2)
	c.options[2].Peers[2].URL = "http://" + freeAddress(t)
	c.options[2].ListenPeers = []string{c.options[2].Peers[2].URL}
	c.start(2)
	c.kill(0)
	putSoon(t, c.kv(2), "k", "w")
}

func TestEmptyMemberIsRefusedWhileTheOneOfItsNameLives(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	o := c.options[2]
	o.Dir = filepath.Join(t.TempDir(), "other")
	o.Peers = slices.Clone(o.Peers)
	o.Peers[2].URL = "http://" + freeAddress(t)
	o.ListenPeers, o.ListenClients = []string{o.Peers[2].URL}, []string{"http://" + freeAddress(t)}
	e, err := StartEmbedded(t.Context(), o)
	if err == nil {
		closeKV(t, e)
	}
	if err == nil || !strings.Contains(err.Error(), "is another broker running with node.id 3") || !strings.Contains(err.Error(), c.options[2].Peers[2].URL) {
		t.Errorf("got %v, want a refusal that names the living member", err)
	}
	if got := c.members(0); got != "1 2 3" {
		t.Errorf("members %q, want 1 2 3", got)
	}
}

func TestClusterWithoutQuorumIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	putSoon(t, c.kv(0), "k", "v")
	c.kill(1)
	c.kill(2)
	c.wipe(2)
	c.options[2].JoinTimeout = time.Second
	err := c.tryStart(t.Context(), 2)
	if err == nil || !strings.Contains(err.Error(), "no quorum") || !strings.Contains(err.Error(), "1 ("+c.options[0].Peers[0].URL+") answers") ||
		!strings.Contains(err.Error(), "2 ("+c.options[1].Peers[1].URL+") does not answer") {
		t.Errorf("got %v, want an error that says who answers and who does not", err)
	}
	// With the data of the second one back, all is well again.
	c.options[2].JoinTimeout = 0
	c.start(1, 2)
	if got := pairs(mustRange(t, c.kv(2), RangeRequest{Key: "k"}).KVs); got != "k=v" {
		t.Errorf("got %q, want k=v", got)
	}
}

func TestMembersWithoutDataWaitWhileOneDoesNotAnswer(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	putSoon(t, c.kv(0), "k", "v")
	for i := range 3 {
		c.stop(i)
	}
	// Two lost their disks. The third has the data, and is not back yet.
	c.wipe(1)
	c.wipe(2)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := c.tryStart(ctx, 1, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want them to wait", err)
	}
	if said := c.logs[1].String(); !strings.Contains(said, "these do not answer: 1 at "+c.options[0].Peers[0].URL) {
		t.Error("the log does not say what is waited for")
	}
}

func TestStartWithoutMajorityWaitsAndSaysForWhom(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	for i := range 3 {
		c.stop(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := c.tryStart(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want it to wait", err)
	}
	said := c.logs[1].String()
	for _, want := range []string{"etcd is not ready", "1 at " + c.options[0].Peers[0].URL, "3 at " + c.options[2].Peers[2].URL} {
		if !strings.Contains(said, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

func TestDirectoryOfAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	c, other := startCluster(t, 3, nil), startCluster(t, 3, nil)
	theirs, ours := c.running[0].Cluster(), other.running[2].Cluster()
	c.stop(2)
	other.stop(2)
	c.options[2].Dir = other.options[2].Dir
	err := c.tryStart(t.Context(), 2)
	if err == nil || !strings.Contains(err.Error(), ours) || !strings.Contains(err.Error(), theirs) || !strings.Contains(err.Error(), other.options[2].Dir) {
		t.Errorf("got %v, want an error that names the directory and clusters %s and %s", err, ours, theirs)
	}
}

func TestRemovedMemberThatComesBackIsToldSo(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.kill(2)
	old := c.options[2]
	c.options[2].Dir = filepath.Join(t.TempDir(), "new")
	c.start(2)
	c.stop(2)
	c.options[2] = old
	if err := c.tryStart(t.Context(), 2); !errors.Is(err, errRemoved) {
		t.Errorf("got %v, want errRemoved", err)
	}
}

func TestLonelyMemberGrowsIntoACluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	t.Cleanup(func() {
		for i := range c.running {
			c.stop(i)
		}
	})
	alone := EmbeddedOptions{Dir: c.options[0].Dir, Unsafe: true}
	e, err := StartEmbedded(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	put(t, e.KV(), "k", "v")
	closeKV(t, e)
	c.start(0, 1, 2)
	if got := c.members(2); got != "1 2 3" {
		t.Errorf("members %q, want 1 2 3", got)
	}
	c.kill(0)
	putSoon(t, c.kv(2), "other", "x")
	if got := pairs(mustRange(t, c.kv(2), RangeRequest{Key: "k"}).KVs); got != "k=v" {
		t.Errorf("got %q, want k=v", got)
	}
}

func TestMemberWithoutMajorityIsUnavailableAndKeepsItsWatches(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, func(o *EmbeddedOptions) { o.RequestTimeout = time.Second })
	base := putSoon(t, c.kv(0), "k", "v")
	w := watch(t, c.kv(0), t.Context(), WatchRequest{Key: "k", Revision: base})
	defer w.stop()
	w.events(1, base)
	c.kill(1)
	c.kill(2)
	if _, err := c.kv(0).Range(t.Context(), RangeRequest{Key: "k"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("range: got %v, want ErrUnavailable", err)
	}
	if _, err := c.kv(0).Txn(t.Context(), Txn{Then: []Op{Put("k", nil, 0)}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("txn: got %v, want ErrUnavailable", err)
	}
	if _, _, err := c.kv(0).Grant(t.Context(), time.Second); !errors.Is(err, ErrUnavailable) {
		t.Errorf("grant: got %v, want ErrUnavailable", err)
	}
	c.start(1)
	rev := putSoon(t, c.kv(1), "k", "w")
	for {
		resp, err, ok := w.next()
		if !ok || err != nil {
			t.Fatalf("the watch ended: %v", err)
		}
		if resp.Revision >= rev {
			return
		}
	}
}
