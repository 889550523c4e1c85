package object

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/metric"
)

// Options complete what a store's URL says. The zero value is ready to use.
type Options struct {
	// Logger takes the client libraries' warnings; none when nil.
	Logger *slog.Logger
	// Meter, when set, counts requests, bytes and latency (WithMetrics).
	Meter metric.Meter
	// Credentials replace the driver's search through environment and files.
	Credentials *Credentials
}

// Credentials of an S3-compatible store.
type Credentials struct {
	AccessKey, SecretKey, SessionToken string
}

// Open makes the store that a URL names. It does not contact it: that is Check's job.
//
//	file:///dir
//	s3://bucket/prefix?region=&endpoint=&path_style=true&checksum=when_supported|when_required
//	minio://host:port/bucket/prefix?secure=true&region=&checksum=…
//
// secure defaults to true, except for a host on this machine; path_style to true when there is an
// endpoint. Unknown schemes and parameters are errors.
func Open(ctx context.Context, rawURL string, o Options) (Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := open(ctx, rawURL, o)
	if err != nil {
		return nil, fmt.Errorf("object store %s: %w", redact(rawURL), err)
	}
	if o.Meter == nil {
		return s, nil
	}
	return WithMetrics(s, o.Meter)
}

// redact hides a password that somebody wrote into the URL.
func redact(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil {
		return u.Redacted()
	}
	return strconv.Quote(rawURL)
}

func open(ctx context.Context, rawURL string, o Options) (Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", ErrInvalid)
	}
	if u.User != nil {
		return nil, fmt.Errorf("credentials do not belong in the URL, set them in the environment: %w", ErrInvalid)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Path == "" {
			return nil, fmt.Errorf("want file:///directory: %w", ErrInvalid)
		}
		if err := knownParams(u); err != nil {
			return nil, err
		}
		return NewDir(filepath.FromSlash(u.Path))
	case "s3":
		return openS3(ctx, u, o)
	case "minio":
		return openMinIO(u, o)
	}
	return nil, fmt.Errorf("scheme %q: want file, s3 or minio: %w", u.Scheme, ErrInvalid)
}

// knownParams refuses parameters that the driver does not know, so that a misspelt one is noticed.
func knownParams(u *url.URL, names ...string) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("parameters: %w: %w", ErrInvalid, err)
	}
	for name, values := range q {
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			return fmt.Errorf("parameter %q: want one of %v: %w", name, names, ErrInvalid)
		}
		if len(values) != 1 {
			return fmt.Errorf("parameter %q given %d times: %w", name, len(values), ErrInvalid)
		}
	}
	return nil
}

func boolParam(u *url.URL, name string, def bool) (bool, error) {
	v := u.Query().Get(name)
	if v == "" {
		return def, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("parameter %s=%q: want true or false: %w", name, v, ErrInvalid)
	}
	return b, nil
}

// sendChecksums reads ?checksum=: some S3 clones refuse requests with checksum headers.
func sendChecksums(u *url.URL) (bool, error) {
	switch v := u.Query().Get("checksum"); v {
	case "", "when_supported":
		return true, nil
	case "when_required":
		return false, nil
	default:
		return false, fmt.Errorf("parameter checksum=%q: want when_supported or when_required: %w", v, ErrInvalid)
	}
}

// keyPrefix makes "" or "a/b/" of the rest of a URL's path.
func keyPrefix(path string) (string, error) {
	p := strings.Trim(path, "/")
	if p == "" {
		return "", nil
	}
	if err := ValidKey(p); err != nil {
		return "", fmt.Errorf("prefix: %w", err)
	}
	return p + "/", nil
}
