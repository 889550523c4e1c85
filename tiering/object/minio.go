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

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// minioStore speaks S3 with minio-go.
type minioStore struct {
	location
	client    *minio.Client
	core      minio.Core
	closeIdle func()
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
	creds := minioCredentials(o.Credentials)
	client, err := minio.New(u.Host, &minio.Options{
		Creds:        creds,
		Secure:       secure,
		Region:       u.Query().Get("region"),
		BucketLookup: minio.BucketLookupAuto,
		Transport:    httpClient.Transport,
		MaxRetries:   1, // try repeats
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	loc.address = client.EndpointURL().String()
	loc.keyNames = "MINIO_ROOT_USER and MINIO_ROOT_PASSWORD (or MINIO_ACCESS_KEY and MINIO_SECRET_KEY)"
	loc.checksums = checksums
	loc.creds.drop = creds.Expire
	return &minioStore{location: loc, client: client, core: minio.Core{Client: client}, closeIdle: closeIdle}, nil
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
	return s.put(ctx, s, key, body, o)
}

// Get implements Store.
func (s *minioStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return s.get(ctx, key, off, n, s.Head, func(ctx context.Context, httpRange string) (io.ReadCloser, int64, error) {
		var gopts minio.GetObjectOptions
		if httpRange != "" {
			gopts.Set("Range", httpRange)
		}
		// Core's body is the connection's; Client.GetObject would copy through a goroutine.
		body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, gopts)
		return body, info.Size, err
	})
}

// Head implements Store.
func (s *minioStore) Head(ctx context.Context, key string) (Info, error) {
	if err := s.checkKey(key); err != nil {
		return Info{}, s.fail("head", key, err)
	}
	var out minio.ObjectInfo
	err := s.try(ctx, request{op: "head", key: key, patience: ofRequests}, func(ctx context.Context) (err error) {
		out, err = s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{Checksum: s.checksums})
		return err
	})
	if err != nil {
		return Info{}, err
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
		err := s.try(ctx, request{op: "delete", key: keys[0], patience: ofRequests}, func(ctx context.Context) error {
			return s.client.RemoveObject(ctx, s.bucket, s.prefix+keys[0], minio.RemoveObjectOptions{})
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
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

// deleteSome deletes one batch; what failed of it for the moment is tried again.
func (s *minioStore) deleteSome(ctx context.Context, keys []string) []error {
	var errs []error
	err := s.try(ctx, request{op: "delete", key: fmt.Sprintf("%s and %d more", keys[0], len(keys)-1), patience: ofRequests}, func(ctx context.Context) error {
		results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, func(yield func(minio.ObjectInfo) bool) {
			for _, key := range keys {
				if !yield(minio.ObjectInfo{Key: s.prefix + key}) {
					return
				}
			}
		}, minio.RemoveObjectsOptions{})
		if err != nil {
			return err
		}
		errs = nil
		var again error
		var rest []string
		for r := range results {
			key := strings.TrimPrefix(r.ObjectName, s.prefix)
			err := s.fail("delete", key, r.Err)
			if err == nil || errors.Is(err, ErrNotFound) {
				continue
			}
			errs = append(errs, err)
			if Retriable(err) {
				again, rest = err, append(rest, key)
			}
		}
		if err := ctx.Err(); err != nil { // the iterator just stops
			return err
		}
		if len(rest) > 0 {
			keys = rest
		}
		return again
	})
	if err != nil && len(errs) == 0 {
		errs = []error{err}
	}
	return errs
}

// List implements Store. The library turns the pages; after a failure the list goes on behind the
// last name.
func (s *minioStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		stopped := false
		err := s.try(ctx, request{op: "list", key: prefix, patience: ofRequests}, func(ctx context.Context) error {
			lo := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
			if after != "" {
				lo.StartAfter = s.prefix + after
			}
			for obj := range s.client.ListObjectsIter(ctx, s.bucket, lo) {
				if obj.Err != nil {
					return obj.Err
				}
				after = strings.TrimPrefix(obj.Key, s.prefix)
				if stopped = !yield(Info{Key: after, Size: obj.Size, Modified: obj.LastModified, ETag: obj.ETag}, nil); stopped {
					return nil
				}
			}
			return ctx.Err() // the iterator just stops
		})
		if err != nil && !stopped {
			yield(Info{}, err)
		}
	}
}

// Close implements Store.
func (s *minioStore) Close() error {
	s.closeIdle()
	return nil
}
