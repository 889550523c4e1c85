package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// minioStore speaks S3 with minio-go.
type minioStore struct {
	location
	client    *minio.Client
	core      minio.Core
	closeIdle func()
	checksums bool
}

func openMinIO(u *url.URL, o Options) (Store, error) {
	if err := knownParams(u, "secure", "region", "checksum"); err != nil {
		return nil, err
	}
	if u.Host == "" {
		return nil, fmt.Errorf("want minio://host:port/bucket: %w", ErrInvalid)
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	loc, err := bucketLocation(bucket, prefix)
	if err != nil {
		return nil, err
	}
	secure, err := boolParam(u, "secure", !loopback(u.Hostname()))
	if err != nil {
		return nil, err
	}
	checksums, err := sendChecksums(u)
	if err != nil {
		return nil, err
	}
	httpClient, closeIdle := newHTTPClient()
	client, err := minio.New(u.Host, &minio.Options{
		Creds:           minioCredentials(o.Credentials),
		Secure:          secure,
		Region:          u.Query().Get("region"),
		BucketLookup:    minio.BucketLookupAuto,
		Transport:       httpClient.Transport,
		TrailingHeaders: checksums,
		MaxRetries:      maxAttempts,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	loc.address = client.EndpointURL().String()
	loc.keyNames = "MINIO_ROOT_USER and MINIO_ROOT_PASSWORD (or MINIO_ACCESS_KEY and MINIO_SECRET_KEY)"
	return &minioStore{location: loc, client: client, core: minio.Core{Client: client}, closeIdle: closeIdle, checksums: checksums}, nil
}

// loopback tells hosts to which plain HTTP never leaves the machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// minioCredentials searches MinIO's variables, Amazon's, and both clients' files.
func minioCredentials(c *Credentials) *credentials.Credentials {
	if c != nil {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken)
	}
	return credentials.New(&found{credentials.Chain{Providers: []credentials.Provider{
		&credentials.EnvMinio{},
		&credentials.EnvAWS{},
		&credentials.FileMinioClient{},
		&credentials.FileAWSCredentials{},
	}}})
}

// found refuses the anonymous access that an empty chain falls back to.
type found struct{ credentials.Chain }

func (f *found) Retrieve() (credentials.Value, error) { return f.refuse(f.Chain.Retrieve()) }

func (f *found) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	return f.refuse(f.Chain.RetrieveWithCredContext(cc))
}

func (f *found) refuse(v credentials.Value, err error) (credentials.Value, error) {
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New("none of the variables and files holds credentials")
	}
	if err != nil {
		return v, &noCredentialsError{err}
	}
	return v, nil
}

// Put implements Store.
func (s *minioStore) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	if err := s.checkKey(key); err != nil {
		return Info{}, s.fail("put", key, err)
	}
	size := body.Size()
	single := size <= singlePutBytes
	if !single && o.IfAbsent {
		if err := absent(ctx, s, key); err != nil {
			return Info{}, s.fail("put", key, err)
		}
	}
	// The parts of a large object carry sums of their own; the whole is compared here.
	sum, err := bodySum(body, o, s.checksums && single)
	if err != nil {
		return Info{}, s.fail("put", key, err)
	}
	po := minio.PutObjectOptions{
		DisableContentSha256: true, // as in unsignedPayload
		PartSize:             singlePutBytes,
		NumThreads:           partWorkers,
	}
	if o.IfAbsent {
		po.SetMatchETagExcept("*")
	}
	switch {
	case s.checksums && single:
		po.UserMetadata = map[string]string{"x-amz-checksum-crc32c": encodeCRC(sum)}
	case s.checksums:
		po.AutoChecksum = minio.ChecksumFullObjectCRC32C
	}
	up, err := putRetrying(ctx, &s.location, key, func() (minio.UploadInfo, error) {
		return s.client.PutObject(ctx, s.bucket, s.prefix+key, io.NewSectionReader(newSource(body, o), 0, size), size, po)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: size, CRC32C: sum, HasCRC: true, Modified: time.Now(), ETag: up.ETag}, nil
}

// Get implements Store.
func (s *minioStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.checkKey(key); err != nil {
		return nil, s.fail("get", key, err)
	}
	if n == 0 {
		return emptyBody{}, nil
	}
	var gopts minio.GetObjectOptions
	if r := httpRange(off, n); r != "" {
		gopts.Set("Range", r)
	}
	// Core's body is the connection's; Client.GetObject would copy through a goroutine.
	body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, gopts)
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	return s.rangeBody(ctx, key, off, n, body, info.Size)
}

// Head implements Store.
func (s *minioStore) Head(ctx context.Context, key string) (Info, error) {
	if err := s.checkKey(key); err != nil {
		return Info{}, s.fail("head", key, err)
	}
	out, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{Checksum: s.checksums})
	if err != nil {
		return Info{}, s.fail("head", key, err)
	}
	info := Info{Key: key, Size: out.Size, Modified: out.LastModified, ETag: out.ETag}
	if out.ChecksumMode != minio.ChecksumCompositeMode.String() {
		info.CRC32C, info.HasCRC = decodeCRC(out.ChecksumCRC32C)
	}
	return info, nil
}

// Delete implements Store.
func (s *minioStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := s.checkKey(key); err != nil {
			return s.fail("delete", key, err)
		}
	}
	if len(keys) == 1 {
		err := s.client.RemoveObject(ctx, s.bucket, s.prefix+keys[0], minio.RemoveObjectOptions{})
		if err = s.fail("delete", keys[0], err); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return nil
	}
	results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: s.prefix + key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return s.fail("delete", fmt.Sprintf("%d keys", len(keys)), err)
	}
	var errs []error
	for r := range results {
		err := s.fail("delete", strings.TrimPrefix(r.ObjectName, s.prefix), r.Err)
		if err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if err := ctx.Err(); err != nil { // the iterator just stops
		errs = append(errs, s.fail("delete", keys[0], err))
	}
	return errors.Join(errs...)
}

// List implements Store.
func (s *minioStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		lo := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
		if after != "" {
			lo.StartAfter = s.prefix + after
		}
		for obj := range s.client.ListObjectsIter(ctx, s.bucket, lo) {
			if obj.Err != nil {
				yield(Info{}, s.fail("list", prefix, obj.Err))
				return
			}
			if !yield(Info{Key: strings.TrimPrefix(obj.Key, s.prefix), Size: obj.Size, Modified: obj.LastModified, ETag: obj.ETag}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // the iterator just stops
			yield(Info{}, s.fail("list", prefix, err))
		}
	}
}

// Close implements Store.
func (s *minioStore) Close() error {
	s.closeIdle()
	return nil
}
