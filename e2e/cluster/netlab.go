package cluster

import (
	"context"
	"errors"
	"net"
	"strconv"
)

// Lab is a network of machines that are network namespaces, for tests that bring
// the machines themselves. It takes root and iproute2: see [CanLink]. Its methods
// are for one goroutine at a time.
type Lab struct {
	l        *lab
	forwards []*forwarder
}

// NewLab makes the network. The caller closes it.
func NewLab(ctx context.Context) (*Lab, error) {
	l, err := newLab(ctx)
	if err != nil {
		return nil, err
	}
	return &Lab{l: l}, nil
}

// Join makes the namespace of machine n, 1 to 200, and says its name and its address.
func (x *Lab) Join(ctx context.Context, n int32) (namespace, address string, err error) {
	return x.l.space(n), x.l.host(labBrokers + int(n)), x.l.join(ctx, n)
}

// Forward makes a server on this machine's loopback interface reachable for the
// others at a port, and says the host.
func (x *Lab) Forward(ctx context.Context, port int, to string) (host string, err error) {
	host = x.l.host(labStore)
	f, err := newForwarder(ctx, net.JoinHostPort(host, strconv.Itoa(port)), to)
	if err != nil {
		return "", err
	}
	x.forwards = append(x.forwards, f)
	return host, nil
}

// Close removes the namespaces. Nothing may run in them any more.
func (x *Lab) Close(ctx context.Context) error {
	var errs []error
	for _, f := range x.forwards {
		errs = append(errs, f.close())
	}
	return errors.Join(append(errs, x.l.close(ctx))...)
}
