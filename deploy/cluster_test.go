package deploy

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/coldbrook/coldbrook/broker/config"
)

// clusterService is what the tests read of a service.
type clusterService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	DependsOn   []string `yaml:"depends_on"`
}

func TestComposeFilesStartThreeBrokers(t *testing.T) {
	for file, others := range map[string][]string{
		"compose.cluster.yaml":      {"minio"},
		"compose.cluster-etcd.yaml": {"etcd-1", "etcd-2", "etcd-3", "minio"},
	} {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var compose struct {
				Services map[string]clusterService
				Volumes  map[string]any
			}
			if err := yaml.Unmarshal(b, &compose); err != nil {
				t.Fatal(err)
			}
			want := append([]string{"broker-1", "broker-2", "broker-3"}, others...)
			names := []string{}
			for name, s := range compose.Services {
				names = append(names, name)
				for _, v := range s.Volumes {
					volume, _, _ := strings.Cut(v, ":")
					if _, ok := compose.Volumes[volume]; !ok {
						t.Errorf("service %s mounts volume %s, which is not declared", name, volume)
					}
				}
			}
			if slices.Sort(names); !slices.Equal(names, want) {
				t.Fatalf("services %v, want %v", names, want)
			}
			for n := 1; n <= 3; n++ {
				checkBroker(t, n, compose.Services, others)
			}
			for _, name := range others {
				if compose.Services[name].Image == "" {
					t.Errorf("service %s has no image", name)
				}
			}
			checkCompose(t, file)
		})
	}
}

// checkBroker holds one broker of a compose file against the settings, the image and the other services.
func checkBroker(t *testing.T, n int, services map[string]clusterService, others []string) {
	t.Helper()
	name := fmt.Sprintf("broker-%d", n)
	s := services[name]
	if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
		t.Errorf("%s: Dockerfile: %v", name, err)
	}
	var env []string
	settings := map[string]string{}
	for k, v := range s.Environment {
		if !strings.HasPrefix(k, "COLDBROOK_") {
			continue
		}
		env = append(env, k+"="+v)
		settings[k] = v
	}
	checkServe(t, env, s.Command)
	flags := map[string]string{}
	for _, arg := range s.Command[1:] {
		k, v, _ := strings.Cut(arg, "=")
		flags[k] = v
	}
	host := fmt.Sprintf("127.0.0.1:%d", 9091+n)
	if flags["--node-id"] != fmt.Sprint(n) || flags["--advertise"] != fmt.Sprintf("CLUSTER://%s:19092,HOST://%s", name, host) {
		t.Errorf("%s: it says it is %v", name, flags)
	}
	// Clients on this machine are told the address that is published.
	port := host[strings.IndexByte(host, ':')+1:]
	if want := []string{host + ":" + port, fmt.Sprintf("127.0.0.1:%d:9644", 9643+n)}; !slices.Equal(s.Ports, want) || !strings.HasSuffix(flags["--listen"], "0.0.0.0:"+port) {
		t.Errorf("%s: ports %v, want %v; it listens on %s", name, s.Ports, want, flags["--listen"])
	}
	if !slices.Equal(slices.Sorted(slices.Values(s.DependsOn)), others) {
		t.Errorf("%s: depends on %v, want %v", name, s.DependsOn, others)
	}
	// Whatever it reaches by name is a service.
	for _, list := range []string{settings["COLDBROOK_ETCD_PEERS"], settings["COLDBROOK_ETCD_ENDPOINTS"], settings["COLDBROOK_REMOTE_STORE_URL"]} {
		for _, at := range strings.Split(list, ",") {
			if i := strings.IndexByte(at, '='); i >= 0 && i < strings.Index(at, "://") {
				at = at[i+1:]
			}
			u, err := url.Parse(at)
			if err != nil || list != "" && services[u.Hostname()].Command == nil && services[u.Hostname()].Image == "" {
				t.Errorf("%s: %q is at no service", name, at)
			}
		}
	}
}

// The files of a walk-through must fit each other as well as their settings.
func TestClusterConfigurationFilesFitTogether(t *testing.T) {
	var peers, clients []string
	for n := 1; n <= 5; n++ {
		file := fmt.Sprintf("cluster/broker-%d.properties", n)
		s, err := config.Load(file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, host := s.Broker(), fmt.Sprintf("broker-%d.example.com", n)
		if int(c.NodeID) != n || c.Rack == "" || c.AdvertisedListeners[0].Address() != host+":9092" || c.Listeners[0].Port != 9092 {
			t.Errorf("%s: node %d, rack %q, told %s", file, c.NodeID, c.Rack, c.AdvertisedListeners[0].Address())
		}
		if replay := n == 5; (c.Role == config.RoleReplay) != replay {
			t.Errorf("%s: role %q", file, c.Role)
		}
		if n > 3 {
			if !slices.Equal(c.Etcd.Endpoints, clients) {
				t.Errorf("%s: etcd at %v, its members are at %v", file, c.Etcd.Endpoints, clients)
			}
			continue
		}
		list, _ := s.Get("etcd.peers")
		if peers = append(peers, list); list != peers[0] {
			t.Errorf("%s: etcd.peers is not that of the first file", file)
		}
		if len(c.Etcd.AdvertiseClients) != 1 || c.Etcd.AdvertiseClients[0] != "http://"+host+":2379" {
			t.Errorf("%s: its etcd is at %v", file, c.Etcd.AdvertiseClients)
		}
		clients = append(clients, c.Etcd.AdvertiseClients...)
	}
}
