package kv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// certificates are a CA and a certificate of this machine signed by it, for
// servers and clients.
type certificates struct{ ca, cert, key string }

func newCertificates(t *testing.T) certificates {
	t.Helper()
	dir := t.TempDir()
	c := certificates{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	write(c.ca, "CERTIFICATE", sign(ca, ca, caKey, caKey))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	write(c.cert, "CERTIFICATE", sign(leaf, ca, key, caKey))
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(c.key, "EC PRIVATE KEY", der)
	return c
}

// config is what a client needs.
func (c certificates) config(t *testing.T) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

// startExternal runs an etcd as operators run it: with etcd's own limits, TLS
// with certificates of clients, and users.
func startExternal(t *testing.T, change func(*embed.Config)) (DialOptions, *embed.Etcd) {
	t.Helper()
	certs := newCertificates(t)
	c := embed.NewConfig()
	c.Dir, c.Name = filepath.Join(t.TempDir(), "etcd"), "external"
	at, peer := freeAddress(t), freeAddress(t)
	client := url.URL{Scheme: "https", Host: at}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	peerURL := url.URL{Scheme: "http", Host: peer}
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{peerURL}
	c.InitialCluster = c.Name + "=" + peerURL.String()
	c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile, c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = certs.cert, certs.key, certs.ca, true
	c.TickMs, c.ElectionMs, c.UnsafeNoFsync, c.BcryptCost, c.EnableGRPCGateway = 10, 100, true, 4, false
	quiet := &atomic.Bool{}
	quiet.Store(true)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(discard, 0, quiet))
	if change != nil {
		change(c)
	}
	setWALSegmentBytes()
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	o := DialOptions{Endpoints: []string{client.String()}, TLS: certs.config(t), Username: "root", Password: "secret"}
	addUsers(t, o)
	return o, e
}

func addUsers(t *testing.T, o DialOptions) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints, TLS: o.TLS, Logger: quietZap()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV(t, c)
	_, err = c.UserAdd(t.Context(), "root", o.Password)
	if err == nil {
		_, err = c.UserGrantRole(t.Context(), "root", "root")
	}
	if err == nil {
		_, err = c.AuthEnable(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, o DialOptions) KV {
	t.Helper()
	kv, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeKV(t, kv) })
	return kv
}

func TestCredentialsThatEtcdRefusesAreNamed(t *testing.T) {
	t.Parallel()
	o, _ := startExternal(t, nil)
	wrong := o
	wrong.Password = "wrong"
	if _, err := Dial(t.Context(), wrong); !errors.Is(err, ErrAccess) {
		t.Errorf("wrong password: got %v, want ErrAccess", err)
	}
	nobody := o
	nobody.Username, nobody.Password = "", ""
	if _, err := dial(t, nobody).Range(t.Context(), RangeRequest{Key: "k"}); !errors.Is(err, ErrAccess) {
		t.Errorf("no user: got %v, want ErrAccess", err)
	}
	stranger := o
	stranger.TLS = newCertificates(t).config(t)
	if _, err := Dial(t.Context(), stranger); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("a certificate of another CA: got %v, want ErrUnavailable that says why", err)
	}
}

func TestDeadEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	o, _ := startExternal(t, nil)
	o.Endpoints = append([]string{"https://" + freeAddress(t)}, o.Endpoints...)
	kv := dial(t, o)
	for range 10 {
		put(t, kv, "k", "v")
	}
}

