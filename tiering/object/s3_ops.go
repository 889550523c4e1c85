package object

import (
	"context"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const abortTimeout = 10 * time.Second

// Put implements Store.
func (s *s3Store) Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error) {
	return s.put(ctx, s, key, body, o)
}

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return s.get(ctx, key, off, n, s.Head, func(ctx context.Context, httpRange string) (io.ReadCloser, int64, error) {
		in := &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)}
		if httpRange != "" {
			in.Range = &httpRange
		}
		out, err := s.client.GetObject(ctx, in)
		if err != nil {
			return nil, 0, err
		}
		return out.Body, aws.ToInt64(out.ContentLength), nil
	})
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
	var out *s3.HeadObjectOutput
	err := s.try(ctx, request{op: "head", key: key, patience: ofRequests}, func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, in)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	if out.ContentLength == nil {
		return Info{}, s.fail("head", key, noSize)
	}
	info := Info{Key: key, Size: *out.ContentLength, Modified: known(aws.ToTime(out.LastModified)), ETag: etagOf(out.ETag)}
	if out.ChecksumType != types.ChecksumTypeComposite { // a sum of sums says nothing about the bytes
		info.CRC32C, info.HasCRC = decodeCRC(aws.ToString(out.ChecksumCRC32C))
	}
	return info, nil
}

// Delete implements Store.
func (s *s3Store) Delete(ctx context.Context, keys ...string) error { return s.delete(ctx, s, keys) }

func (s *s3Store) deleteOne(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)})
	return err
}

func (s *s3Store) deleteMany(ctx context.Context, keys []string) (map[string]error, error) {
	var opts []func(*s3.Options)
	if !s.checksums {
		opts = append(opts, contentMD5)
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		ids[i].Key = aws.String(s.prefix + key)
	}
	// Not quiet: silence would be taken for success, also that of a server that did something else.
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: ids}}, opts...)
	if err != nil {
		return nil, err
	}
	said := make(map[string]error, len(keys))
	for _, gone := range out.Deleted {
		said[strings.TrimPrefix(aws.ToString(gone.Key), s.prefix)] = nil
	}
	for _, e := range out.Errors {
		key := strings.TrimPrefix(aws.ToString(e.Key), s.prefix)
		code := aws.ToString(e.Code)
		said[key] = s.failCode("delete", key, 0, code, &answerError{code, aws.ToString(e.Message), nil})
	}
	return said, nil
}

// List implements Store.
func (s *s3Store) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return s.list(ctx, prefix, after, s.listPages)
}

// listPages gives the objects behind after, and returns after the last page.
func (s *s3Store) listPages(ctx context.Context, prefix, after string, give func(Info) error) error {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)}
	if after != "" {
		in.StartAfter = aws.String(s.prefix + after)
	}
	for last := in.StartAfter; ; {
		page, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return err
		}
		if page.Name == nil && page.IsTruncated == nil && page.KeyCount == nil {
			return notAList // an empty body, or another document, is not an empty bucket
		}
		for _, obj := range page.Contents {
			if err := give(Info{Key: aws.ToString(obj.Key), Size: aws.ToInt64(obj.Size), Modified: aws.ToTime(obj.LastModified), ETag: etagOf(obj.ETag)}); err != nil {
				return err
			}
			last = obj.Key
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if in.ContinuationToken = page.NextContinuationToken; aws.ToString(in.ContinuationToken) == "" {
			in.StartAfter = last // the store has no token for us
		}
	}
}

// Close implements Store.
func (s *s3Store) Close() error {
	s.closeIdle()
	return nil
}
