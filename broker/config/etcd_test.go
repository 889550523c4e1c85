package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const threePeers = "2=http://10.0.0.2:2380, 1=http://10.0.0.1:2380,3=http://10.0.0.3:2380"

func TestThreePlainMachinesNeedOnlyTheListOfPeers(t *testing.T) {
	e := load(t, map[string]string{"etcd.embedded": "true", "etcd.peers": threePeers, "data.dir": "/data"}).Broker().Etcd
	want := Etcd{
		Embedded: true, Peers: []EtcdPeer{{1, "http://10.0.0.1:2380"}, {2, "http://10.0.0.2:2380"}, {3, "http://10.0.0.3:2380"}},
		ListenPeers: []string{"http://10.0.0.1:2380"}, ListenClients: []string{"http://10.0.0.1:2379"}, AdvertiseClients: []string{"http://10.0.0.1:2379"},
		DataDir: "/data/etcd", QuotaBytes: 512 << 20, RequestTimeout: e.RequestTimeout,
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAddressesOfTheMemberInside(t *testing.T) {
	for _, c := range []struct {
		name                         string
		flags                        map[string]string
		peers, clients, toldToOthers string
	}{
		{"alone", nil, "", "", ""},
		{"alone, for others too", map[string]string{"etcd.listen.client.urls": "http://10.0.0.1:2379"}, "", "http://10.0.0.1:2379", "http://10.0.0.1:2379"},
		{"a name", map[string]string{"etcd.peers": "1=http://broker-1:2380"}, "http://0.0.0.0:2380", "http://0.0.0.0:2379", "http://broker-1:2379"},
		{"IPv6", map[string]string{"etcd.peers": "1=http://[fd00::1]:7001"}, "http://[fd00::1]:7001", "http://[fd00::1]:7000", "http://[fd00::1]:7000"},
		{"behind something", map[string]string{"etcd.peers": "1=http://a:2380", "etcd.listen.peer.urls": "http://0.0.0.0:9000", "etcd.advertise.client.urls": "http://b:1"},
			"http://0.0.0.0:9000", "http://0.0.0.0:8999", "http://b:1"},
	} {
		e := load(t, c.flags).Broker().Etcd
		got := []string{strings.Join(e.ListenPeers, ","), strings.Join(e.ListenClients, ","), strings.Join(e.AdvertiseClients, ",")}
		if d := cmp.Diff([]string{c.peers, c.clients, c.toldToOthers}, got); !e.Embedded || d != "" {
			t.Errorf("%s: embedded %v, (-want +got):\n%s", c.name, e.Embedded, d)
		}
	}
	if load(t, map[string]string{"etcd.endpoints": "h:2379"}).Broker().Etcd.Embedded {
		t.Error("an etcd inside beside one elsewhere")
	}
}

func TestEtcdSettingsThatMakeNoClusterAreRefused(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"etcd.embedded=true etcd.endpoints=h:2379", "choose one"},
		{"etcd.embedded=false", "etcd.endpoints must say where it is"},
		{"etcd.endpoints=h:2379 etcd.peers=1=http://h:2380", "flag --etcd-peers: etcd.peers is for an etcd inside"},
		{"node.id=4 etcd.peers=1=http://h:2380", "flag --etcd-peers: this is node 4, which etcd.peers does not list"},
		{"etcd.peers=1=http://h:2380,1=http://g:2380", "is there twice"},
		{"etcd.peers=1=http://h:2380,2=http://h:2380", "is there twice"},
		{"etcd.peers=a=http://h:2380", `"a" is not a node.id`},
		{"etcd.peers=http://h:2380", "want NODE=http://HOST:PORT"},
		{"etcd.peers=1=h:2380", "want http://HOST:PORT"},
		{"etcd.peers=1=http://h", "the port is missing"},
		{"etcd.peers=1=https://h:2380", "needs etcd.tls.cert.file, etcd.tls.key.file and etcd.tls.ca.file"},
		{"etcd.peers=1=http://h:2380 etcd.listen.client.urls=http://h:2379", "want an IP address to listen on"},
		{"etcd.listen.client.urls=http://0.0.0.0:2379", "set etcd.advertise.client.urls"},
		{"etcd.listen.peer.urls=http://0.0.0.0:2380", "needs etcd.peers"},
		{"replica.selector.class=org.example.Mine", "the only selector is " + RackAwareSelector},
		{"replica.fetch.wait.max.ms=20000 replica.socket.timeout.ms=10000", "to prevent unnecessary socket timeouts"},
		{"broker.role=controller", "String must be one of: broker, replay"},
	} {
		flags := map[string]string{}
		for f := range strings.FieldsSeq(c.flags) {
			k, v, _ := strings.Cut(f, "=")
			flags[k] = v
		}
		if _, err := Load("", nil, flags); err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want %s", c.flags, err, c.want)
		}
	}
}

func TestThrottledReplicasAreThoseOfTheList(t *testing.T) {
	resolve := func(value string) ThrottledReplicas {
		topic, err := Defaults().ResolveTopic(map[string]string{"leader.replication.throttled.replicas": value, "follower.replication.throttled.replicas": "*"})
		if err != nil {
			t.Fatal(err)
		}
		if !topic.FollowerThrottled.Has(99, 7) {
			t.Error("* does not have every replica")
		}
		return topic.LeaderThrottled
	}
	for _, c := range []struct {
		value             string
		partition, broker int32
		want              bool
	}{
		{"", 0, 1, false}, {"0:1,3:2", 0, 1, true}, {"0:1,3:2", 3, 2, true}, {"0:1,3:2", 0, 2, false}, {"0:1,3:2", 1, 1, false}, {"99999999999:1", 0, 1, false}, {"*", 5, 5, true},
	} {
		if got := resolve(c.value).Has(c.partition, c.broker); got != c.want {
			t.Errorf("%q has partition %d on broker %d: %v, want %v", c.value, c.partition, c.broker, got, c.want)
		}
	}
}

func TestLeaseLeavesTimeForTheElectionOfAnEtcdInside(t *testing.T) {
	for _, c := range []struct {
		flags map[string]string
		want  time.Duration
	}{
		{nil, 3 * time.Second},
		{map[string]string{"etcd.peers": threePeers}, 2 * time.Second},
		{map[string]string{"etcd.peers": threePeers, "broker.session.timeout.ms": "2000"}, 2 * time.Second},
		{map[string]string{"etcd.endpoints": "h:2379"}, 3 * time.Second},
	} {
		if got := load(t, c.flags).Broker().LeaseTTL; got != c.want {
			t.Errorf("%v: %s, want %s", c.flags, got, c.want)
		}
	}
}
