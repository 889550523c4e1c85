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
	roots, err := bundledRoots()
	if err != nil {
		return nil, err
	}
	httpClient, closeIdle := newHTTPClient(roots)
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
	if out.Size < 0 {
		return Info{}, s.fail("head", key, noSize)
	}
	info := Info{Key: key, Size: out.Size, Modified: known(out.LastModified), ETag: out.ETag}
	if out.ChecksumMode != minio.ChecksumCompositeMode.String() {
		info.CRC32C, info.HasCRC = decodeCRC(out.ChecksumCRC32C)
	}
	return info, nil
}

// Delete implements Store.
func (s *minioStore) Delete(ctx context.Context, keys ...string) error {
	return s.delete(ctx, s, keys)
}

func (s *minioStore) deleteOne(ctx context.Context, key string) error {
	return s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
}

func (s *minioStore) deleteMany(ctx context.Context, keys []string) (map[string]error, error) {
	results, err := s.client.RemoveObjectsWithIter(ctx, s.bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: s.prefix + key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return nil, err
	}
	said := make(map[string]error, len(keys))
	for r := range results {
		if r.ObjectName == "" {
			continue // the answer could not be read: it says nothing
		}
		key := strings.TrimPrefix(r.ObjectName, s.prefix)
		if r.Err != nil && (answerCode(r.Err) == "" || answerStatus(r.Err) != 0) {
			return nil, r.Err // of the request, which the library gives to each object
		}
		said[key] = s.fail("delete", key, r.Err)
	}
	return said, ctx.Err() // the iterator just stops
}

// List implements Store.
func (s *minioStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return s.list(ctx, prefix, after, s.listPages)
}

// listPages gives the objects behind after; the library turns the pages.
func (s *minioStore) listPages(ctx context.Context, prefix, after string, give func(Info) error) error {
	lo := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if after != "" {
		lo.StartAfter = s.prefix + after
	}
	for obj := range s.client.ListObjectsIter(ctx, s.bucket, lo) {
		if obj.Err != nil {
			return obj.Err
		}
		if err := give(Info{Key: obj.Key, Size: obj.Size, Modified: obj.LastModified, ETag: obj.ETag}); err != nil {
			return err
		}
	}
	return ctx.Err() // the iterator just stops
}

// Close implements Store.
func (s *minioStore) Close() error {
	s.closeIdle()
	return nil
}
