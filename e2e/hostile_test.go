package e2e

import (
	"context"
	"debug/buildinfo"
	wirebytes "encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/broker/api"
	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

const (
	hostileLimit = 256 << 20
	// hostileResident is what the process may take: the limit, which is of Go's memory, and what
	// the runtime, the program itself and buffers outside the heap take beside it.
	hostileResident = hostileLimit + 96<<20
	// honestWait bounds how long the requests of others may take meanwhile.
	honestWait = 8 * time.Second
	hostiles   = 6 // connections of each kind at a time

	hostileTopics = 100 // whose configurations are a long answer
)

// TestInvariant9NoClientTakesMoreThanItsBudget lets clients that mean ill send all they can, of every API, to a broker with
// little memory. It stays within it, and serves others on.
func TestInvariant9NoClientTakesMoreThanItsBudget(t *testing.T) {
	path := withoutRaceDetector(t)
	settings := scenario.Settings()
	settings["auto.create.topics.enable"] = "false"
	b := run(t, cluster.Options{Kind: cluster.Subprocess, Binary: path, Dir: t.TempDir(), Settings: settings,
		StoreURL: "file://" + t.TempDir(), Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", hostileLimit)}})
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka()), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("honest"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	createHonest(t, cl)
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()
	var all sync.WaitGroup
	attacks := []func(ctx context.Context, rng *rand.Rand, nc net.Conn){announceMuch, stopHalfway, askForMuch, queueBehindAPoll, readNothing, makeSessions}
	for i := range len(attacks) * hostiles {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(hostileSeed, uint64(i)))
			for ctx.Err() == nil {
				nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.Kafka())
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { nc.Close() })
				attacks[i%len(attacks)](ctx, rng, nc)
				stop()
				nc.Close()
			}
		})
	}
	for ctx.Err() == nil {
		began := time.Now()
		within, done := context.WithTimeout(t.Context(), honestWait)
		err := cl.ProduceSync(within, kgo.StringRecord(strings.Repeat("x", 8<<10))).FirstErr()
		done()
		if err != nil {
			t.Errorf("seed %d: an honest record of 8 KiB, after %v: %v", hostileSeed, time.Since(began), err)
			break
		}
	}
	cancel()
	all.Wait()
	if most := residentMost(t, b.PID()); most > hostileResident {
		t.Errorf("seed %d: the broker took %d MiB, want at most %d", hostileSeed, most>>20, hostileResident>>20)
	} else {
		t.Logf("the broker took %d MiB", most>>20)
	}
}

// withoutRaceDetector is the broker as users run it: what the race detector takes is many times the broker's own memory.
func withoutRaceDetector(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return path
	}
	path = filepath.Join(t.TempDir(), "coldbrook")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "../cmd/coldbrook").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

func createHonest(t *testing.T, cl *kgo.Client) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range append(hostileNames(), "honest") {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, rt)
	}
	req.TimeoutMillis = 30_000
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
}

func hostileNames() (names []string) {
	for i := range hostileTopics {
		names = append(names, fmt.Sprint("topic-", i))
	}
	return names
}

