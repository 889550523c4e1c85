package broker

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
)

// openNetwork binds the listeners, registers the broker under them and serves.
// Binding comes first, so that an address that is taken is found before anybody
// is told of this broker, and port 0 becomes a real one.
func (b *Broker) openNetwork(ctx context.Context, parts *layers) error {
	c := b.settings.Load().Broker()
	kafka := make([]wire.Listener, 0, len(c.Listeners))
	told := make([]metadata.Listener, 0, len(c.Listeners))
	for i, l := range c.Listeners {
		ln, err := b.o.Listen(ctx, l.Address())
		if err != nil {
			return err // names the address
		}
		parts.onStop("listener "+l.Name, closeQuietly(ln))
		kafka = append(kafka, wire.Listener{Name: l.Name, Listener: ln})
		told = append(told, advertised(c.AdvertisedListeners[i], ln.Addr()))
		b.addresses.Kafka = append(b.addresses.Kafka, ln.Addr().String())
	}
	if err := b.openHTTP(ctx, parts, c); err != nil {
		return err
	}
	if err := b.register(ctx, parts, told); err != nil {
		return err
	}
	handler, err := b.newAPI()
	if err != nil {
		return err
	}
	b.startQuotas(ctx, parts)
	memory := requestMemory(c.RequestMemoryBytes)
	largest := int32(min(int64(c.RequestMaxBytes), memory))
	if largest < c.RequestMaxBytes {
		b.log.Warn("requests are held to less than socket.request.max.bytes: GOMEMLIMIT leaves them no more", "bytes", largest)
	}
	server, err := wire.NewServer(wire.Options{
		Handler: handler, Listeners: kafka, MaxRequestBytes: largest, MemoryBytes: memory,
		MaxInFlight: c.MaxInFlight, MaxConnections: connectionLimit(c.MaxConnections, openFiles()), MaxConnectionsPerIP: c.MaxConnectionsPerIP,
		IdleTimeout: c.IdleTimeout, StopTimeout: c.ShutdownTimeout, Logger: b.log, Meter: b.o.Meter("wire"),
	})
	if err != nil {
		return err
	}
	parts.start(ctx, "Kafka listeners", server.Run)
	parts.start(ctx, "lag of groups", b.measureGroups)
	parts.start(ctx, "state of the metadata", b.measureMetadata)
	return nil
}

// requestMemory is what requests may hold together: queued.max.request.bytes, and at
// most a quarter of GOMEMLIMIT, since the rest of the broker lives there too. Without
// either there is no limit.
func requestMemory(setting int64) int64 {
	if setting < 0 {
		setting = math.MaxInt64
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 { // a negative one only asks
		return min(setting, max(limit/4, leastRequestMemory))
	}
	return setting
}

// leastRequestMemory is enough for the requests that nearly all clients send.
const leastRequestMemory = 16 << 20

// closeQuietly closes a listener that its server has closed already when all
// went well.
func closeQuietly(l net.Listener) func() error {
	return func() error {
		_ = l.Close() // closed before: nothing to tell
		return nil
	}
}

// advertised is what clients are told of a listener; port 0 means the bound one.
func advertised(l config.Listener, bound net.Addr) metadata.Listener {
	out := metadata.Listener{Name: l.Name, Host: l.Host, Port: l.Port, Protocol: l.Protocol}
	if out.Port == 0 {
		if _, port, err := net.SplitHostPort(bound.String()); err == nil {
			n, _ := strconv.ParseInt(port, 10, 32) // a bound port is a number
			out.Port = int32(n)
		}
	}
	return out
}

func (b *Broker) openHTTP(ctx context.Context, parts *layers, c config.Broker) error {
	if c.HTTPListen == "" {
		return nil
	}
	ln, err := b.o.Listen(ctx, c.HTTPListen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	b.addresses.HTTP = ln.Addr().String()
	o := b.consoleOptions()
	o.Access = access(c, ln.Addr())
	server := console.New(o)
	parts.start(ctx, "HTTP", func(ctx context.Context) error { return server.Run(ctx, ln) })
	return nil
}

// access is who gets in at the HTTP listener.
func access(c config.Broker, bound net.Addr) console.Access {
	a := console.Access{Hosts: c.HTTPAllowedHosts, Admin: c.HTTPAdmin, Token: c.HTTPToken}
	if tcp, ok := bound.(*net.TCPAddr); ok {
		a.Remote = !tcp.IP.IsLoopback()
	}
	for _, l := range slices.Concat(c.Listeners, c.AdvertisedListeners) {
		a.Hosts = append(a.Hosts, l.Host)
	}
	if host, _, err := net.SplitHostPort(c.HTTPListen); err == nil {
		a.Hosts = append(a.Hosts, host)
	}
	if name, err := os.Hostname(); err == nil {
		a.Hosts = append(a.Hosts, name)
	}
	return a
}

func joinSemicolons(list []string) string { return strings.Join(list, ";") }
