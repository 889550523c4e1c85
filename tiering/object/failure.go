package object

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/minio-go/v7"
)

// fail turns what either client library returned into an *Error, and nil into nil.
func (l *location) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var (
		done  *Error
		none  *noCredentialsError
		body  *bodyError
		wrong *fault
		api   smithy.APIError
		mresp minio.ErrorResponse
	)
	switch {
	case errors.As(err, &done):
		return err
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrTooLarge), errors.Is(err, ErrChecksum), errors.Is(err, ErrExists),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Op: op, Key: key, Store: l.String(), Err: err}
	case errors.As(err, &body):
		return &Error{Op: op, Key: key, Store: l.String(), Err: body}
	case errors.As(err, &none):
		return l.noCredentials(op, key, none)
	case errors.As(err, &wrong):
		return &Error{Op: op, Key: key, Store: l.String(), Kind: wrong.kind, Hint: wrong.hint, Err: wrong, again: wrong.again}
	}
	status, code := answerStatus(err), answerCode(err)
	switch {
	case errors.As(err, &mresp):
		err = &answerError{code, mresp.Message, err}
	case errors.As(err, &api):
		err = &answerError{code, api.ErrorMessage(), err}
	}
	return l.failCode(op, key, status, code, err)
}

// noCredentials tells a search that found nothing from a service of credentials that is away.
func (l *location) noCredentials(op, key string, none *noCredentialsError) error {
	e := &Error{Op: op, Key: key, Store: l.String(), Kind: ErrAccess, Hint: "no credentials: set " + l.keyNames, Err: errors.New("no credentials found")}
	var asked *smithy.OperationError
	if errors.As(none, &asked) && asked.ServiceID != "ec2imds" { // which is away wherever it does not exist
		e.Hint, e.Err = "the credentials could not be renewed", none.err
		if status := answerStatus(none); status == 0 || status == http.StatusTooManyRequests || status >= 500 {
			e.Kind, e.again = ErrUnavailable, slowly
		}
	}
	return e
}

// answerStatus is the HTTP status that a client library's error tells of, or 0.
func answerStatus(err error) int {
	var resp *smithyhttp.ResponseError
	var mresp minio.ErrorResponse
	switch {
	case errors.As(err, &mresp):
		return mresp.StatusCode
	case errors.As(err, &resp):
		return resp.HTTPStatusCode()
	}
	return 0
}

// answerCode is S3's code of the error, or empty.
func answerCode(err error) string {
	var api smithy.APIError
	var mresp minio.ErrorResponse
	switch {
	case errors.As(err, &mresp):
		return mresp.Code
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return ""
}

// answerError makes one form of what the libraries say: the SDK's message repeats operation, status
// and request ids, minio-go's leaves the code out.
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

// failCode maps an HTTP status (0 = none) and S3 error code to a sentinel, a hint, and whether the
// request is worth repeating.
func (l *location) failCode(op, key string, status int, code string, err error) error {
	e := &Error{Op: op, Key: key, Store: l.String(), Err: err}
	switch code {
	case "NoSuchBucket":
		e.Kind, e.Hint = ErrNoBucket, "create the bucket first, or correct its name"
	case "NoSuchKey", "NotFound":
		e.Kind = ErrNotFound
	case "NoSuchUpload", "InvalidPart":
		// To a Put: somebody gave its upload up, or the store lost a part. A new upload may do.
		if e.Kind = ErrNotFound; op == "put" {
			e.Kind = ErrUnavailable
		}
	case "InvalidObjectState":
		e.Kind, e.Hint = ErrArchived, "restore the object, and keep the lifecycle rules of the bucket from archiving below its prefix"
	case "InvalidAccessKeyId", "InvalidAccessKey":
		e.Kind, e.Hint, e.again = ErrAccess, "the server does not know this access key: check "+l.keyNames, renewed
	case "SignatureDoesNotMatch":
		e.Kind, e.Hint = ErrAccess, "the secret key is wrong: check "+l.keyNames
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidTokenId", "TokenRefreshRequired":
		e.Kind, e.Hint, e.again = ErrAccess, "the session token is no longer valid", renewed
	case "RequestTimeTooSkewed":
		e.Kind, e.Hint, e.again = ErrAccess, "the clocks of this machine and the server differ", clocked
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		e.Kind, e.Hint, e.redirected = ErrAccess, "the bucket may be in another region: check ?region=", true
	case "AccessDenied":
		e.Kind, e.Hint, _ = l.byStatus(op, http.StatusForbidden, err)
		if op == "put" { // see ExistingObjectIsDirectory
			e.again = folder
		}
	case "ExistingObjectIsDirectory":
		// Servers over a file system also say this (versitygw), or AccessDenied (MinIO), when another
		// request has just removed the folder that the object is going into.
		e.Hint, e.again = "a key must not also be the folder of another key", folder
	case "NotImplemented", "MethodNotAllowed":
		e.Kind = ErrUnsupported
	case "PreconditionFailed":
		e.Kind = ErrExists
	case "InvalidRange":
		e.Kind = ErrShortBody
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch":
		e.Kind, e.again = ErrChecksum, soon // on the way, perhaps
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequests":
		e.Kind, e.again = ErrUnavailable, slowly
	case "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "InternalError", "InvalidResponse", "XMinioServerNotInitialized":
		e.Kind, e.again = ErrUnavailable, soon
	default:
		if status == 0 && code != "" {
			break // a word about one object of many, which has no status: an answer, and no passing fault that we know
		}
		e.Kind, e.Hint, e.again = l.byStatus(op, status, err)
	}
	return e
}

func (l *location) byStatus(op string, status int, err error) (kind error, hint string, again repeat) {
	switch {
	case status == http.StatusNotFound:
		return ErrNotFound, "", never
	case status == http.StatusPreconditionFailed:
		return ErrExists, "", never
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return ErrAccess, "these credentials may not " + op + " here: check the bucket's policy and " + l.keyNames, never
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		return ErrAccess, "the bucket may be in another region: check ?region=", never
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrShortBody, "", never
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return ErrUnavailable, "", slowly
	case status == http.StatusNotImplemented, status == http.StatusMethodNotAllowed:
		return ErrUnsupported, "", never
	case status == http.StatusProxyAuthRequired:
		return ErrAccess, "the proxy in between wants credentials: see HTTPS_PROXY", never
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status >= 500, status >= 200 && status < 300:
		return ErrUnavailable, "", soon // a good answer that could not be read is none
	case status != 0:
		return nil, "", never
	}
	hint, again = l.networkHint(err)
	return ErrUnavailable, hint, again
}

// networkHint explains why no answer came. What only an operator mends is not worth repeating at once.
func (l *location) networkHint(err error) (string, repeat) {
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at " + l.address, soon
	case errors.As(err, &dns):
		return "the host name does not resolve", soon
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return "the server's certificate is not trusted here: name a file of the authority's certificates in AWS_CA_BUNDLE or SSL_CERT_FILE", never
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the server does not speak TLS: use http:// or ?secure=false", never
	}
	return "no answer from " + l.address, soon
}
