package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"

	"github.com/coldbrook/coldbrook/e2e/servers"
)

// Engine says whether a container engine answers.
func Engine(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.Ping(ctx, client.PingOptions{})
		return err
	})
}

// Image is a container image that was built here.
type Image struct{ ref string }

// ImageOptions say what an image is built from: a Dockerfile, and the files it
// copies by their paths in the build context.
type ImageOptions struct {
	Name       string
	Dockerfile string
	Files      map[string]string // path in the context to path on disk
}

// BuildImage builds an image under a tag of its own. The caller removes it.
func BuildImage(ctx context.Context, o ImageOptions) (Image, error) {
	dir, err := os.MkdirTemp("", "coldbrook-image-")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	for to, from := range o.Files {
		if err := linkOrCopy(from, filepath.Join(dir, to)); err != nil {
			return Image{}, err
		}
	}
	dockerfile, err := os.ReadFile(o.Dockerfile)
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), dockerfile, 0o644); err != nil {
		return Image{}, err
	}
	p, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(log.NewNoopLogger()))
	if err != nil {
		return Image{}, err
	}
	defer p.Close()
	var said bytes.Buffer
	ref, err := p.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: dir, Repo: o.Name, Tag: strings.ToLower(rand.Text()), BuildLogWriter: &said,
	}})
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w\n%s", o.Name, err, said.String())
	}
	return Image{ref}, nil
}

// Remove removes the image; its containers must be gone.
func (i Image) Remove(ctx context.Context) error {
	return withEngine(ctx, func(cli *testcontainers.DockerClient) error {
		_, err := cli.ImageRemove(ctx, i.ref, client.ImageRemoveOptions{PruneChildren: true})
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

func linkOrCopy(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
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
	Alias   string
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
	cmd := []string{"serve", "--data-dir", "/data", "--listen", "0.0.0.0:" + inside, "--advertise", b.kafka, "--http", "0.0.0.0:9644"}
	if b.o.StoreURL != "" {
		cmd = append(cmd, "--store", b.o.StoreURL)
	}
	var err error
	d.box, err = NewBox(ctx, BoxOptions{
		Image: b.o.Image, Network: b.o.Network, Alias: "coldbrook", Cmd: cmd, Env: slices.Clone(b.environment()),
		Ports: map[string]string{inside: b.kafka, "9644": b.http},
	})
	return err
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

// MinIO is a MinIO in a container; it can be taken away and brought back.
type MinIO struct {
	*Box
	URL string   // of the bucket, as brokers on the network reach it
	Env []string // credentials
}

// Credentials of the MinIO in a container.
const minioUser, minioPassword = "coldbrook", "coldbrook-secret"

// BuildMinIOImage builds the image of a MinIO with one bucket.
func BuildMinIOImage(ctx context.Context, dockerfile string) (Image, error) {
	binary, err := servers.Binary(ctx, servers.MinIOTool())
	if err != nil {
		return Image{}, err
	}
	return BuildImage(ctx, ImageOptions{Name: "coldbrook-test-minio", Dockerfile: dockerfile, Files: map[string]string{"minio": binary}})
}

// StartMinIO starts a MinIO of that image on the network.
func StartMinIO(ctx context.Context, n *Network, image Image) (*MinIO, error) {
	env := []string{"MINIO_ROOT_USER=" + minioUser, "MINIO_ROOT_PASSWORD=" + minioPassword}
	box, err := NewBox(ctx, BoxOptions{Image: image, Network: n, Alias: "minio", Env: env})
	if err != nil {
		return nil, err
	}
	return &MinIO{Box: box, URL: "minio://minio:9000/coldbrook?secure=false", Env: env}, nil
}

// Stop takes the store away at once.
func (m *MinIO) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	return m.Kill(ctx)
}
