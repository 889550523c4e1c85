package object

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/minio-go/v7"
)

// location is what the two S3 drivers share: names, error mapping and the HTTP client.
type location struct {
	bucket, prefix string // prefix is empty or ends in a slash
	address        string // where requests go, for messages
	keyNames       string // the variables that hold the credentials, for messages
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
	return location{bucket: bucket, prefix: p}, err
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

// newHTTPClient makes a client for few hosts, many connections and large bodies. It speaks
// HTTP/1.1, so that parallel reads do not share one connection's window.
func newHTTPClient() (*http.Client, func()) {
	tr := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ResponseHeaderTimeout: time.Minute, // counted from the end of the request's body
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   256,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        16 << 10, // larger reads bypass it into the caller's buffer
		DisableCompression:    true,     // bytes as stored
	}
	c := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, tr.CloseIdleConnections
}

// putRetrying calls put again after the answers that servers over a file system also give when
// another request has just removed the folder that the object is going into: AccessDenied (MinIO)
// and ExistingObjectIsDirectory (versitygw).
func putRetrying[T any](ctx context.Context, l *location, key string, put func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		out, err := put()
		if err == nil {
			return out, nil
		}
		err = l.fail("put", key, err)
		var e *Error
		if attempt == maxAttempts || !errors.As(err, &e) || !e.folderRace {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(time.Duration(attempt) * 20 * time.Millisecond):
		}
	}
}

// absent refuses to upload a large object that could not be stored in the end. Not all servers
// look at If-None-Match where a multipart upload completes.
func absent(ctx context.Context, s Store, key string) error {
	_, err := s.Head(ctx, key)
	switch {
	case err == nil:
		return errExistsAlready
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

var errExistsAlready = fmt.Errorf("found before the upload: %w", ErrExists)

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

// rangeBody checks that the server is about to send what was asked for; length is what it announced.
func (l *location) rangeBody(ctx context.Context, key string, off, n int64, body io.ReadCloser, length int64) (io.ReadCloser, error) {
	if length < 0 || (n >= 0 && length != n) {
		_ = body.Close() // not read
		if length > n {
			return nil, l.failCode("get", key, 0, "InvalidResponse", fmt.Errorf("asked for %d bytes from %d, the server sends %d", n, off, length))
		}
		return nil, l.failCode("get", key, http.StatusRequestedRangeNotSatisfiable, "InvalidRange", fmt.Errorf("%d bytes from %d: the server has %d", n, off, length))
	}
	return &exactBody{ctx: ctx, r: body, left: length, fail: func(err error) error { return l.fail("get", key, err) }}, nil
}

// noCredentialsError marks a search for credentials that found none.
type noCredentialsError struct{ err error }

func (e *noCredentialsError) Error() string { return e.err.Error() }
func (e *noCredentialsError) Unwrap() error { return e.err }

// fail turns what either client library returned into an *Error, and nil into nil.
func (l *location) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var (
		done  *Error
		none  *noCredentialsError
		body  *bodyError
		api   smithy.APIError
		resp  *smithyhttp.ResponseError
		mresp minio.ErrorResponse
	)
	status, code := 0, ""
	switch {
	case errors.As(err, &done):
		return err
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrChecksum), errors.Is(err, ErrExists), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Op: op, Key: key, Store: l.String(), Err: err}
	case errors.As(err, &body):
		return &Error{Op: op, Key: key, Store: l.String(), Err: body}
	case errors.As(err, &none):
		return &Error{Op: op, Key: key, Store: l.String(), Kind: ErrAccess, Hint: "no credentials: set " + l.keyNames,
			Err: errors.New("no credentials found")}
	case errors.As(err, &mresp):
		status, code = mresp.StatusCode, mresp.Code
	default:
		if errors.As(err, &resp) {
			status = resp.HTTPStatusCode()
		}
		if errors.As(err, &api) {
			code = api.ErrorCode()
			err = &answerError{code, api.ErrorMessage(), err}
		}
	}
	return l.failCode(op, key, status, code, err)
}

// answerError shortens the SDK's message, which repeats operation, status and request ids.
type answerError struct {
	code, message string
	err           error
}

func (e *answerError) Error() string {
	if e.message == "" || e.message == e.code {
		return e.code
	}
	return e.code + ": " + e.message
}
func (e *answerError) Unwrap() error { return e.err }

// failCode maps an HTTP status (0 = none) and S3 error code to a sentinel and a hint.
func (l *location) failCode(op, key string, status int, code string, err error) error {
	e := &Error{Op: op, Key: key, Store: l.String(), Err: err}
	switch code {
	case "NoSuchBucket":
		e.Kind, e.Hint = ErrNoBucket, "create the bucket first, or correct its name"
	case "NoSuchKey", "NotFound":
		e.Kind = ErrNotFound
	case "InvalidAccessKeyId", "InvalidAccessKey":
		e.Kind, e.Hint = ErrAccess, "the server does not know this access key: check "+l.keyNames
	case "SignatureDoesNotMatch":
		e.Kind, e.Hint = ErrAccess, "the secret key is wrong: check "+l.keyNames
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		e.Kind, e.Hint = ErrAccess, "the session token is no longer valid"
	case "RequestTimeTooSkewed":
		e.Kind, e.Hint = ErrAccess, "the clocks of this machine and the server differ"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		e.Kind, e.Hint = ErrAccess, "the bucket may be in another region: check ?region="
	case "AccessDenied":
		e.Kind, e.Hint = l.byStatus(op, http.StatusForbidden, err)
		e.folderRace = true
	case "ExistingObjectIsDirectory":
		e.Hint, e.folderRace = "a key must not also be the folder of another key", true
	case "PreconditionFailed":
		e.Kind = ErrExists
	case "InvalidRange":
		e.Kind = ErrShortBody
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch":
		e.Kind = ErrChecksum
	case "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "InvalidResponse", "XMinioServerNotInitialized":
		e.Kind = ErrUnavailable
	default:
		e.Kind, e.Hint = l.byStatus(op, status, err)
	}
	return e
}

func (l *location) byStatus(op string, status int, err error) (kind error, hint string) {
	switch {
	case status == http.StatusNotFound:
		return ErrNotFound, ""
	case status == http.StatusPreconditionFailed:
		return ErrExists, ""
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrAccess, "these credentials may not " + op + " here: check the bucket's policy and " + l.keyNames
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		return ErrAccess, "the bucket may be in another region: check ?region="
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrShortBody, ""
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests, status >= 500:
		return ErrUnavailable, ""
	case status != 0:
		return nil, ""
	}
	return ErrUnavailable, l.networkHint(err)
}

// networkHint explains why no answer came.
func (l *location) networkHint(err error) string {
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at " + l.address
	case errors.As(err, &dns):
		return "the host name does not resolve"
	case errors.As(err, &unknown), errors.As(err, &host):
		return "the server's certificate is not trusted here"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS: use http:// or ?secure=false"
	}
	return "no answer from " + l.address
}
