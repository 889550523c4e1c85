package api

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/auth"
)

// producerIDBlock is how many producer ids one write to etcd reserves (KIP-730).
const producerIDBlock = 1000

// producerIDs hands out ids from a block; mu guards the block, fetching
// serialises who gets the next one.
type producerIDs struct {
	fetching chan struct{}
	mu       sync.Mutex
	next     int64
	end      int64
}

func newProducerIDs() *producerIDs { return &producerIDs{fetching: make(chan struct{}, 1)} }

func (p *producerIDs) take() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.end {
		return -1, false
	}
	p.next++
	return p.next - 1, true
}

// allocate returns an id no producer of this cluster ever had.
func (p *producerIDs) allocate(ctx context.Context, block func(context.Context, int64) (int64, error)) (int64, error) {
	for {
		if id, ok := p.take(); ok {
			return id, nil
		}
		select {
		case p.fetching <- struct{}{}:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
		err := p.refill(ctx, block)
		<-p.fetching
		if err != nil {
			return -1, err
		}
	}
}

func (p *producerIDs) refill(ctx context.Context, block func(context.Context, int64) (int64, error)) error {
	p.mu.Lock()
	full := p.next < p.end
	p.mu.Unlock()
	if full {
		return nil // somebody else was faster
	}
	first, err := block(ctx, producerIDBlock)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.next, p.end = first, first+producerIDBlock
	p.mu.Unlock()
	return nil
}

// initProducerID is InitProducerId (key 22), versions 0–5, for idempotent
// producers: each call gets a new id, whatever id the producer had, as in Kafka
// (KIP-360 keeps ids of transactional producers only).
func (a *API) initProducerID(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.InitProducerIDRequest)
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case req.TransactionalID != nil && !a.allowed(ctx, c, auth.Write, auth.TransactionalID, *req.TransactionalID):
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
	case req.TransactionalID == nil && !a.clusterAllowed(ctx, c, auth.IdempotentWrite) &&
		!a.o.Authorizer.AuthorizeAny(ctx, c.principal, c.host, auth.Write, auth.Topic): // KIP-679
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
	case (req.ProducerID == -1) != (req.ProducerEpoch == -1): // v3: both or none (KIP-360)
		resp.ErrorCode = kerr.InvalidRequest.Code
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = kerr.InvalidRequest.Code
	case req.TransactionalID != nil:
		// No broker of this cluster coordinates transactions.
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
	}
	if resp.ErrorCode != 0 {
		return resp
	}
	id, err := a.producerIDs.allocate(ctx, a.o.Metadata.AllocateProducerIDs)
	if err != nil {
		a.log.Warn("allocate producer ids", "err", err)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp
}
