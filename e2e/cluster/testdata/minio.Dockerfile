# MinIO for tests: the static binary that `go install` builds, and a bucket.
FROM scratch
COPY minio /minio
WORKDIR /data/coldbrook
WORKDIR /
ENTRYPOINT ["/minio", "server", "--address", ":9000", "/data"]
