package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a certificate of its own with that number, and its key.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate lives for months at most, a broker for years: the next connection has the new one.
func TestCertificateForEtcdIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	e := Etcd{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if _, err := e.TLSConfig(); err == nil {
		t.Error("without the files")
	}
	writePair(t, e.CertFile, e.KeyFile, 1)
	c, err := e.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	for _, serial := range []int64{1, 2} {
		writePair(t, e.CertFile, e.KeyFile, serial)
		got, err := c.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := got.Leaf.SerialNumber.Int64(); n != serial {
			t.Errorf("certificate %d, want %d", n, serial)
		}
	}
}
