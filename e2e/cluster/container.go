package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
)

// Engine says whether a container engine answers.
func Engine(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.Ping(ctx, client.PingOptions{})
		return err
	})
}

func withEngine(ctx context.Context, do func(*testcontainers.DockerClient) error) error {
	cli, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	return do(cli)
}

// Network is a container network of its own.
type Network struct{ n *testcontainers.DockerNetwork }

// NewNetwork makes a network.
func NewNetwork(ctx context.Context) (*Network, error) {
	n, err := network.New(ctx)
	if err != nil {
		return nil, err
	}
	return &Network{n}, nil
}

// Remove removes the network; its containers must be gone.
func (n *Network) Remove(ctx context.Context) error { return n.n.Remove(ctx) }

// Box is a container with ports published on fixed loopback addresses, so that
// it keeps them over Kill and Start.
type Box struct {
	c testcontainers.Container
}

// BoxOptions of a container.
type BoxOptions struct {
	Image   Image
	Network *Network
	Alias   string   // on Network
	Front   *Network // a second network; it publishes the ports
	Cmd     []string
	Env     []string
	Ports   map[string]string // container port to loopback address
}

// NewBox makes a container and starts it.
func NewBox(ctx context.Context, o BoxOptions) (*Box, error) {
	req := testcontainers.ContainerRequest{Image: o.Image.ref, Cmd: o.Cmd, Env: make(map[string]string)}
	for _, kv := range o.Env {
		name, value, _ := strings.Cut(kv, "=")
		req.Env[name] = value
	}
	req.Networks = []string{o.Network.n.Name}
	req.NetworkAliases = map[string][]string{o.Network.n.Name: {o.Alias}}
	if o.Front != nil {
		req.Networks = append([]string{o.Front.n.Name}, req.Networks...)
	}
	bound := dockernet.PortMap{}
	for inside, addr := range o.Ports {
		req.ExposedPorts = append(req.ExposedPorts, inside+"/tcp")
		bound[dockernet.MustParsePort(inside+"/tcp")] = []dockernet.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: portOf(addr)}}
	}
	req.HostConfigModifier = func(hc *container.HostConfig) { hc.PortBindings = bound }
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{ContainerRequest: req, Started: true, Logger: log.NewNoopLogger()})
	if err != nil {
		return nil, err
	}
	return &Box{c}, nil
}

// Kill ends the container's process without a word; its files stay.
func (b *Box) Kill(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		id := b.c.GetContainerID()
		if _, err := cli.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
			return err
		}
		ended := cli.ContainerWait(ctx, id, client.ContainerWaitOptions{})
		select {
		case <-ended.Result:
			return nil
		case err := <-ended.Error:
			return err
		}
	})
}

// Pause freezes the container's processes.
func (b *Box) Pause(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerPause(ctx, b.c.GetContainerID(), client.ContainerPauseOptions{})
		return err
	})
}

// Resume ends a Pause.
func (b *Box) Resume(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ContainerUnpause(ctx, b.c.GetContainerID(), client.ContainerUnpauseOptions{})
		return err
	})
}

// Disconnect takes the container off a network.
func (b *Box) Disconnect(ctx context.Context, n *Network) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkDisconnect(ctx, n.n.ID, client.NetworkDisconnectOptions{Container: b.c.GetContainerID(), Force: true})
		return err
	})
}

// Connect puts the container on a network, where it has a name.
func (b *Box) Connect(ctx context.Context, n *Network, alias string) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.NetworkConnect(ctx, n.n.ID, client.NetworkConnectOptions{
			Container: b.c.GetContainerID(), EndpointConfig: &dockernet.EndpointSettings{Aliases: []string{alias}},
		})
		return err
	})
}

// Start starts the container again.
func (b *Box) Start(ctx context.Context) error { return b.c.Start(ctx) }

// Stop asks the container's process to end.
func (b *Box) Stop(ctx context.Context) error {
	grace := 30 * time.Second
	return b.c.Stop(ctx, &grace)
}

// Remove ends and removes the container.
func (b *Box) Remove(ctx context.Context) error {
	return b.c.Terminate(ctx, testcontainers.RemoveVolumes())
}

// Logs is what the container printed.
func (b *Box) Logs(ctx context.Context) string {
	r, err := b.c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		fmt.Fprintln(&out, err)
	}
	return out.String()
}

// engineWait bounds what is asked of the engine where no context is given.
const engineWait = time.Minute

// dockerContainer runs the broker's image.
type dockerContainer struct {
	box *Box
}

func (d *dockerContainer) start(ctx context.Context, b *Broker) error {
	if d.box != nil {
		return d.box.Start(ctx)
	}
	inside := portOf(b.kafka)
	cmd, alias := b.arguments("/data"), "coldbrook"
	if b.listens() {
		alias = b.o.Alias
	} else {
		cmd = append(cmd, "--listen", "0.0.0.0:"+inside, "--advertise", b.kafka, "--http", "0.0.0.0:9644")
	}
	var err error
	d.box, err = NewBox(ctx, BoxOptions{
		Image: b.o.Image, Network: b.o.Network, Alias: alias, Front: b.o.Front, Cmd: cmd, Env: b.environment(),
		Ports: map[string]string{inside: b.kafka, "9644": b.http},
	})
	return err
}

func (d *dockerContainer) pause() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	return d.box.Pause(ctx)
}

func (d *dockerContainer) resume() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	return d.box.Resume(ctx)
}

// loseDisk takes the container away with its volume; start makes another.
func (d *dockerContainer) loseDisk(ctx context.Context, _ *Broker) error {
	box := d.box
	d.box = nil
	return box.Remove(ctx)
}

func (d *dockerContainer) kill() error {
	if d.box == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	return d.box.Kill(ctx)
}

func (d *dockerContainer) stop(ctx context.Context) error { return d.box.Stop(ctx) }

func (d *dockerContainer) ended() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	state, err := d.box.c.State(ctx)
	if err != nil || state.Running {
		return err
	}
	return fmt.Errorf("%w with code %d", errEnded, state.ExitCode)
}

func (d *dockerContainer) log() string {
	if d.box == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	return d.box.Logs(ctx)
}

func (d *dockerContainer) pid() int { return 0 }

// Remove takes a container away for good; other kinds have nothing to take.
func (b *Broker) Remove(ctx context.Context) error {
	if d, ok := b.run.(*dockerContainer); ok && d.box != nil {
		return d.box.Remove(ctx)
	}
	return nil
}
