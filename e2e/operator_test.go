package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

// sentRequests counts the requests of one kind that a client has sent.
type sentRequests struct {
	key  int16
	n    atomic.Int32
	more chan struct{}
}

func (s *sentRequests) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == s.key && err == nil {
		s.n.Add(1)
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

func (s *sentRequests) await(t *testing.T, n int32) {
	t.Helper()
	for s.n.Load() < n {
		select {
		case <-s.more:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s sent %d times, want %d", kmsg.NameForKey(s.key), s.n.Load(), n)
		}
	}
}

// Ctrl-C must not wait for those who only wait themselves: a consumer for records, a member for the others.
func TestCtrlCDoesNotWaitForIdleClients(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	settings := scenario.Settings()
	settings["group.initial.rebalance.delay.ms"] = "60000"
	b := run(t, cluster.Options{Kind: cluster.Subprocess, Binary: path, Dir: filepath.Join(t.TempDir(), "data"), Settings: settings})
	const topic = "idle"
	scenario.CreateTopic(t.Context(), t, b.Kafka(), topic, 1)
	fetches := &sentRequests{key: 1, more: make(chan struct{}, 1)}
	joins := &sentRequests{key: 11, more: make(chan struct{}, 1)}
	for _, opts := range [][]kgo.Opt{
		{kgo.WithHooks(fetches), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(time.Minute)},
		{kgo.WithHooks(joins), kgo.ConsumeTopics(topic), kgo.ConsumerGroup("idlers"), kgo.RebalanceTimeout(5 * time.Minute)},
	} {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Kafka()))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.CloseAllowingRebalance()
	}
	fetches.await(t, 1)
	joins.await(t, 2) // the first only gives the member its id
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	// 20 ms on an idle machine; the clients wait a minute.
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopped after %v", took)
	}
}

// A store that is wrong is named, with what is wrong, by serve and by doctor; neither leaves the operator with a
// code, and serve does not start.
func TestWrongStoreIsNamed(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	store := servers.MinIO(t)
	store.Bucket(t, "coldbrook")
	nobody := freeAddress(t)
	key := []string{"MINIO_ROOT_USER=" + store.AccessKey, "AWS_ACCESS_KEY_ID=" + store.AccessKey}
	secret := []string{"MINIO_ROOT_PASSWORD=" + store.SecretKey, "AWS_SECRET_ACCESS_KEY=" + store.SecretKey}
	wrongKey := []string{"MINIO_ROOT_USER=nobody", "AWS_ACCESS_KEY_ID=nobody"}
	wrongSecret := []string{"MINIO_ROOT_PASSWORD=not-the-secret", "AWS_SECRET_ACCESS_KEY=not-the-secret"}
	for _, c := range []struct {
		name, bucket string
		env          []string
		minio, s3    []string // what must be said
		starts       bool
	}{
		{"missing bucket", "no-such-bucket", append(key, secret...), []string{`bucket "no-such-bucket"`, "bucket does not exist"},
			[]string{`bucket "no-such-bucket"`, "bucket does not exist"}, false},
		{"unknown access key", "coldbrook", append(wrongKey, secret...), []string{"access denied", "does not know this access key", "MINIO_ROOT_USER"},
			[]string{"access denied", "does not know this access key", "AWS_ACCESS_KEY_ID"}, false},
		{"wrong secret", "coldbrook", append(key, wrongSecret...), []string{"access denied", "secret key is wrong", "MINIO_ROOT_PASSWORD"},
			[]string{"access denied", "secret key is wrong", "AWS_SECRET_ACCESS_KEY"}, false},
		{"no credentials", "coldbrook", nil, []string{"no credentials", "MINIO_ROOT_USER"}, []string{"no credentials", "AWS_ACCESS_KEY_ID"}, false},
		{"closed port", "coldbrook", append(key, secret...), []string{"unavailable", nobody, "nothing listens"}, []string{"unavailable", nobody, "nothing listens"}, true},
	} {
		at := servers.S3Server{Endpoint: store.Endpoint, Region: store.Region}
		if c.starts {
			at.Endpoint = "http://" + nobody
		}
		for driver, url := range map[string]string{"minio": at.MinIOURL(c.bucket), "s3": at.S3URL(c.bucket)} {
			t.Run(c.name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				want := c.minio
				if driver == "s3" {
					want = c.s3
				}
				code, out := output(t, path, c.env, "doctor", url)
				expect(t, "doctor", out, append(want, "fail  object store"))
				if code != 1 {
					t.Errorf("doctor: exit code %d", code)
				}
				if c.starts {
					return // serve waits for such a store: TestProducersDoNotNoticeThatTheStoreIsDown
				}
				code, out = output(t, path, c.env, "serve", url)
				expect(t, "serve", out, append(want, "coldbrook: object store: "))
				if code != 1 || strings.Contains(out, "is ready") {
					t.Errorf("serve: exit code %d\n%s", code, out)
				}
			})
		}
	}
}

// output runs a command of the broker's binary to its end.
func output(t *testing.T, path string, env []string, command, store string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, command, "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "", "--store", store)
	// No files and no metadata service of this machine may help out.
	cmd.Env = append(without(os.Environ(), "COLDBROOK_", "AWS_", "MINIO_", "OTEL_"), "HOME="+t.TempDir(), "AWS_EC2_METADATA_DISABLED=true")
	cmd.Env = append(cmd.Env, env...)
	out, _ := cmd.CombinedOutput() // the code is looked at
	return cmd.ProcessState.ExitCode(), string(out)
}

func expect(t *testing.T, command, out string, want []string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%s does not say %q:\n%s", command, w, out)
		}
	}
}
