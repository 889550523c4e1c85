package object

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// s3Store speaks S3 with aws-sdk-go-v2.
type s3Store struct {
	location
	client    *s3.Client
	closeIdle func()
}

func openS3(ctx context.Context, u *url.URL, o Options) (Store, error) {
	if err := knownParams(u, "region", "endpoint", "path_style", "checksum"); err != nil {
		return nil, err
	}
	loc, err := bucketLocation(u.Host, u.Path)
	if err != nil {
		return nil, err
	}
	endpoint, err := endpointURL(u.Query().Get("endpoint"))
	if err != nil {
		return nil, err
	}
	// Servers other than Amazon's rarely have a name for each bucket.
	pathStyle, err := boolParam(u, "path_style", endpoint != "")
	if err != nil {
		return nil, err
	}
	checksums, err := sendChecksums(u)
	if err != nil {
		return nil, err
	}
	roots, err := bundledRoots()
	if err != nil {
		return nil, err
	}
	cfg, found, err := awsConfig(ctx, u.Query().Get("region"), o.Credentials, o.Logger)
	if err != nil {
		return nil, err
	}
	if roots == nil {
		roots = rootsOf(cfg)
	}
	httpClient, closeIdle := newHTTPClient(roots)
	client := s3.NewFromConfig(cfg, func(so *s3.Options) {
		so.HTTPClient = httpClient
		so.UsePathStyle = pathStyle
		if endpoint != "" {
			so.BaseEndpoint = aws.String(endpoint)
		}
		if so.Region == "" && so.BaseEndpoint != nil {
			so.Region = "us-east-1" // what MinIO and its like expect
		}
		s3Behaviour(so, o.Logger)
	})
	opts := client.Options()
	if opts.Region == "" {
		return nil, fmt.Errorf("no region: add ?region= or set AWS_REGION: %w", ErrInvalid)
	}
	loc.address = "Amazon S3 " + opts.Region
	if opts.BaseEndpoint != nil {
		loc.address = *opts.BaseEndpoint
	}
	loc.keyNames = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	loc.checksums, loc.learnsTime = checksums, true
	loc.creds.drop = found.Invalidate
	return &s3Store{location: loc, client: client, closeIdle: closeIdle}, nil
}

// s3Behaviour sets what does not depend on the URL.
func s3Behaviour(so *s3.Options, log *slog.Logger) {
	so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired // we send CRC32C ourselves
	so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // readers verify what they read
	so.Retryer = aws.NopRetryer{}                                              // try repeats
	so.Logger = sdkLogger(log)
}

// sdkLogger keeps the SDK from writing to standard error itself.
func sdkLogger(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(c logging.Classification, format string, v ...any) {
		say := log.Debug
		if c == logging.Warn {
			say = log.Warn
		}
		say("message of the S3 client", "err", fmt.Sprintf(format, v...))
	})
}

// endpointURL completes host:port to a URL.
func endpointURL(endpoint string) (string, error) {
	if endpoint == "" {
		return "", nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("parameter endpoint=%q: want http://host:port or https://host:port: %w", endpoint, ErrInvalid)
	}
	return endpoint, nil
}
