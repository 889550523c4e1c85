package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

// startContainer starts a broker and its MinIO in containers. Where no engine
// answers it says so and leaves the scenario to the subprocess, unless
// COLDBROOK_REQUIRE_CONTAINERS is set.
func startContainer(t *testing.T, o cluster.Options) (*cluster.Broker, scenario.Store) {
	t.Helper()
	ctx := t.Context()
	if err := cluster.Engine(ctx); err != nil {
		if os.Getenv("COLDBROOK_REQUIRE_CONTAINERS") != "" {
			t.Fatalf("no container engine: %v", err)
		}
		t.Skipf("no container engine, the subprocess run stands alone: %v", err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	net, err := cluster.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "network", net.Remove)
	store, err := cluster.StartMinIO(ctx, net, "cluster/testdata/minio.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "MinIO", store.Remove)
	o.Network, o.StoreURL, o.Env = net, store.URL, store.Env
	o.Image = cluster.Image{Name: "coldbrook-test", Dockerfile: "../deploy/Dockerfile", Files: map[string]string{"bin/coldbrook": path}}
	b, err := cluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "broker", b.Remove)
	if err := b.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return b, store
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
