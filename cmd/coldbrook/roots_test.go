package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

func TestBinaryBringsRootCertificatesWhereTheSystemHasNone(t *testing.T) {
	const inside = "TEST_WITHOUT_SYSTEM_ROOTS"
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		nowhere := t.TempDir()
		cmd.Env = append(os.Environ(), inside+"=1", "SSL_CERT_FILE="+nowhere+"/none", "SSL_CERT_DIR="+nowhere)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("without the system's certificates: %v\n%s", err, out)
		}
		return
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if roots.Equal(x509.NewCertPool()) {
		t.Error("no authority is trusted")
	}
}
