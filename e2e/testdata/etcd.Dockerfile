# etcd for tests: the static binary, where etcd's own images have it.
FROM scratch
COPY etcd /usr/local/bin/etcd
ENV PATH=/usr/local/bin
