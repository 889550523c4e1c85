package kv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The embedded cluster keeps itself from filling up. etcd refuses every write, renewals of registrations included, once
// its file reaches the quota, and it keeps every revision until somebody compacts; one revision of ours may hold 4,096
// partitions, so counting revisions is not enough. The leader's member does the work for all:
//
//   - old revisions go after keepHistory, and at once when they take more than an eighth of the quota;
//   - a file that is mostly free pages is rewritten, member after member, the leader last, and only while all answer;
//   - a quota that was reached all the same is recovered from: compact, rewrite, then take the alarm back.
const (
	defaultLookEvery = time.Second
	// keepHistory is how old a revision is kept for a watch that was cut off. One that comes later reads all anew.
	keepHistory = 5 * time.Minute
	// sampleEvery is how exactly the age of revisions is known.
	sampleEvery = 10 * time.Second
	// careTimeout bounds one step: to rewrite a file takes a second for some 100 MB.
	careTimeout = time.Minute
	// complainEvery is how often what stays wrong is said again.
	complainEvery = 10 * time.Minute
)

// Shares of the quota.
const (
	historyShare   = 8 // revisions may take this part before they are old
	pressureShare  = 2 // beyond this part in use, no history is kept
	fileShare      = 2 // a file below this part is never rewritten
	freePagesShare = 4 // and one with fewer free pages than this part
)

// Size is how large the database of a store is.
type Size struct {
	Bytes int64 // of its file, which is what the quota is about
	InUse int64 // of that, without free pages
	Quota int64 // 0: not known
}

// Sizer is a KV that can say how large its database is.
type Sizer interface {
	Size(ctx context.Context) (Size, error)
}

// nearlyFull says that the quota will be reached soon.
func (s Size) nearlyFull() bool { return s.Quota > 0 && s.InUse > s.Quota/4*3 }

// Size asks the endpoints one after the other until one answers: all members have the same keys.
func (e *etcd) Size(ctx context.Context) (Size, error) {
	endpoints := e.client.Endpoints()
	if len(endpoints) == 0 {
		endpoints = []string{""} // the member inside
	}
	var errs []error
	for _, endpoint := range endpoints {
		s, err := withTimeout(ctx, func(ctx context.Context) (*clientv3.StatusResponse, error) { return e.client.Status(ctx, endpoint) })
		if err == nil {
			return Size{Bytes: s.DbSize, InUse: s.DbSizeInUse, Quota: s.DbSizeQuota}, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", endpoint, mapError(err)))
	}
	return Size{}, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(errs...))
}

// keeper is the housekeeping of one member. Only Embedded.keep uses it.
type keeper struct {
	e    *Embedded
	size func() Size // of this member
	log  *slog.Logger
	tls  *tls.Config // of connections to other members; nil: plain
	past []moment    // revisions and when they were the newest, the oldest first
	// compacted is the newest revision that was asked to go, floor the least that was in use since.
	compacted, floor int64
	swept            time.Time // when old revisions last went
	rewritten        time.Time // when files were last looked at
	recovered        time.Time // when room was last made in a full cluster
	complained       time.Time
}

// moment is a revision that was the newest at a time.
type moment struct {
	at       time.Time
	revision int64
}

// keep runs until ctx ends.
func (k *keeper) keep(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.complain("etcd is not kept small", err)
		}
	}
}

// complain says what is wrong, again only after a while.
func (k *keeper) complain(msg string, err error) {
	if time.Since(k.complained) >= complainEvery {
		k.complained = time.Now()
		k.log.Warn(msg, "err", err)
	}
}

// look does what is due. Members that do not lead do nothing.
func (k *keeper) look(ctx context.Context) error {
	if !k.e.Leading() {
		k.past, k.floor = nil, 0
		return nil
	}
	size := k.size()
	if full := k.full(); len(full) > 0 {
		if time.Since(k.recovered) < careTimeout {
			return nil
		}
		k.recovered = time.Now()
		return k.recover(ctx, size, full)
	}
	if to := k.due(size, k.e.etcd.Server.KV().Rev(), time.Now()); to > k.compacted {
		if err := k.compact(ctx, to); err != nil {
			return err
		}
		k.floor = size.InUse
	}
	if size.nearlyFull() {
		k.complain("etcd is nearly full: at its quota it refuses all writes", fmt.Errorf("%d bytes in use, the quota is %d", size.InUse, size.Quota))
	}
	if fragmented(size) && time.Since(k.rewritten) > careTimeout {
		k.rewritten = time.Now()
		return k.rewrite(ctx, false)
	}
	return nil
}

// full are the members that said that they reached the quota.
func (k *keeper) full() []*etcdserverpb.AlarmMember {
	return slices.DeleteFunc(k.e.etcd.Server.Alarms(), func(a *etcdserverpb.AlarmMember) bool { return a.Alarm != etcdserverpb.AlarmType_NOSPACE })
}

// due is the revision up to which the past may go now, 0 for none.
func (k *keeper) due(size Size, newest int64, now time.Time) int64 {
	if k.floor == 0 || size.InUse < k.floor {
		k.floor = size.InUse
	}
	if n := len(k.past); n == 0 || now.Sub(k.past[n-1].at) >= sampleEvery {
		k.past = append(k.past, moment{now, newest})
	}
	var old int64
	for len(k.past) > 1 && now.Sub(k.past[0].at) > keepHistory {
		old = k.past[0].revision
		k.past = k.past[1:]
	}
	switch {
	case size.InUse > size.Quota/pressureShare:
		return newest
	case size.InUse-k.floor > size.Quota/historyShare:
		return k.past[len(k.past)-1].revision
	}
	if old == 0 || now.Sub(k.swept) < sampleEvery {
		return 0
	}
	k.swept = now
	return old
}

