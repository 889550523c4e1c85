package object

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/semaphore"
)

const (
	// Up to here an object goes up in one streamed request, which needs no buffers.
	singlePutBytes = 16 << 20
	// The transfer manager copies parts into (partWorkers + 2) buffers of its own for each upload.
	partBytes   = 8 << 20
	partWorkers = 2
	// What bounds those buffers: how many multipart uploads of one store run at a time.
	largePuts = 2

	maxAttempts  = 3
	abortTimeout = 10 * time.Second
	deleteBatch  = 1000 // S3's limit of one DeleteObjects
)

// s3Store speaks S3 with aws-sdk-go-v2.
type s3Store struct {
	location
	client    *s3.Client
	transfer  *transfermanager.Client
	closeIdle func()
	large     *semaphore.Weighted
	checksums bool
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
	cfg, err := s3Config(ctx, u.Query().Get("region"), o.Credentials, o.Logger)
	if err != nil {
		return nil, err
	}
	httpClient, closeIdle := newHTTPClient()
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
	s := &s3Store{location: loc, client: client, closeIdle: closeIdle, checksums: checksums, large: semaphore.NewWeighted(largePuts)}
	s.transfer = transfermanager.New(partClient{client}, func(to *transfermanager.Options) {
		to.PartSizeBytes = partBytes
		to.MultipartUploadThreshold = partBytes // Put has decided already
		to.Concurrency = partWorkers
		to.FailTimeout = abortTimeout // the abort outlives a cancelled upload
		to.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	return s, nil
}

// s3Behaviour sets what does not depend on the URL.
func s3Behaviour(so *s3.Options, log *slog.Logger) {
	so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired // we send CRC32C ourselves
	so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // readers verify what they read
	so.Retryer = retry.NewStandard(func(ro *retry.StandardOptions) {
		ro.MaxAttempts = maxAttempts
		ro.MaxBackoff = 2 * time.Second
		ro.RateLimiter = ratelimit.None
	})
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

func s3Config(ctx context.Context, region string, c *Credentials, log *slog.Logger) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{config.WithLogger(sdkLogger(log))} // the search for credentials has things to say
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	if c != nil {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w", err)
	}
	if inner := cfg.Credentials; inner != nil {
		cfg.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			creds, err := inner.Retrieve(ctx)
			if err != nil {
				return creds, &noCredentialsError{err}
			}
			return creds, nil
		})
	}
	return cfg, nil
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

// unsignedPayload leaves the body out of the signature, as S3 clients do over TLS. The checksum
// header guards it; SHA-256 over each segment would cost more CPU than all the rest of an upload.
func unsignedPayload(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("ColdbrookUnsignedPayload",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, "UNSIGNED-PAYLOAD"), in)
			}), middleware.Before)
	})
}

// partClient is the client as the transfer manager uses it.
type partClient struct{ *s3.Client }

func (c partClient) UploadPart(ctx context.Context, in *s3.UploadPartInput, opts ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	return c.Client.UploadPart(ctx, in, append(opts, unsignedPayload)...)
}

// Put implements Store.
func (s *s3Store) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	if err := s.checkKey(key); err != nil {
		return Info{}, s.fail("put", key, err)
	}
	sum, err := bodySum(body, o, s.checksums)
	if err != nil {
		return Info{}, s.fail("put", key, err)
	}
	size, put := body.Size(), s.putSingle
	if size > singlePutBytes {
		put = s.putLarge
		if o.IfAbsent {
			if err := absent(ctx, s, key); err != nil {
				return Info{}, s.fail("put", key, err)
			}
		}
	}
	etag, err := putRetrying(ctx, &s.location, key, func() (string, error) {
		return put(ctx, key, newSource(body, o), o.IfAbsent, sum)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: size, CRC32C: sum, HasCRC: true, Modified: time.Now(), ETag: etag}, nil
}

// bodySum returns the body's checksum. It reads the body unless the caller vouches for the sum and
// the server will compare it.
func bodySum(body Body, o PutOptions, serverCompares bool) (uint32, error) {
	if o.HasCRC && serverCompares {
		return o.CRC32C, nil
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.NewSectionReader(source{Body: body}, 0, body.Size()))
	if err != nil {
		return 0, err
	}
	if n < body.Size() {
		return 0, shortBody(nil)
	}
	if o.HasCRC && h.Sum32() != o.CRC32C {
		return 0, ErrChecksum
	}
	return h.Sum32(), nil
}

