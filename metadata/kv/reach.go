package kv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// reachTimeout bounds the look at one endpoint.
const reachTimeout = time.Second

// unreachable says for each endpoint why no connection to it comes about, as
// etcd's client keeps that to itself. It is nil if all of them can be reached.
func unreachable(ctx context.Context, o DialOptions) error {
	errs := make([]error, len(o.Endpoints))
	var wg sync.WaitGroup
	for i, endpoint := range o.Endpoints {
		wg.Go(func() {
			if err := reach(ctx, endpoint, o.TLS); err != nil {
				errs[i] = fmt.Errorf("%s: %w", endpoint, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reach connects to an endpoint and goes through the handshake.
func reach(ctx context.Context, endpoint string, config *tls.Config) error {
	network, address, secure := endpointAddress(endpoint, config != nil)
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || !secure {
		if conn != nil {
			_ = conn.Close() // it was only tried
		}
		return err
	}
	defer conn.Close()
	config = config.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address) // it was dialed: it is one
	}
	config.NextProtos = []string{"h2"}
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	// The server looks at our certificate after the client's part of the
	// handshake is over.
	if err := c.SetReadDeadline(time.Now().Add(reachTimeout / 2)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// endpointAddress is what to dial; secure says that TLS is spoken there.
func endpointAddress(endpoint string, configured bool) (network, address string, secure bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" && u.Path == "" || !strings.Contains(endpoint, "//") {
		return "tcp", endpoint, configured
	}
	switch u.Scheme {
	case "unix", "unixs":
		return "unix", u.Host + u.Path, u.Scheme == "unixs"
	case "https":
		return "tcp", u.Host, true
	}
	return "tcp", u.Host, false
}
