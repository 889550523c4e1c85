package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// registerBackoff is the pause after a registration that etcd did not make.
const registerBackoff = 500 * time.Millisecond

// leaderWait bounds how long the start waits to lead its partitions; what is
// not led by then comes later, as clients see it in the metadata.
const leaderWait = 10 * time.Second

// register makes the broker known, keeps it known, starts the controller and
// waits for the leaderships that are this broker's.
func (b *Broker) register(ctx context.Context, parts *layers, listeners []metadata.Listener) error {
	c := b.settings.Load().Broker()
	meta, _ := b.dirs[0].Meta()
	r := metadata.Registration{
		ID: metadata.BrokerID(c.NodeID), Rack: c.Rack, Role: role(c), Listeners: listeners, HTTP: tellHTTP(b.addresses.HTTP, listeners),
		DirectoryID: meta.DirectoryID, Incarnation: uuid.NewString(), LeaseTTL: c.LeaseTTL,
	}
	session, err := b.metadata.RegisterBroker(ctx, r)
	if err != nil {
		return err
	}
	b.session.Store(session)
	parts.onStop("registration", func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := b.session.Load().Close(ctx); err != nil {
			b.log.Warn("registration is left to its lease", "err", err) // etcd may be gone: no reason to fail a stop
		}
		return nil
	})
	parts.start(ctx, "registration", func(ctx context.Context) error { return b.stayRegistered(ctx, r) })
	if r.Role == metadata.RoleReplay {
		return nil // it holds nothing and decides nothing
	}
	balance := c.LeaderRebalanceInterval
	if !c.LeaderRebalance {
		balance = -1
	}
	ctl, err := controller.New(controller.Options{
		Store: b.metadata, Sessions: b.session.Load, Purge: b.tier.Purge, BalanceInterval: balance,
		Unclean: b.uncleanElection, Logger: b.log, Meter: b.o.Meter("controller"),
	})
	if err != nil {
		return err
	}
	parts.start(ctx, "controller", ctl.Run)
	parts.start(ctx, "cluster snapshots", b.snapshotCluster)
	parts.start(ctx, "replicas of the groups' topic", b.growGroupsTopic)
	return b.awaitLeadership(ctx)
}

// role is what the cluster is told of broker.role.
func role(c config.Broker) string {
	if c.Role == config.RoleReplay {
		return metadata.RoleReplay
	}
	return ""
}

// stayRegistered registers again when etcd has ended the registration: this
// process was paused, or cut off from etcd, for longer than its lease. What it
// led meanwhile has other leaders; it comes back as a follower. A broker that
// somebody else has replaced stops.
func (b *Broker) stayRegistered(ctx context.Context, r metadata.Registration) error {
	for {
		select {
		case <-b.session.Load().Done():
		case <-ctx.Done():
			return nil
		}
		b.log.Warn("registration lost, registering again", "broker", r.ID, "incarnation", r.Incarnation)
		for {
			// A copy of this data directory on another machine would take the id
			// from us, and we from it, for ever.
			if now, live := b.metadata.Image().Broker(r.ID); live && now.Incarnation != r.Incarnation {
				return fmt.Errorf("broker %d was replaced: this run is incarnation %s, registered is %s with data directory %s",
					r.ID, r.Incarnation, now.Incarnation, now.DirectoryID)
			}
			session, err := b.metadata.RegisterBroker(ctx, r)
			if err == nil {
				b.session.Store(session)
				b.log.Info("registered again", "broker", r.ID, "epoch", session.Epoch)
				break
			}
			if errors.Is(err, metadata.ErrBrokerIDTaken) {
				return err
			}
			b.log.Warn("not registered", "broker", r.ID, "retry", registerBackoff, "err", err)
			select {
			case <-time.After(registerBackoff):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// uncleanElection says whether a topic prefers being available to being whole:
// unclean.leader.election.enable.
func (b *Broker) uncleanElection(topic string) bool {
	// Another setting that cannot be read changes nothing about this one.
	t, _ := b.settings.Load().ResolveStored(b.metadata.Image().TopicConfig(topic))
	return t.UncleanLeaderElection
}

// awaitLeadership returns when every partition that this broker can lead alone
// has been given to its new registration and is served.
func (b *Broker) awaitLeadership(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for _, t := range b.metadata.Image().Topics() {
		if err := b.replicas.WaitTopic(ctx, t.ID); err != nil {
			b.log.Warn("not all partitions have a leader yet", "topic", t.Name, "err", err)
			return nil
		}
	}
	return nil
}

// farewell is how long a broker answers on when it has given its leaderships
// away. Clients that ask it are told that it leads nothing, ask for metadata, in
// which it no longer is, and go elsewhere; who came later would only meet a
// closed port, which some clients report to their users.
const farewell = time.Second

// handOver is the first half of a controlled shutdown (KIP-3): the controller
// is asked to move leadership elsewhere while this broker still serves. It
// returns a farewell after nothing is led here that another broker could lead,
// or after shutdown.timeout.ms.
func (b *Broker) handOver(ctx context.Context) {
	c := b.settings.Load().Broker()
	session := b.session.Load()
	if !c.ControlledShutdown || session == nil || len(b.heldBack()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
	defer cancel()
	changed, stop := b.metadata.Watch()
	defer stop()
	if err := session.Drain(ctx); err != nil {
		b.log.Warn("leadership is not handed over", "err", err)
		return
	}
	begun := time.Now()
	for {
		left := b.heldBack()
		if len(left) == 0 {
			b.log.Info("leadership handed over", "took", time.Since(begun))
			select {
			case <-time.After(farewell):
			case <-session.Done():
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-changed:
		case <-session.Done():
			return
		case <-ctx.Done():
			b.log.Warn("stopping with leadership of partitions that others could lead", "partitions", len(left))
			return
		}
	}
}

// heldBack are the partitions led here that another live in-sync replica could lead.
func (b *Broker) heldBack() []metadata.TopicPartition {
	img, self := b.metadata.Image(), metadata.BrokerID(b.settings.Load().Broker().NodeID)
	var left []metadata.TopicPartition
	for _, t := range img.Topics() {
		for n, p := range t.Partitions {
			if p.Leader != self {
				continue
			}
			for _, id := range p.ISR {
				if other, live := img.Broker(id); live && id != self && !other.Draining && !slices.Contains(p.Offline, id) {
					left = append(left, metadata.TopicPartition{Topic: t.Name, Partition: int32(n)})
					break
				}
			}
		}
	}
	return left
}
