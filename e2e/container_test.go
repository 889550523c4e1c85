package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

// needContainers returns the images. Where no engine answers it says so and
// leaves the scenario to the subprocess, unless COLDBROOK_REQUIRE_CONTAINERS is
// set.
func needContainers(t *testing.T) builtImages {
	t.Helper()
	if err := cluster.Engine(t.Context()); err != nil {
		if os.Getenv("COLDBROOK_REQUIRE_CONTAINERS") != "" {
			t.Fatalf("no container engine: %v", err)
		}
		t.Skipf("no container engine, the subprocess run stands alone: %v", err)
	}
	images, err := containerImages()
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// inNetworks prepares what a cluster of containers needs, and starts its MinIO.
func inNetworks(t *testing.T, o *cluster.ClusterOptions) scenario.Store {
	t.Helper()
	images := needContainers(t)
	o.Image = images.broker
	for _, n := range []**cluster.Network{&o.Front, &o.Back} {
		var err error
		if *n, err = cluster.NewNetwork(t.Context()); err != nil {
			t.Fatal(err)
		}
		atEnd(t, "network", (*n).Remove)
	}
	store, err := cluster.StartMinIO(t.Context(), o.Back, images.minio)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "MinIO", store.Remove)
	o.StoreURL, o.Env = store.URL, store.Env
	return store
}

// startContainer starts a broker and its MinIO in containers.
func startContainer(t *testing.T, o cluster.Options) (*cluster.Broker, scenario.Store) {
	t.Helper()
	ctx, images := t.Context(), needContainers(t)
	net, err := cluster.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "network", net.Remove)
	store, err := cluster.StartMinIO(ctx, net, images.minio)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "MinIO", store.Remove)
	o.Network, o.StoreURL, o.Env, o.Image = net, store.URL, store.Env, images.broker
	b, err := cluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "broker", b.Remove)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("broker's log:\n%s", tail(b.Log(), 16<<10))
		}
	})
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return b, store
}

type builtImages struct{ broker, minio cluster.Image }

// atExit is what TestMain removes.
var atExit []func(context.Context) error

// containerImages builds both images, once.
var containerImages = sync.OnceValues(func() (i builtImages, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // MinIO may have to be built first
	defer cancel()
	path, err := binary()
	if err != nil {
		return i, err
	}
	if i.broker, err = cluster.BuildImage(ctx, cluster.ImageOptions{Name: "coldbrook-test", Dockerfile: "../deploy/Dockerfile", Files: map[string]string{"bin/coldbrook": path}}); err != nil {
		return i, err
	}
	atExit = append(atExit, i.broker.Remove)
	if i.minio, err = cluster.BuildMinIOImage(ctx, "cluster/testdata/minio.Dockerfile"); err != nil {
		return i, err
	}
	atExit = append(atExit, i.minio.Remove)
	return i, nil
})

func TestMain(m *testing.M) {
	// The engine's helper that removes what tests leave would have to be pulled.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		panic(err)
	}
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, remove := range atExit {
		if err := remove(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "clean up:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// atEnd removes something when the test is over, whose context is gone by then.
func atEnd(t *testing.T, what string, remove func(context.Context) error) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := remove(ctx); err != nil {
			t.Errorf("remove %s: %v", what, err)
		}
	})
}
