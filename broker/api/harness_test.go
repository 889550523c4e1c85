package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/coldbrook/coldbrook/broker"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/wire"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/kv"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const address = "broker-1:9092"

// cluster is one broker, all of it, over the four seams in memory.
type cluster struct {
	t       testing.TB
	network *wire.MemoryNetwork
	disk    *vfs.Mem
	kv      *kv.Mem
	objects *object.Mem
	log     lockedBuffer

	// Hooks may be nil; they are set before start.
	onDisk  func(vfs.Op) error
	onStore func(context.Context, object.Op) error
	onKV    kv.Hook

	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, network: wire.NewMemoryNetwork(), disk: vfs.NewMem(), kv: kv.NewMem(), objects: object.NewMem()}
}

// start runs the broker until the test ends.
func (c *cluster) start(settings map[string]string) *cluster {
	c.t.Helper()
	flags := map[string]string{
		"node.id": "1", "data.dir": "/data", "listeners": "PLAINTEXT://" + address, "http.listen": "", "remote.store.url": "file:///objects",
		"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "2", "log.retention.check.interval.ms": "1000",
		"remote.log.manager.task.interval.ms": "500",
	}
	maps.Copy(flags, settings)
	s, err := config.Load("", nil, flags)
	if err != nil {
		c.t.Fatal(err)
	}
	var fs vfs.FS = c.disk
	if c.onDisk != nil {
		fs = vfs.WithFaults(c.disk, c.onDisk)
	}
	var store object.Store = c.objects
	if c.onStore != nil {
		store = object.WithFaults(c.objects, c.onStore)
	}
	b, err := broker.New(broker.Options{
		Settings: s, Logger: slog.New(slog.NewTextHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
		FS: fs, KV: c.kv.Client(c.onKV), Objects: store,
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return c.network.Listen(addr) },
		Dial:   c.network.Dial,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	c.cancel, c.done = cancel, make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(c.done)
		c.err = b.Run(ctx, func(broker.Addresses) { close(ready) })
	}()
	select {
	case <-ready:
	case <-c.done:
		c.t.Fatalf("broker ended at start: %v\n%s", c.err, c.log.String())
	}
	c.t.Cleanup(c.stop)
	// The broker sees its own registration a moment after it made it.
	for k := c.dial(); len(do[*kmsg.MetadataResponse](k, at(kmsg.NewPtrMetadataRequest(), 9)).Brokers) == 0; {
	}
	return c
}

// stop ends the broker and looks for what must never happen.
func (c *cluster) stop() {
	c.cancel()
	<-c.done
	if strings.Contains(c.log.String(), "panic") {
		c.t.Errorf("a handler panicked:\n%s", c.log.String())
	}
}

// conn is a client that speaks frames.
type conn struct {
	t  testing.TB
	nc net.Conn
	id int32

	client string // id; empty: test
}

// dialAs is a dial with a client id.
func (c *cluster) dialAs(client string) *conn {
	c.t.Helper()
	k := c.dial()
	k.client = client
	return k
}

func (c *cluster) dial() *conn {
	c.t.Helper()
	nc, err := c.network.Dial(c.t.Context(), "tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	k := &conn{t: c.t, nc: nc}
	c.t.Cleanup(func() { _ = nc.Close() })
	return k
}

// send writes a request and does not wait.
func (k *conn) send(req kmsg.Request) {
	k.t.Helper()
	k.id++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(cmp.Or(k.client, "test"))).AppendRequest(nil, req, k.id)
	k.write(frame)
}

func (k *conn) write(frame []byte) {
	k.t.Helper()
	if _, err := k.nc.Write(frame); err != nil {
		k.t.Fatal(err)
	}
}

// frame reads one response frame without its length.
func (k *conn) frame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(k.nc, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(k.nc, b)
	return b, err
}

// receive reads the answer to a request.
func (k *conn) receive(req kmsg.Request) kmsg.Response {
	k.t.Helper()
	b, err := k.frame()
	if err != nil {
		k.t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	b = b[4:]
	if resp.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		k.t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp
}

// closed says whether the broker ended the connection without another answer.
func (k *conn) closed() bool {
	_, err := k.frame()
	return err != nil
}

// do sends a request and returns its answer.
func do[R kmsg.Response](k *conn, req kmsg.Request) R {
	k.t.Helper()
	k.send(req)
	return k.receive(req).(R)
}

// at gives a request its version.
func at[R kmsg.Request](req R, version int16) R {
	req.SetVersion(version)
	return req
}

// same fails unless both are equal.
func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// code compares a Kafka error code with the name of an error; nil is none.
func code(t testing.TB, what string, got int16, want *kerr.Error) {
	t.Helper()
	name := func(c int16) string {
		if err := kerr.ErrorForCode(c); err != nil {
			return err.(*kerr.Error).Message
		}
		return "none"
	}
	w := int16(0)
	if want != nil {
		w = want.Code
	}
	if got != w {
		t.Errorf("%s: error %s, want %s", what, name(got), name(w))
	}
}

// batch builds one batch of records with the given values.
func batch(values ...string) record.Batch { return batchOf(record.BuilderOptions{}, values...) }

func batchOf(o record.BuilderOptions, values ...string) record.Batch {
	b := record.NewBuilder(o)
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), nil, []byte(v))
	}
	return b.Build()
}

