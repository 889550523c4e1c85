package object

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// location is what the two S3 drivers share: names, error mapping and the HTTP client.
type location struct {
	bucket, prefix string // prefix is empty or ends in a slash
	address        string // where requests go, for messages
	keyNames       string // the variables that hold the credentials, for messages
	checksums      bool   // whether the store is sent CRC32C
	learnsTime     bool   // whether the client signs with the store's time when the clocks differ

	oneByOne *atomic.Bool // the store does not delete in batches

	creds   *renewal
	window  *window
	archive *archive
}

// bucketLocation checks a bucket and a key prefix.
func bucketLocation(bucket, prefix string) (location, error) {
	if bucket == "" {
		return location{}, fmt.Errorf("no bucket in the URL: %w", ErrInvalid)
	}
	// Servers differ in what more they refuse; client libraries only complain at the first request.
	if len(bucket) < 3 || len(bucket) > 63 || strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" {
		return location{}, fmt.Errorf("bucket %q: want 3 to 63 letters, digits, dots and hyphens: %w", bucket, ErrInvalid)
	}
	p, err := keyPrefix(prefix)
	return location{bucket: bucket, prefix: p, oneByOne: new(atomic.Bool), creds: new(renewal), window: newWindow(), archive: new(archive)}, err
}

func (l *location) String() string { return fmt.Sprintf("bucket %q at %s", l.bucket, l.address) }

func (l *location) checkKey(key string) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	if n := len(l.prefix) + len(key); n > maxKeyBytes {
		return fmt.Errorf("key of %d bytes with the prefix: want at most %d: %w", n, maxKeyBytes, ErrInvalid)
	}
	return nil
}

// bodySilence is longer than any store takes between two bytes of an answer.
const bodySilence = time.Minute

// newHTTPClient makes a client for few hosts, many connections and large bodies. It speaks
// HTTP/1.1, so that parallel reads do not share one connection's window.
// roots are the authorities whose certificates a server may show; nil: the system's.
func newHTTPClient(roots *x509.CertPool) (*http.Client, func()) {
	tr := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ResponseHeaderTimeout: time.Minute, // counted from the end of the request's body
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   256,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        16 << 10, // larger reads bypass it into the caller's buffer
		DisableCompression:    true,     // bytes as stored
	}
	c := &http.Client{Transport: observer{tr, bodySilence}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, tr.CloseIdleConnections
}

// httpRange is empty for the whole object.
func httpRange(off, n int64) string {
	switch {
	case n >= 0:
		return "bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)
	case off > 0:
		return "bytes=" + strconv.FormatInt(off, 10) + "-"
	}
	return ""
}
