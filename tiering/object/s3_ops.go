package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	abortTimeout = 10 * time.Second
	deleteBatch  = 1000 // S3's limit of one DeleteObjects
)

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
		err := s.try(ctx, request{op: "delete", key: keys[0], patience: ofRequests}, func(ctx context.Context) error {
			_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.prefix + keys[0])})
			return err
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
func (s *s3Store) deleteSome(ctx context.Context, keys []string) []error {
	var opts []func(*s3.Options)
	if !s.checksums {
		opts = append(opts, contentMD5)
	}
	var errs []error
	err := s.try(ctx, request{op: "delete", key: fmt.Sprintf("%s and %d more", keys[0], len(keys)-1), patience: ofRequests}, func(ctx context.Context) error {
		ids := make([]types.ObjectIdentifier, len(keys))
		for i, key := range keys {
			ids[i].Key = aws.String(s.prefix + key)
		}
		out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}}, opts...)
		if err != nil {
			return err
		}
		errs = nil
		var again error
		for _, e := range out.Errors {
			if code := aws.ToString(e.Code); code != "NoSuchKey" {
				key := strings.TrimPrefix(aws.ToString(e.Key), s.prefix)
				err := s.failCode("delete", key, 0, code, errors.New(aws.ToString(e.Message)))
				if Retriable(err) && again == nil {
					keys, again = nil, err
				}
				if Retriable(err) {
					keys = append(keys, key)
				}
				errs = append(errs, err)
			}
		}
		return again
	})
	if err != nil && len(errs) == 0 {
		errs = []error{err}
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
			var page *s3.ListObjectsV2Output
			err := s.try(ctx, request{op: "list", key: prefix, patience: ofRequests}, func(ctx context.Context) (err error) {
				page, err = pages.NextPage(ctx)
				return err
			})
			if err != nil {
				yield(Info{}, err)
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