// topic creates a topic and returns its id.
func (k *conn) topic(name string, partitions int32, configs ...string) metadata.TopicID {
	k.t.Helper()
	req := at(kmsg.NewPtrCreateTopicsRequest(), 7)
	q := kmsg.NewCreateTopicsRequestTopic()
	q.Topic, q.NumPartitions, q.ReplicationFactor = name, partitions, 1
	for _, kv := range configs {
		n, v, _ := strings.Cut(kv, "=")
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = n, &v
		q.Configs = append(q.Configs, rc)
	}
	req.Topics = append(req.Topics, q)
	t := do[*kmsg.CreateTopicsResponse](k, req).Topics[0]
	code(k.t, "create "+name, t.ErrorCode, nil)
	return t.TopicID
}

// produceRequest asks for one batch, acks=all.
func produceRequest(topic string, partition int32, b []byte) *kmsg.ProduceRequest {
	req := at(kmsg.NewPtrProduceRequest(), 9)
	req.Acks, req.TimeoutMillis = -1, 30_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, b
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func produced(resp *kmsg.ProduceResponse) kmsg.ProduceResponseTopicPartition {
	return resp.Topics[0].Partitions[0]
}

// produce appends one batch and returns its base offset.
func (k *conn) produce(topic string, partition int32, values ...string) int64 {
	k.t.Helper()
	p := produced(do[*kmsg.ProduceResponse](k, produceRequest(topic, partition, batch(values...))))
	code(k.t, "produce", p.ErrorCode, nil)
	return p.BaseOffset
}

// fetchRequest asks for one partition by name, without waiting.
func fetchRequest(topic string, partition int32, offset int64) *kmsg.FetchRequest {
	req := at(kmsg.NewPtrFetchRequest(), 12)
	req.MaxBytes, req.MinBytes, req.SessionEpoch = 1<<20, 1, -1
	addFetch(req, topic, metadata.TopicID{}, partition, offset)
	return req
}

func addFetch(req *kmsg.FetchRequest, topic string, id metadata.TopicID, partition int32, offset int64) {
	q := kmsg.NewFetchRequestTopicPartition()
	q.Partition, q.FetchOffset, q.PartitionMaxBytes = partition, offset, 1<<20
	if n := len(req.Topics); n > 0 && req.Topics[n-1].Topic == topic && req.Topics[n-1].TopicID == id {
		req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, q)
		return
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
}

// values are the records of batches from an offset on.
func values(t testing.TB, b []byte, from int64) []string {
	t.Helper()
	var out []string
	for len(b) > 0 {
		one, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		err = one.Each(nil, func(r record.Record) error {
			if r.Offset >= from {
				out = append(out, string(r.Value))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b = rest
	}
	return out
}

// listOffset asks for one offset with the latest version.
func (k *conn) listOffset(topic string, partition int32, timestamp int64) kmsg.ListOffsetsResponseTopicPartition {
	k.t.Helper()
	return do[*kmsg.ListOffsetsResponse](k, listRequest(11, topic, partition, timestamp)).Topics[0].Partitions[0]
}

func listRequest(version int16, topic string, partition int32, timestamp int64) *kmsg.ListOffsetsRequest {
	req := at(kmsg.NewPtrListOffsetsRequest(), version)
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// frameOf is a request frame with header version 1.
func frameOf(key, version int16, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(2+2+4+2+len(body)))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint16(b, 0xffff) // no client id
	return append(b, body...)
}
