package object

import (
	"context"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
)

const (
	crcHeader       = "X-Amz-Checksum-Crc32c"
	crcTypeHeader   = "X-Amz-Checksum-Type"
	crcAlgorithm    = "X-Amz-Checksum-Algorithm"
	crcOfTheWhole   = "FULL_OBJECT"
	crcAlgorithmOur = "CRC32C"
)

// putOptions sends headers as they are: the library would send sums of its own, in trailers.
func (s *minioStore) putOptions(ifAbsent bool, headers map[string]string) minio.PutObjectOptions {
	o := minio.PutObjectOptions{DisableContentSha256: true} // as in unsignedPayload
	if ifAbsent {
		o.SetMatchETagExcept("*")
	}
	if s.checksums {
		o.UserMetadata = headers
	}
	return o
}

func (s *minioStore) sendObject(ctx context.Context, key string, body *io.SectionReader, sum uint32, ifAbsent bool) (stored, error) {
	o := s.putOptions(ifAbsent, map[string]string{crcHeader: encodeCRC(sum)})
	up, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, body, body.Size(), "", "", o)
	return stored{up.ETag, up.ChecksumCRC32C}, err
}

func (s *minioStore) beginParts(ctx context.Context, key string) (string, error) {
	o := s.putOptions(false, map[string]string{crcAlgorithm: crcAlgorithmOur, crcTypeHeader: crcOfTheWhole})
	return s.core.NewMultipartUpload(ctx, s.bucket, s.prefix+key, o)
}

func (s *minioStore) sendPart(ctx context.Context, u Upload, p part, body *partBody) (stored, error) {
	o := minio.PutObjectPartOptions{DisableContentSha256: true}
	if s.checksums {
		o.CustomHeader = http.Header{crcHeader: {encodeCRC(p.sum)}}
	}
	done, err := s.core.PutObjectPart(ctx, s.bucket, s.prefix+u.Key, u.ID, int(p.number), body, p.size, o)
	return stored{done.ETag, done.ChecksumCRC32C}, err
}

func (s *minioStore) joinParts(ctx context.Context, u Upload, parts []part, sum uint32, ifAbsent bool) (stored, error) {
	done := make([]minio.CompletePart, len(parts))
	for i, p := range parts {
		done[i] = minio.CompletePart{PartNumber: int(p.number), ETag: p.etag}
		if s.checksums {
			done[i].ChecksumCRC32C = encodeCRC(p.sum)
		}
	}
	o := s.putOptions(ifAbsent, map[string]string{crcHeader: encodeCRC(sum), crcTypeHeader: crcOfTheWhole})
	up, err := s.core.CompleteMultipartUpload(ctx, s.bucket, s.prefix+u.Key, u.ID, done, o)
	return stored{up.ETag, up.ChecksumCRC32C}, err
}
