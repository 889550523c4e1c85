package object_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// clearCredentials makes the search for credentials find only what the test sets.
func clearCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// oneByte answers whoever signs with the key, and says ExpiredToken to others, after telling.
func oneByte(key func() string, refused func()) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		if strings.Contains(r.Header.Get("Authorization"), "Credential="+key()+"/") {
			_, _ = w.Write([]byte("x"))
			return
		}
		refused()
		says(400, "ExpiredToken")(w, r, nil)
	}))
}

// TestExpiredCredentialsAreReadAgain: somebody rotates the keys in the file that both clients read.
func TestExpiredCredentialsAreReadAgain(t *testing.T) {
	clearCredentials(t)
	file := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	write := func(key string) {
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = secret\naws_session_token = token\n", key)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	var valid atomic.Value
	var refusals atomic.Int64
	valid.Store("first")
	srv := oneByte(func() string { return valid.Load().(string) }, func() { refusals.Add(1); write(valid.Load().(string)) })
	defer srv.Close()
	for name, rawURL := range map[string]string{
		"s3":    "s3://bkt?region=x&endpoint=" + url.QueryEscape(srv.URL),
		"minio": "minio://" + strings.TrimPrefix(srv.URL, "http://") + "/bkt?region=x",
	} {
		t.Run(name, func(t *testing.T) {
			valid.Store("first")
			write("first")
			s, err := object.Open(t.Context(), rawURL, object.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, key := range []string{"first", "second", "third"} {
				valid.Store(key)
				for range 2 {
					if got := get(t, s, "k"); string(got) != "x" {
						t.Errorf("got %q", got)
					}
				}
			}
			if n := refusals.Swap(0); n != 2 {
				t.Errorf("%d requests with old keys, want one for each rotation", n)
			}
		})
	}
}

// TestWebIdentityIsRenewed: the s3 driver gets its keys from a security token service, which fails
// once and then hands out others.
func TestWebIdentityIsRenewed(t *testing.T) {
	clearCredentials(t)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("web-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	var issued atomic.Int64
	var down atomic.Bool
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>key-%d</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			issued.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/tier")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	var valid atomic.Value
	valid.Store("key-1")
	srv := oneByte(func() string { return valid.Load().(string) }, func() {})
	defer srv.Close()
	s, err := object.Open(t.Context(), "s3://bkt?region=x&endpoint="+url.QueryEscape(srv.URL), object.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get(t, s, "k")
	valid.Store("key-2")
	get(t, s, "k")
	if n := issued.Load(); n != 2 {
		t.Errorf("%d sets of credentials issued, want 2", n)
	}
	down.Store(true)
	valid.Store("key-3")
	_, err = s.Get(t.Context(), "k", 0, 1)
	wantError(t, err, object.ErrUnavailable, "could not be renewed")
	down.Store(false)
	get(t, s, "k") // as soon as the service is back
}

// TestClockSkew: the s3 client signs with the server's time once it knows it; minio-go cannot, and
// the error says what is wrong.
func TestClockSkew(t *testing.T) {
	const ahead = time.Hour
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(ahead).UTC()
		w.Header().Set("Date", now.Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || now.Sub(signed).Abs() > 15*time.Minute {
			says(403, "RequestTimeTooSkewed")(w, r, nil)
			return
		}
		w.Header().Set("Last-Modified", now.Format(http.TimeFormat))
		_, _ = w.Write([]byte("x"))
	}))
	defer srv.Close()
	stores := bothDrivers(t, srv.URL)
	if got := get(t, stores[0], "k"); string(got) != "x" {
		t.Errorf("s3: got %q", got)
	}
	_, err := stores[1].Get(t.Context(), "k", 0, 1)
	wantError(t, err, object.ErrAccess, "clocks", "59m59s ahead")
}

// TestUntrustedCertificateIsNamed, without hammering.
func TestUntrustedCertificateIsNamed(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			asked.Add(1)
		}
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	c := object.Credentials{AccessKey: "a", SecretKey: "s"}
	host := strings.TrimPrefix(srv.URL, "https://")
	for _, rawURL := range []string{"s3://bkt?region=x&endpoint=" + url.QueryEscape(srv.URL), "minio://" + host + "/bkt?region=x&secure=true"} {
		s := openURL(t, rawURL, c)
		asked.Store(0)
		_, err := s.Get(t.Context(), "k", 0, 1)
		wantError(t, err, object.ErrUnavailable, "certificate is not trusted", host)
		if n := asked.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		_ = s.Close()
	}
}

// TestStoreIsTrustedByTheBundleOfTheEnvironment: a private authority is named as it is to the AWS tools.
func TestStoreIsTrustedByTheBundleOfTheEnvironment(t *testing.T) {
	c := &clone{objects: map[string][]byte{"k": []byte("v")}}
	srv := httptest.NewTLSServer(c)
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that clients break off
	dir := t.TempDir()
	bundle, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "config")
	for file, text := range map[string]string{
		bundle: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})),
		config: "[default]\nca_bundle = " + bundle + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s3URL := "s3://bucket?region=us-east-1&endpoint=" + url.QueryEscape(srv.URL)
	minioURL := "minio://" + strings.TrimPrefix(srv.URL, "https://") + "/bucket?region=us-east-1&secure=true"
	head := func(rawURL string) error {
		s, err := object.Open(t.Context(), rawURL, object.Options{Credentials: &object.Credentials{AccessKey: "a", SecretKey: "b"}})
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Head(t.Context(), "k")
		return err
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "no-config"))
	for _, rawURL := range []string{s3URL, minioURL} {
		t.Setenv("AWS_CA_BUNDLE", "")
		wantError(t, head(rawURL), object.ErrUnavailable, "AWS_CA_BUNDLE")
		t.Setenv("AWS_CA_BUNDLE", bundle)
		if err := head(rawURL); err != nil {
			t.Errorf("with AWS_CA_BUNDLE: %v", err)
		}
		t.Setenv("AWS_CA_BUNDLE", filepath.Join(dir, "none.pem"))
		if err := head(rawURL); err == nil || !strings.Contains(err.Error(), "none.pem") {
			t.Errorf("with a bundle that is not there: %v", err)
		}
		t.Setenv("AWS_CA_BUNDLE", config)
		if err := head(rawURL); err == nil || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
			t.Errorf("with a bundle that has no certificates: %v", err)
		}
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_CONFIG_FILE", config)
	if err := head(s3URL); err != nil {
		t.Errorf("with ca_bundle in the configuration: %v", err)
	}
}
