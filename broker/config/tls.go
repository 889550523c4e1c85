package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLSConfig reads the certificates for etcd. It returns nil if no etcd.tls.* setting is set: an
// https:// endpoint is then verified with the system's certificates.
func (e Etcd) TLSConfig() (*tls.Config, error) {
	if e.CAFile == "" && e.CertFile == "" && e.ServerName == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.ServerName}
	if e.CAFile != "" {
		pem, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd.tls.ca.file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd.tls.ca.file: no certificate in %s", e.CAFile)
		}
	}
	if e.CertFile != "" {
		if _, err := e.pair(); err != nil {
			return nil, err
		}
		// With each connection: certificates are replaced long before the process is.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return e.pair() }
	}
	return c, nil
}

func (e Etcd) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("etcd.tls.cert.file: %w", err)
	}
	return &pair, nil
}
