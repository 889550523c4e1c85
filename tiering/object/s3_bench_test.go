package object_test

import (
	"bytes"
	"testing"

	"github.com/coldbrook/coldbrook/e2e/servers"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func benchStores(b *testing.B) map[string]object.Store {
	srv := servers.MinIO(b)
	srv.Bucket(b, "bench")
	stores := map[string]object.Store{}
	for name, rawURL := range map[string]string{"s3": srv.S3URL("bench"), "minio": srv.MinIOURL("bench"), "dir": "file://" + b.TempDir()} {
		s, err := object.Open(b.Context(), rawURL, object.Options{Credentials: &object.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close() })
		stores[name] = s
	}
	return stores
}

// One segment up: below and above the border to multipart uploads.
func BenchmarkPut(b *testing.B) {
	stores := benchStores(b)
	for _, name := range []string{"dir", "s3", "minio"} {
		for size, label := range map[int]string{16 << 20: "16MiB", 64 << 20: "64MiB"} {
			data := bytes.Repeat([]byte("coldbrook"), size/9)
			o := object.PutOptions{CRC32C: castagnoli(data), HasCRC: true}
			b.Run(name+"/"+label, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := stores[name].Put(b.Context(), "k", object.Bytes(data), o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// One chunk down into a buffer that is there.
func BenchmarkReadFull(b *testing.B) {
	stores := benchStores(b)
	for _, name := range []string{"dir", "s3", "minio"} {
		b.Run(name, func(b *testing.B) {
			s := stores[name]
			if _, err := s.Put(b.Context(), "k", object.Bytes(make([]byte, 16<<20)), object.PutOptions{}); err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 4<<20)
			b.SetBytes(int64(len(dst)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := object.ReadFull(b.Context(), s, "k", 5<<20, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
