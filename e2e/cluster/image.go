package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"

	"github.com/coldbrook/coldbrook/e2e/servers"
)

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