func TestClientGoesOnWithTheMembersThatAreLeft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	kv := dial(t, DialOptions{Endpoints: c.clients()})
	base := put(t, kv, "k", "v")
	w := watchAlways(t, kv, "k", base)
	lease, err := StartLease(t.Context(), kv, 2*time.Second, discard)
	if err != nil {
		t.Fatal(err)
	}
	mustTxn(t, kv, Txn{Then: []Op{Put("lease", nil, lease.ID())}})
	for i := range 3 { // each once, so the leader and the one that serves the watch are among them
		c.kill(i)
		w.await(putSoon(t, kv, "k", "w"))
		c.start(i)
	}
	for killed := time.Now(); lease.Confirmed().Before(killed); {
		select {
		case <-lease.Done():
			t.Fatal("the lease was lost")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if got := mustRange(t, kv, RangeRequest{Key: "lease"}).KVs; len(got) != 1 {
		t.Error("the key of a kept lease is gone")
	}
	if err := lease.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// alwaysWatcher watches on after errors, as the metadata store does.
type alwaysWatcher struct {
	t    *testing.T
	seen chan int64 // each revision, once
}

func watchAlways(t *testing.T, kv KV, key string, from int64) *alwaysWatcher {
	w := &alwaysWatcher{t: t, seen: make(chan int64, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			for resp, err := range kv.Watch(ctx, WatchRequest{Key: key, Revision: from}) {
				if err != nil {
					break
				}
				for _, e := range resp.Events {
					w.seen <- e.KV.ModRevision
				}
				from = resp.Revision + 1
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w *alwaysWatcher) await(revision int64) {
	w.t.Helper()
	last := int64(0)
	for last < revision {
		select {
		case r := <-w.seen:
			if r <= last {
				w.t.Errorf("revision %d came after %d", r, last)
			}
			last = r
		case <-time.After(20 * time.Second):
			w.t.Fatalf("revision %d was not seen, the last was %d", revision, last)
		}
	}
}

func TestLimitsOfEtcdAreRespected(t *testing.T) {
	t.Parallel()
	o, _ := startExternal(t, nil)
	kv := dial(t, o)
	if n := kv.MaxTxnOps(); n != DefaultMaxTxnOps {
		t.Errorf("%d operations in a transaction, want %d", n, DefaultMaxTxnOps)
	}
	put(t, kv, "large", strings.Repeat("x", 1<<20))
	_, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("larger", make([]byte, 2<<20), 0)}})
	if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("2 MiB: got %v, want an error that says so, and not that etcd is away", err)
	}
}

func TestFullEtcdSaysSoAndStillAnswersReads(t *testing.T) {
	t.Parallel()
	fill := func(t *testing.T, kv KV) {
		for range 1000 {
			_, err := kv.Txn(t.Context(), Txn{Then: []Op{Put("k", make([]byte, 256<<10), 0)}})
			if err == nil {
				continue
			}
			if !errors.Is(err, ErrNoSpace) {
				t.Fatalf("got %v, want ErrNoSpace", err)
			}
			if got := mustRange(t, kv, RangeRequest{Key: "k"}).KVs; len(got) != 1 {
				t.Errorf("%d keys, want 1", len(got))
			}
			return
		}
		t.Error("it never got full")
	}
	t.Run("external", func(t *testing.T) {
		o, _ := startExternal(t, func(c *embed.Config) { c.QuotaBackendBytes = 8 << 20 })
		fill(t, dial(t, o))
	})
	t.Run("embedded", func(t *testing.T) {
		e, err := StartEmbedded(t.Context(), EmbeddedOptions{Dir: filepath.Join(t.TempDir(), "etcd"), Unsafe: true, QuotaBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer closeKV(t, e)
		fill(t, e.KV())
	})
}

func TestMembersTalkOverTLS(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	c := startCluster(t, 3, func(o *EmbeddedOptions) { o.CAFile, o.CertFile, o.KeyFile = certs.ca, certs.cert, certs.key })
	kv := dial(t, DialOptions{Endpoints: c.clients(), TLS: certs.config(t)})
	put(t, kv, "k", "v")
	c.kill(2)
	c.wipe(2)
	c.start(2)
	if got := pairs(mustRange(t, c.kv(2), RangeRequest{Key: "k"}).KVs); got != "k=v" {
		t.Errorf("got %q, want k=v", got)
	}
	// Neither as a client nor as a member gets in who has no certificate.
	stranger := newCertificates(t).config(t)
	if _, err := Dial(t.Context(), DialOptions{Endpoints: c.clients(), TLS: stranger}); err == nil {
		t.Error("a client with a certificate of another CA got in")
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.options[0].Peers[0].URL, "https://"), &tls.Config{RootCAs: certs.config(t).RootCAs})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		closeKV(t, conn)
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a peer without a certificate: %v", err)
	}
}