func encodeCRC(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

func decodeCRC(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func (s *s3Store) putSingle(ctx context.Context, key string, body Body, ifAbsent bool, sum uint32) (string, error) {
	in := &s3.PutObjectInput{
		Bucket:        &s.bucket,
		Key:           aws.String(s.prefix + key),
		Body:          io.NewSectionReader(body, 0, body.Size()),
		ContentLength: aws.Int64(body.Size()),
	}
	if ifAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	if s.checksums {
		in.ChecksumCRC32C = aws.String(encodeCRC(sum))
	}
	out, err := s.client.PutObject(ctx, in, unsignedPayload)
	if err != nil {
		return "", err
	}
	return strings.Trim(aws.ToString(out.ETag), `"`), nil
}

func (s *s3Store) putLarge(ctx context.Context, key string, body Body, ifAbsent bool, sum uint32) (string, error) {
	if err := s.large.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer s.large.Release(1)
	in := &transfermanager.UploadObjectInput{
		Bucket: &s.bucket,
		Key:    aws.String(s.prefix + key),
		Body:   io.NewSectionReader(body, 0, body.Size()),
	}
	if ifAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	if s.checksums {
		in.ChecksumAlgorithm = tmtypes.ChecksumAlgorithmCrc32c
		in.ChecksumType = tmtypes.ChecksumTypeFullObject
		in.ChecksumCRC32C = aws.String(encodeCRC(sum))
	}
	out, err := s.transfer.UploadObject(ctx, in)
	if err != nil {
		return "", err
	}
	return strings.Trim(aws.ToString(out.ETag), `"`), nil
}

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.checkKey(key); err != nil {
		return nil, s.fail("get", key, err)
	}
	if n == 0 {
		return emptyBody{}, nil
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)}
	if r := httpRange(off, n); r != "" {
		in.Range = &r
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	return s.rangeBody(ctx, key, off, n, out.Body, aws.ToInt64(out.ContentLength))
}

// Head implements Store.
func (s *s3Store) Head(ctx context.Context, key string) (Info, error) {
	if err := s.checkKey(key); err != nil {
		return Info{}, s.fail("head", key, err)
	}
	in := &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)}
	if s.checksums {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	out, err := s.client.HeadObject(ctx, in)
	if err != nil {
		return Info{}, s.fail("head", key, err)
	}
	info := Info{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), ETag: strings.Trim(aws.ToString(out.ETag), `"`)}
	if out.ChecksumType != types.ChecksumTypeComposite { // a sum of sums says nothing about the bytes
		info.CRC32C, info.HasCRC = decodeCRC(aws.ToString(out.ChecksumCRC32C))
	}
	return info, nil
}

// Delete implements Store.
func (s *s3Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := s.checkKey(key); err != nil {
			return s.fail("delete", key, err)
		}
	}
	if len(keys) == 1 {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + keys[0])})
		if err = s.fail("delete", keys[0], err); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	}
	var errs []error
	for len(keys) > 0 {
		n := min(len(keys), deleteBatch)
		errs = append(errs, s.deleteSome(ctx, keys[:n])...)
		keys = keys[n:]
	}
	return errors.Join(errs...)
}

func (s *s3Store) deleteSome(ctx context.Context, keys []string) []error {
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		ids[i].Key = aws.String(s.prefix + key)
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
	if err != nil {
		return []error{s.fail("delete", fmt.Sprintf("%s and %d more", keys[0], len(keys)-1), err)}
	}
	var errs []error
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			errs = append(errs, s.failCode("delete", strings.TrimPrefix(aws.ToString(e.Key), s.prefix), 0, code, errors.New(aws.ToString(e.Message))))
		}
	}
	return errs
}

// List implements Store.
func (s *s3Store) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)}
		if after != "" {
			in.StartAfter = aws.String(s.prefix + after)
		}
		pages := s3.NewListObjectsV2Paginator(s.client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Info{}, s.fail("list", prefix, err))
				return
			}
			for _, obj := range page.Contents {
				info := Info{Key: strings.TrimPrefix(aws.ToString(obj.Key), s.prefix), Size: aws.ToInt64(obj.Size), Modified: aws.ToTime(obj.LastModified), ETag: strings.Trim(aws.ToString(obj.ETag), `"`)}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// Close implements Store.
func (s *s3Store) Close() error {
	s.closeIdle()
	return nil
}
