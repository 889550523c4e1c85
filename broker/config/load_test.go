package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "coldbrook.properties")
	if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestValueKnowsWhereItCameFrom(t *testing.T) {
	file := write(t, "# a comment\n\nnode.id = 7\nlog.retention.hours=24\nnum.partitions:3\nlog.segment.bytes 2097152\n")
	s, err := Load(file, []string{"COLDBROOK_NUM_PARTITIONS=4", "COLDBROOK_LOG_LEVEL=debug", "PATH=/bin"},
		map[string]string{"log.level": "warn", "listeners": "10.0.0.1:9092"})
	if err != nil {
		t.Fatal(err)
	}
	s, err = s.With(map[string]string{"message.max.bytes": "5"}, map[string]string{"log.index.interval.bytes": "6"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]string{
		"node.id": {"7", file + ":3"}, "log.retention.hours": {"24", file + ":4"}, "log.segment.bytes": {"2097152", file + ":6"},
		"num.partitions": {"4", "environment COLDBROOK_NUM_PARTITIONS"}, "log.level": {"warn", "flag --set log.level"}, "listeners": {"10.0.0.1:9092", "flag --listen"},
		"message.max.bytes": {"5", "dynamic, cluster-wide"}, "log.index.interval.bytes": {"6", "dynamic, this broker"}, "max.connections.per.ip": {"2147483647", "default"},
	}
	for _, v := range s.Values() {
		if w, ok := want[v.Def.Name]; ok {
			if got := [2]string{*v.Value, v.Origin.String()}; got != w {
				t.Errorf("%s = %v, want %v", v.Def.Name, got, w)
			}
			delete(want, v.Def.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not among the values: %v", want)
	}
}

func TestErrorsNameFileLineAndSettingAllAtOnce(t *testing.T) {
	file := write(t, strings.Join([]string{
		"node.id=one",                       // 1
		"log.retentoin.ms=5",                // 2
		"retention.ms=5",                    // 3
		"zookeeper.connect=z:2181",          // 4
		"num.partitions=0",                  // 5
		"etcd.password=x", "cluster.name=a", // 6, 7
		"cluster.name=b",       // 8
		"log.dirs",             // 9
		`super.users=\u00zz`,   // 10
		"log.segment.bytes=\\", // 11, 12
		"   999",
		"auto.create.topics.enable=yes", // 13
		"=5",                            // 14
	}, "\n"))
	_, err := Load(file, []string{"COLDBROOK_HTTP_LITSEN=x", "COLDBROOK_CACHE=/tmp", "COLDBROOK_PORT_9092_TCP=tcp://10.0.0.1:9092", "COLDBROOK_SERVICE_HOST=10.0.0.1", "COLDBROOK_HEADLESS_SERVICE_PORT_KAFKA=9092"},
		map[string]string{"remote.store.url": "s4://bucket"})
	if err == nil || !errors.Is(err, ErrInvalid) {
		t.Fatalf("err = %v", err)
	}
	want := strings.ReplaceAll(`F:9: "log.dirs" has no value: want setting=value
F:10: malformed \uxxxx encoding in "\\u00zz"
F:14: "=5" has no setting's name
F:1: Invalid value one for configuration node.id: Not a number of type INT
F:2: unknown setting log.retentoin.ms; did you mean log.retention.ms?
F:3: unknown setting retention.ms; this is a setting of topics; the broker's default for it is log.retention.ms
F:4: unknown setting zookeeper.connect; remove it: etcd keeps the metadata: see etcd.endpoints
F:5: Invalid value 0 for configuration num.partitions: Value must be at least 1
F:8: cluster.name is set twice, first at F:7
F:11: Invalid value 999 for configuration log.segment.bytes: Value must be at least 1048576
F:13: Invalid value yes for configuration auto.create.topics.enable: Expected value to be either true or false
environment COLDBROOK_HTTP_LITSEN: unknown setting http.litsen; did you mean http.listen?
flag --store: Invalid value s4://bucket for configuration remote.store.url: the scheme must be one of: file, s3, minio`, "F:", file+":")
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSettingsThatDoNotFitTogetherAreRefused(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"listeners=0.0.0.0:9092", "flag --listen: clients cannot connect to 0.0.0.0: set advertised.listeners (--advertise HOST:PORT) to the address they can reach"},
		{"advertised.listeners=0.0.0.0:9092", "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0"},
		{"listeners=A://h:1,A://h:2", "Each listener must have a different name"},
		{"listeners=A://h:1,B://h:1", "Each listener must have a different port"},
		{"listeners=SSL://h:1", "has no protocol in listener.security.protocol.map"},
		{"listeners=SSL://h:1 listener.security.protocol.map=SSL:SSL", "PLAINTEXT is the only protocol so far"},
		{"listeners=h", "want HOST:PORT or NAME://HOST:PORT"},
		{"listeners=h:99999", "is not between 0 and 65535"},
		{"advertised.listeners=EXTERNAL://h:1", "listener PLAINTEXT is in listeners and not in advertised.listeners"},
		{"inter.broker.listener.name=X", "X is not one of listeners"},
		{"log.dirs=/a,/b", "log.dirs has 2 directories"},
		{"remote.read.ahead.bytes=999999999", "more than remote.cache.bytes"},
		{"etcd.tls.cert.file=/a", "go together"},
		{"etcd.username=a", "needs etcd.endpoints"},
		{"group.min.session.timeout.ms=10 group.max.session.timeout.ms=9", "is more than group.max.session.timeout.ms"},
		{"etcd.endpoints=ftp://x", "want http://HOST:PORT"},
		{"remote.store.url=file://relative/dir", "three slashes"},
		{"remote.store.url=minio://host:9000/", "the bucket is missing"},
		{"super.users=alice", "principalType:principalName but got alice"},
		{"authorizer.class.name=kafka.security.authorizer.AclAuthorizer", "the only authorizer is"},
		{"http.listen=9644", "want HOST:PORT"},
		{"log.retention.hours=0", "unlimited (-1) or, equal or greater than 1"},
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

func TestSecretsAreNotInErrors(t *testing.T) {
	s := load(t, map[string]string{"etcd.endpoints": "h:2379", "etcd.password": " hunter2 "})
	if got := s.Broker().Etcd.Password; got != " hunter2 " {
		t.Errorf("password %q was changed", got)
	}
	for _, e := range s.DescribeBroker() {
		if e.Name == "etcd.password" && (e.Value != nil || e.Synonyms[0].Value != nil || !e.Sensitive) {
			t.Errorf("described as %+v", e)
		}
	}
}

func TestListenersAndDirectoriesAreResolved(t *testing.T) {
	s := load(t, map[string]string{
		"listeners": "internal://10.0.0.1:9092,EXTERNAL://:9093", "advertised.listeners": "EXTERNAL://kafka.example.com:443,INTERNAL://10.0.0.1:9092",
		"listener.security.protocol.map": "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,SSL:SSL", "data.dir": "/data", "etcd.data.dir": "/ssd/etcd",
	})
	b := s.Broker()
	want := []Listener{{"INTERNAL", "PLAINTEXT", "10.0.0.1", 9092}, {"EXTERNAL", "PLAINTEXT", "kafka.example.com", 443}}
	if !cmp.Equal(b.AdvertisedListeners, want) {
		t.Error(cmp.Diff(want, b.AdvertisedListeners))
	}
	if b.InterBrokerListener != "INTERNAL" || b.Listeners[1].Address() != ":9093" {
		t.Errorf("%+v", b)
	}
	if b.LogDirs[0] != "/data" || b.Remote.StoreURL != "file:///data/objects" || b.Etcd.DataDir != "/ssd/etcd" {
		t.Errorf("%v %v %v", b.LogDirs, b.Remote.StoreURL, b.Etcd.DataDir)
	}
	if h := load(t, map[string]string{"listeners": ":0"}).Broker().AdvertisedListeners[0]; h.Host == "" || h.Port != 0 {
		t.Errorf("advertised %v", h)
	}
}

func FuzzProperties(f *testing.F) {
	for _, s := range []string{"a=b", "a b", "a:b", "a\\=b=c", "a=b\\\n c", "#x\n!y\na=\\u0041\\t\\\\", "\\", "a=\\u00", "=\n:", "a\\\r\nb=c", "\x00=\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		lines, errs := parseProperties("f", []byte(body))
		if len(lines)+len(errs) > strings.Count(body, "\n")+1 {
			t.Fatalf("%d lines and %d errors from %q", len(lines), len(errs), body)
		}
		for _, l := range lines {
			if l.name == "" || !strings.HasPrefix(l.place, "f:") {
				t.Fatalf("%+v", l)
			}
		}
	})
}