// fragmented says that to rewrite the file is worth the second for which its member does not answer.
func fragmented(s Size) bool {
	return s.Bytes > s.Quota/fileShare && s.Bytes-s.InUse > s.Quota/freePagesShare
}

// compact lets go of what was before a revision, and returns when its pages are free.
func (k *keeper) compact(ctx context.Context, to int64) error {
	ctx, cancel := context.WithTimeout(ctx, careTimeout)
	defer cancel()
	_, err := k.e.kv.client.Compact(ctx, to, clientv3.WithCompactPhysical())
	if err = mapError(err); err != nil && !errors.Is(err, ErrCompacted) {
		return fmt.Errorf("compact to revision %d: %w", to, err)
	}
	k.compacted = to
	// The pages are free for others once this member has committed twice, which it does ten times a second by itself:
	// too seldom for a burst.
	b := k.e.etcd.Server.Backend()
	b.ForceCommit()
	b.ForceCommit()
	return nil
}

// recover makes room in a cluster that reached its quota, and takes the alarms back.
func (k *keeper) recover(ctx context.Context, size Size, full []*etcdserverpb.AlarmMember) error {
	k.log.Error("etcd reached its quota and refuses writes, making room", "bytes", size.Bytes, "in_use", size.InUse, "quota", size.Quota)
	if err := k.compact(ctx, k.e.etcd.Server.KV().Rev()); err != nil {
		return err
	}
	if err := k.rewrite(ctx, true); err != nil {
		return err
	}
	if size = k.size(); size.nearlyFull() {
		return fmt.Errorf("%w: %d bytes are in use after compaction, the quota is %d", ErrNoSpace, size.InUse, size.Quota)
	}
	ctx, cancel := context.WithTimeout(ctx, careTimeout)
	defer cancel()
	for _, a := range full { // and not an alarm of another kind
		if _, err := k.e.kv.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return fmt.Errorf("take back the alarm: %w", mapError(err))
		}
	}
	k.log.Warn("etcd takes writes again", "bytes", size.Bytes, "quota", size.Quota)
	return nil
}

// rewrite frees the unused pages of the members' files, one after the other. Unless it must, it leaves them alone while
// a member does not answer: with one more away there might be no majority.
func (k *keeper) rewrite(ctx context.Context, must bool) error {
	bounded, cancel := context.WithTimeout(ctx, careTimeout)
	defer cancel()
	list, err := k.e.kv.client.MemberList(bounded)
	if err != nil {
		return fmt.Errorf("list members: %w", mapError(err))
	}
	var others []func(context.Context) error
	for _, m := range list.Members {
		if m.ID == uint64(k.e.etcd.Server.MemberID()) {
			continue
		}
		c, err := k.dial(ctx, m)
		if err == nil {
			defer c.Close()
			_, err = withTimeout(ctx, func(ctx context.Context) (*clientv3.StatusResponse, error) { return c.Status(ctx, m.ClientURLs[0]) })
		}
		switch {
		case err == nil:
			others = append(others, func(ctx context.Context) error { return k.rewriteOther(ctx, c, m, must) })
		case !must:
			return fmt.Errorf("member %s does not answer, files are not rewritten: %w", m.Name, err)
		}
	}
	for _, other := range others {
		if err := other(ctx); err != nil {
			return err
		}
	}
	name := k.e.etcd.Config().Name
	return k.rewriteOne(name, k.size(), must, k.e.etcd.Server.Backend().Defrag)
}

// dial connects to another member.
func (k *keeper) dial(ctx context.Context, m *etcdserverpb.Member) (*clientv3.Client, error) {
	if len(m.ClientURLs) == 0 {
		return nil, errors.New("it never started")
	}
	return clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: m.ClientURLs[:1], TLS: k.tls, DialTimeout: askTimeout, Logger: quietZap(),
	})
}

// rewriteOther is rewriteOne over a connection.
func (k *keeper) rewriteOther(ctx context.Context, c *clientv3.Client, m *etcdserverpb.Member, must bool) error {
	ctx, cancel := context.WithTimeout(ctx, careTimeout)
	defer cancel()
	s, err := c.Status(ctx, m.ClientURLs[0])
	if err != nil {
		return fmt.Errorf("member %s: %w", m.Name, mapError(err))
	}
	return k.rewriteOne(m.Name, Size{Bytes: s.DbSize, InUse: s.DbSizeInUse, Quota: k.size().Quota}, must, func() error {
		_, err := c.Defragment(ctx, m.ClientURLs[0])
		return mapError(err)
	})
}

// rewriteOne rewrites a member's file if that is worth it. Just after a compaction its size in use tells too much, as
// etcd counts pages as free only when later writes have been committed: where room must be made, that does not count.
func (k *keeper) rewriteOne(name string, size Size, must bool, rewrite func() error) error {
	if !fragmented(size) && !(must && size.Bytes > size.Quota/fileShare) {
		return nil
	}
	begun := time.Now()
	if err := rewrite(); err != nil {
		return fmt.Errorf("rewrite the file of member %s: %w", name, err)
	}
	k.log.Info("etcd's file was rewritten", "member", name, "bytes", size.Bytes, "in_use", size.InUse, "took", time.Since(begun))
	return nil
}
