package object

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
)

// Upload is a multipart upload that was begun and neither completed nor aborted. It takes space that no List shows.
type Upload struct {
	Key       string
	ID        string
	Initiated time.Time // by the store's clock
}

// Stores other than Amazon's list multipart uploads below a whole object name or all of the bucket, not below a
// folder; there are never many.
func listedBelow(amazon bool, prefix string) string {
	if amazon {
		return prefix
	}
	return ""
}

// Uploads implements Store.
func (s *s3Store) Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		whole := s.prefix + prefix
		ctx := context.WithValue(ctx, turnsKey{}, new(atomic.Int32))
		pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{
			Bucket: &s.bucket, Prefix: aws.String(listedBelow(s.client.Options().BaseEndpoint == nil, whole)),
		})
		for pages.HasMorePages() {
			var page *s3.ListMultipartUploadsOutput
			err := s.try(ctx, request{op: "list uploads", key: prefix, patience: ofRequests}, func(ctx context.Context) (err error) {
				page, err = pages.NextPage(ctx)
				return err
			})
			if errors.Is(err, ErrUnsupported) {
				return
			}
			if err != nil {
				yield(Upload{}, err)
				return
			}
			for _, u := range page.Uploads {
				if key := aws.ToString(u.Key); strings.HasPrefix(key, whole) {
					if !yield(Upload{Key: key[len(s.prefix):], ID: aws.ToString(u.UploadId), Initiated: known(aws.ToTime(u.Initiated))}, nil) {
						return
					}
				}
			}
		}
	}
}

// Abort implements Store.
func (s *s3Store) Abort(ctx context.Context, u Upload) error {
	return aborted(s.try(ctx, request{op: "abort", key: u.Key, patience: ofRequests}, func(ctx context.Context) error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
			Bucket: &s.bucket, Key: aws.String(s.prefix + u.Key), UploadId: aws.String(u.ID),
		})
		return err
	}))
}

// aborted takes an upload that is gone for one that was aborted.
func aborted(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Uploads implements Store.
func (s *minioStore) Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		whole := s.prefix + prefix
		ctx := context.WithValue(ctx, turnsKey{}, new(atomic.Int32))
		amazon := strings.HasSuffix(s.client.EndpointURL().Hostname(), ".amazonaws.com")
		for keyMarker, idMarker := "", ""; ; {
			var page minio.ListMultipartUploadsResult
			err := s.try(ctx, request{op: "list uploads", key: prefix, patience: ofRequests}, func(ctx context.Context) (err error) {
				page, err = s.core.ListMultipartUploads(ctx, s.bucket, listedBelow(amazon, whole), keyMarker, idMarker, "", 1000)
				return err
			})
			if errors.Is(err, ErrUnsupported) {
				return
			}
			if err != nil {
				yield(Upload{}, err)
				return
			}
			for _, u := range page.Uploads {
				if strings.HasPrefix(u.Key, whole) && !yield(Upload{Key: u.Key[len(s.prefix):], ID: u.UploadID, Initiated: known(u.Initiated)}, nil) {
					return
				}
			}
			if !page.IsTruncated || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
				return
			}
			keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
}

// Abort implements Store.
func (s *minioStore) Abort(ctx context.Context, u Upload) error {
	return aborted(s.try(ctx, request{op: "abort", key: u.Key, patience: ofRequests}, func(ctx context.Context) error {
		return s.core.AbortMultipartUpload(ctx, s.bucket, s.prefix+u.Key, u.ID)
	}))
}

// noUploads is for stores whose objects come in one piece.
func noUploads(func(Upload, error) bool) {}

// Uploads implements Store: a Put that was broken off leaves a file that the next start removes.
func (d *Dir) Uploads(context.Context, string) iter.Seq2[Upload, error] { return noUploads }

// Abort implements Store.
func (d *Dir) Abort(context.Context, Upload) error { return nil }

// Uploads implements Store.
func (m *Mem) Uploads(context.Context, string) iter.Seq2[Upload, error] { return noUploads }

// Abort implements Store.
func (m *Mem) Abort(context.Context, Upload) error { return nil }
