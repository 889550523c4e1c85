package object

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// renewal drops credentials that a store no longer takes, so that the next request searches again.
type renewal struct {
	drop func()
	n    atomic.Int64
}

// generation counts how often the credentials were dropped.
func (r *renewal) generation() int64 { return r.n.Load() }

// renew drops the credentials that were in use at the generation, once for all requests that failed
// with them.
func (r *renewal) renew(generation int64) bool {
	if r.drop == nil {
		return false
	}
	if r.n.CompareAndSwap(generation, generation+1) {
		r.drop()
	}
	return true
}

// awsConfig finds the region and the credentials, as the AWS tools do. The credentials are searched
// for again when they expire or were dropped: files may hold others by then, which the SDK alone
// would not look at.
func awsConfig(ctx context.Context, region string, c *Credentials, log *slog.Logger) (aws.Config, *aws.CredentialsCache, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithLogger(sdkLogger(log)),                   // the search for credentials has things to say
		config.WithHTTPClient(awshttp.NewBuildableClient()), // one for all searches
	}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	if c != nil {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	found := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		creds, err := searchCredentials(ctx, opts)
		if err != nil {
			return creds, &noCredentialsError{err}
		}
		return creds, nil
	}))
	cfg.Credentials = found
	return cfg, found, nil
}

func searchCredentials(ctx context.Context, opts []func(*config.LoadOptions) error) (aws.Credentials, error) {
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Credentials{}, err
	}
	return cfg.Credentials.Retrieve(ctx)
}

// noCredentialsError marks a search for credentials that found none.
type noCredentialsError struct{ err error }

func (e *noCredentialsError) Error() string { return e.err.Error() }
func (e *noCredentialsError) Unwrap() error { return e.err }

// bundleVariable names a file of certificates that count instead of the system's, as for the AWS tools. SSL_CERT_FILE
// replaces the system's file for all of the program; Go looks at it.
const bundleVariable = "AWS_CA_BUNDLE"

// bundledRoots are the authorities in that file, nil without one.
func bundledRoots() (*x509.CertPool, error) {
	file := os.Getenv(bundleVariable)
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bundleVariable, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: no certificate in PEM in %s: %w", bundleVariable, file, ErrInvalid)
	}
	return pool, nil
}

// rootsOf are the authorities that the AWS configuration names, as ca_bundle in its file.
func rootsOf(cfg aws.Config) *x509.CertPool {
	c, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil
	}
	if t := c.GetTransport().TLSClientConfig; t != nil {
		return t.RootCAs
	}
	return nil
}