// residentMost is the most memory that a process has had.
func residentMost(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// hostileVersion picks one of the APIs in one of its versions.
func hostileVersion(rng *rand.Rand) (key, version int16) {
	all := api.Versions()
	v := all[rng.IntN(len(all))]
	return v.Key, v.Min + int16(rng.IntN(int(v.Max-v.Min)+1))
}

// announceMuch announces a large frame and sends nothing of it.
func announceMuch(_ context.Context, rng *rand.Rand, nc net.Conn) {
	key, version := hostileVersion(rng)
	if rng.IntN(4) > 0 {
		key, version = 0, 7 // only a produce request may be so large
	}
	head := wirebytes.BigEndian.AppendUint32(nil, uint32(1<<20<<rng.IntN(7)))
	head = wirebytes.BigEndian.AppendUint16(head, uint16(key))
	head = wirebytes.BigEndian.AppendUint16(head, uint16(version))
	if _, err := nc.Write(append(head, 0, 0, 0, 1, 0xff, 0xff)); err == nil {
		_, _ = io.Copy(io.Discard, nc) // until the broker has had enough
	}
}

// stopHalfway sends a part of a large produce request and stops, or goes on with few bytes at a time.
func stopHalfway(ctx context.Context, rng *rand.Rand, nc net.Conn) {
	size := 1 << 20 << rng.IntN(7)
	if _, err := nc.Write(append(wirebytes.BigEndian.AppendUint32(nil, uint32(size)), 0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff)); err != nil {
		return
	}
	part := make([]byte, 64<<10)
	for range rng.IntN(size>>16 + 1) {
		if _, err := nc.Write(part); err != nil {
			return
		}
	}
	for ctx.Err() == nil {
		if _, err := nc.Write(part[:10]); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// askForMuch sends requests with as much in them as fits, one behind the other, and reads no answer.
func askForMuch(ctx context.Context, rng *rand.Rand, nc net.Conn) {
	for ctx.Err() == nil {
		key, version := hostileVersion(rng)
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		stuff(rng, reflect.ValueOf(req).Elem(), 1<<rng.IntN(16))
		body := req.AppendTo(nil)
		if len(body) > 3<<20 {
			continue
		}
		frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
		for range 1 + rng.IntN(20) {
			if _, err := nc.Write(frame); err != nil {
				return
			}
		}
		if rng.IntN(4) == 0 {
			return
		}
	}
}

// flood sends a request again and again and reads no answer, until the broker has had enough.
func flood(nc net.Conn, req kmsg.Request) {
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	for range 200 {
		if _, err := nc.Write(frame); err != nil {
			return
		}
	}
}

// queueBehindAPoll sends large requests behind a fetch that waits for hours.
func queueBehindAPoll(_ context.Context, _ *rand.Rand, nc net.Conn) {
	poll := kmsg.NewPtrFetchRequest()
	poll.Version, poll.MaxWaitMillis, poll.MinBytes, poll.MaxBytes, poll.SessionEpoch = 12, 1<<30, 1<<30, 1<<30, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "honest"
	rt.Partitions = append(rt.Partitions, kmsg.NewFetchRequestTopicPartition())
	poll.Topics = append(poll.Topics, rt)
	if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, poll, 1)); err != nil {
		return
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 5, "g", "consumer", 10_000, 10_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", make([]byte, 3<<20)
	join.Protocols = append(join.Protocols, protocol)
	flood(nc, join)
}

// readNothing asks for long answers.
func readNothing(_ context.Context, _ *rand.Rand, nc net.Conn) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeDocumentation, req.IncludeSynonyms = 4, true, true
	for _, name := range hostileNames() {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		req.Resources = append(req.Resources, r)
	}
	flood(nc, req)
}

// makeSessions makes a fetch session of long names and goes away.
func makeSessions(_ context.Context, rng *rand.Rand, nc net.Conn) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 7
	for range 100 {
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic = fmt.Sprint(rng.Uint64(), strings.Repeat("x", []int{200, 32_000}[rng.IntN(2)]))
		rt.Partitions = append(rt.Partitions, kmsg.NewFetchRequestTopicPartition())
		req.Topics = append(req.Topics, rt)
	}
	if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err == nil {
		_, _ = io.ReadFull(nc, make([]byte, 4)) // the answer is there
	}
}

// stuff fills what can be filled: arrays of n elements, whose own arrays have few.
func stuff(rng *rand.Rand, v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" && name != "UnknownTags" && v.Field(i).CanSet() {
				stuff(rng, v.Field(i), n)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			if d := v.Index(i).Addr().MethodByName("Default"); d.IsValid() {
				d.Call(nil)
			}
			stuff(rng, v.Index(i), 1+n>>12)
		}
	case reflect.String:
		v.SetString([]string{"honest", "h" + fmt.Sprint(rng.IntN(1<<20)), strings.Repeat("n", rng.IntN(200))}[rng.IntN(3)])
	case reflect.Pointer:
		if rng.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			stuff(rng, v.Elem(), n)
		}
	case reflect.Int32, reflect.Int64:
		if rng.IntN(2) == 0 {
			v.SetInt(int64(rng.IntN(100)))
		}
	}
}
