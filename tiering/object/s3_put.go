package object

import (
	"context"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

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

// contentMD5 replaces the checksum that the SDK insists on by the header that S3 had before, for
// stores that know no other.
func contentMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		for _, remove := range []func() error{
			func() error { _, err := stack.Initialize.Remove("AWSChecksum:SetupInputContext"); return err },
			func() error { _, err := stack.Finalize.Remove("AWSChecksum:ComputeInputPayloadChecksum"); return err },
		} {
			if err := remove(); err != nil {
				return err
			}
		}
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}

func etagOf(s *string) string { return strings.Trim(aws.ToString(s), `"`) }

// optionalCRC is a checksum header, or none.
func (s *s3Store) optionalCRC(sum uint32) *string {
	if !s.checksums {
		return nil
	}
	return aws.String(encodeCRC(sum))
}

func ifNoneMatch(ifAbsent bool) *string {
	if !ifAbsent {
		return nil
	}
	return aws.String("*")
}

func (s *s3Store) sendObject(ctx context.Context, key string, body *io.SectionReader, sum uint32, ifAbsent bool) (stored, error) {
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:         &s.bucket,
		Key:            aws.String(s.prefix + key),
		Body:           body,
		ContentLength:  aws.Int64(body.Size()),
		IfNoneMatch:    ifNoneMatch(ifAbsent),
		ChecksumCRC32C: s.optionalCRC(sum),
	}, unsignedPayload)
	if err != nil {
		return stored{}, err
	}
	return stored{etagOf(out.ETag), aws.ToString(out.ChecksumCRC32C)}, nil
}

func (s *s3Store) beginParts(ctx context.Context, key string) (string, error) {
	in := &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: aws.String(s.prefix + key)}
	if s.checksums {
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject
	}
	out, err := s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.UploadId), nil
}

func (s *s3Store) sendPart(ctx context.Context, u Upload, p part, body *partBody) (stored, error) {
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket:         &s.bucket,
		Key:            aws.String(s.prefix + u.Key),
		UploadId:       &u.ID,
		PartNumber:     &p.number,
		Body:           body,
		ContentLength:  &p.size,
		ChecksumCRC32C: s.optionalCRC(p.sum),
	}, unsignedPayload)
	if err != nil {
		return stored{}, err
	}
	return stored{etagOf(out.ETag), aws.ToString(out.ChecksumCRC32C)}, nil
}

func (s *s3Store) joinParts(ctx context.Context, u Upload, parts []part, sum uint32, ifAbsent bool) (stored, error) {
	done := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		done[i] = types.CompletedPart{ETag: aws.String(`"` + p.etag + `"`), PartNumber: aws.Int32(p.number), ChecksumCRC32C: s.optionalCRC(p.sum)}
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket:          &s.bucket,
		Key:             aws.String(s.prefix + u.Key),
		UploadId:        &u.ID,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
		IfNoneMatch:     ifNoneMatch(ifAbsent),
		ChecksumCRC32C:  s.optionalCRC(sum),
	}
	if s.checksums {
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	out, err := s.client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return stored{}, err
	}
	return stored{etagOf(out.ETag), aws.ToString(out.ChecksumCRC32C)}, nil
}
