package api

import (
	"context"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
)

// The types of coordinators: CoordinatorType. There are only those of groups here.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
	shareCoordinator       = 2
)

// maxCoordinatorKeys is how many keys of a request are answered. An answer is
// several times as long as a short key, so that a request of some megabytes would
// else be worth many. Clients ask again for keys that were not answered.
const maxCoordinatorKeys = 1 << 16

// findCoordinator is FindCoordinator (key 10), versions 0–6. v1: types of
// coordinators. v4: many keys at once (KIP-699), each of which is answered once.
// v6: share coordinators (KIP-932).
func (a *API) findCoordinator(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	f := coordinatorFinder{
		a: a, c: c, kind: req.CoordinatorType,
		topic: sync.OnceValues(func() (*metadata.Topic, error) { return a.groupTopic(ctx) }),
	}
	if req.Version < 4 {
		found := f.find(ctx, req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage = found.code()
		resp.NodeID, resp.Host, resp.Port = found.id, found.host, found.port
		return resp
	}
	seen := make(map[string]struct{})
	for _, key := range req.CoordinatorKeys {
		if _, again := seen[key]; again || len(seen) == maxCoordinatorKeys {
			continue
		}
		seen[key] = struct{}{}
		found := f.find(ctx, key)
		r := kmsg.NewFindCoordinatorResponseCoordinator()
		r.Key, r.NodeID, r.Host, r.Port, r.ErrorMessage = key, found.id, found.host, found.port, &noMessage
		r.ErrorCode, _ = found.code() // that says enough, a thousand times
		resp.Coordinators = append(resp.Coordinators, r)
	}
	return resp
}

var noMessage = ""

// foundCoordinator is a broker, or why there is none.
type foundCoordinator struct {
	id   int32
	host string
	port int32
	err  *kerr.Error
}

func noCoordinator(err *kerr.Error) foundCoordinator {
	return foundCoordinator{id: -1, port: -1, err: err}
}

func (f *foundCoordinator) code() (int16, *string) {
	if f.err == nil {
		return 0, kmsg.StringPtr("NONE") // Errors.NONE.message
	}
	return f.err.Code, &f.err.Description
}

// coordinatorFinder finds the coordinators of one request.
type coordinatorFinder struct {
	a     *API
	c     *call
	kind  int8
	topic func() (*metadata.Topic, error) // of groups; made when it is asked for
}

// find is KafkaApis.getCoordinator.
func (f *coordinatorFinder) find(ctx context.Context, key string) foundCoordinator {
	a := f.a
	switch f.kind {
	case groupCoordinator:
		if !a.allowed(ctx, f.c, auth.Describe, auth.Group, key) {
			return noCoordinator(kerr.GroupAuthorizationFailed)
		}
		return f.ofGroup(key)
	case transactionCoordinator:
		if !a.allowed(ctx, f.c, auth.Describe, auth.TransactionalID, key) {
			return noCoordinator(kerr.TransactionalIDAuthorizationFailed)
		}
		return noCoordinator(kerr.CoordinatorNotAvailable) // no broker of this cluster is one
	case shareCoordinator:
		switch {
		case f.c.Version < 6 || !shareKey(key):
			return noCoordinator(kerr.InvalidRequest)
		case !a.clusterAllowed(ctx, f.c, auth.ClusterAction):
			return noCoordinator(kerr.ClusterAuthorizationFailed)
		}
		return noCoordinator(kerr.CoordinatorNotAvailable)
	}
	return noCoordinator(kerr.InvalidRequest)
}

// shareKey says whether a key is group:topic-id:partition.
func shareKey(key string) bool {
	parts := strings.Split(key, ":")
	return len(parts) == 3 && parts[0] != "" && parts[1] != "" && parts[2] != ""
}

func (f *coordinatorFinder) ofGroup(key string) foundCoordinator {
	t, err := f.topic()
	if err != nil {
		f.a.log.Warn("create topic", "topic", group.Topic, "err", err)
		return noCoordinator(kerr.CoordinatorNotAvailable)
	}
	img := f.a.o.Metadata.Image()
	p, ok := img.Partition(metadata.TopicPartition{Topic: t.Name, Partition: f.a.o.Groups.PartitionOf(key)})
	b, alive := img.Broker(p.Leader)
	host, port, listens := endpoint(b, f.c.Conn.Listener())
	if !ok || !alive || !listens {
		return noCoordinator(kerr.CoordinatorNotAvailable)
	}
	return foundCoordinator{id: int32(b.ID), host: host, port: port}
}
