//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// The compose files are tried without docker compose: their services' commands, environments, names and
// ports are given to containers of images that were built here.
func TestComposeFilesBringUpAClusterThatServes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	if err := cluster.Engine(ctx); err != nil {
		if os.Getenv("COLDBROOK_REQUIRE_CONTAINERS") != "" {
			t.Fatalf("no container engine: %v", err)
		}
		t.Skipf("no container engine: %v", err)
	}
	images, err := containerImages()
	if err != nil {
		t.Fatal(err)
	}
	path, err := servers.Binary(ctx, servers.EtcdTool())
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := cluster.BuildImage(ctx, cluster.ImageOptions{Name: "coldbrook-test-etcd", Dockerfile: "testdata/etcd.Dockerfile", Files: map[string]string{"etcd": path}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the containers
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := etcd.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, file := range []string{"compose.cluster.yaml", "compose.cluster-etcd.yaml"} {
		t.Run(file, func(t *testing.T) { tryCompose(ctx, t, file, images, etcd) })
	}
}

// composeService is what the test takes of a service.
type composeService struct {
	Command     []string
	Environment map[string]string
	Ports       []string
}

func tryCompose(ctx context.Context, t *testing.T, file string, images builtImages, etcd cluster.Image) {
	text, err := os.ReadFile("../deploy/" + file)
	if err != nil {
		t.Fatal(err)
	}
	// Ports of this machine that may be taken; what a broker advertises follows.
	var kafka []string
	ports := []string{"${MINIO_ROOT_USER:?set MINIO_ROOT_USER}", "compose-user", "${MINIO_ROOT_PASSWORD:?set MINIO_ROOT_PASSWORD}", "compose-password"}
	for n := range 3 {
		at, http := freeAddress(t), freeAddress(t)
		kafka = append(kafka, at)
		port, own := at[strings.IndexByte(at, ':')+1:], fmt.Sprint(9092+n)
		ports = append(ports, "127.0.0.1:"+own+":"+own, "127.0.0.1:"+port+":"+port, "HOST://0.0.0.0:"+own, "HOST://0.0.0.0:"+port, "HOST://127.0.0.1:"+own, "HOST://"+at,
			fmt.Sprintf("127.0.0.1:%d:9644", 9644+n), http+":9644")
	}
	var compose struct{ Services map[string]composeService }
	if err := yaml.Unmarshal([]byte(strings.NewReplacer(ports...).Replace(string(text))), &compose); err != nil {
		t.Fatal(err)
	}
	network, err := cluster.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, "network", network.Remove)
	boxes := make(map[string]*cluster.Box)
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(compose.Services))) { // MinIO and etcd before brokers
		s := compose.Services[name]
		o := cluster.BoxOptions{Network: network, Alias: name, Cmd: s.Command, Ports: make(map[string]string), Image: images.broker}
		switch {
		case name == "minio":
			o.Image = images.minio
		case strings.HasPrefix(name, "etcd-"):
			o.Image = etcd
		}
		for k, v := range s.Environment {
			o.Env = append(o.Env, k+"="+v)
		}
		for _, p := range s.Ports {
			i := strings.LastIndexByte(p, ':')
			o.Ports[p[i+1:]] = p[:i]
		}
		box, err := cluster.NewBox(ctx, o)
		if err != nil {
			t.Fatalf("service %s: %v", name, err)
		}
		boxes[name] = box
		atEnd(t, name, box.Remove)
	}
	t.Cleanup(func() {
		for name, box := range boxes {
			if t.Failed() {
				t.Logf("%s:\n%s", name, tail(box.Logs(context.WithoutCancel(ctx)), 4<<10))
			}
		}
	})
	serves(ctx, t, strings.Join(kafka, ","), func() {
		if err := boxes["broker-2"].Kill(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// serves uses a cluster as README says, also after it has lost a broker.
func serves(ctx context.Context, t *testing.T, bootstrap string, lose func()) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	run := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, path, append(args, "--bootstrap", bootstrap)...)
		cmd.Stdin = strings.NewReader(in)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("coldbrook %v: %v\n%s%s", args, err, out, errs.String())
		}
		return string(out)
	}
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "%d\n", i)
	}
	run("", "cluster", "status", "--wait", "--brokers", "3", "--timeout", "2m")
	run("", "topic", "create", "events", "--partitions", "1")
	run(want.String(), "produce", "events")
	lose()
	run(want.String(), "produce", "events")
	if got := run("", "consume", "events"); got != want.String()+want.String() {
		t.Errorf("2000 records were produced, %d were read", strings.Count(got, "\n"))
	}
	if got := run("", "topic", "describe", "events"); !strings.Contains(got, "3 replicas") {
		t.Errorf("the topic has not three replicas:\n%s", got)
	}
}
