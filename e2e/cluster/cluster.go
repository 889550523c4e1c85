// Package cluster runs brokers for end-to-end tests and benchmarks, so that one
// scenario can meet three kinds of broker: in this process ([InProcess]), a
// process of its own ([Subprocess]) and a container ([Container]).
//
// A [Broker] keeps its data and its addresses over Kill and Start, as a machine
// does. It hides how a kind is started, killed and asked for its addresses.
package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/broker/console"
	"github.com/coldbrook/coldbrook/e2e/ports"
)

// Kind says where a broker runs.
type Kind string

// The kinds.
const (
	InProcess  Kind = "in-process"
	Subprocess Kind = "subprocess"
	Container  Kind = "container"
)

// Options of a broker.
type Options struct {
	Kind Kind
	// Dir is the data directory of brokers that are no containers.
	Dir string
	// Binary is the broker's program, for Subprocess.
	Binary string
	// Image is the broker's image, for Container.
	Image Image
	// Network is the container network, for Container.
	Network *Network
	// StoreURL is the object store as the broker reaches it; empty is a
	// directory in Dir.
	StoreURL string
	// Settings are name to value. Where listeners is among them, it is up to
	// them where the broker listens, and Kafka and HTTP say how it is reached.
	Settings    map[string]string
	Kafka, HTTP string
	// LogFile is written along with Log, for who cannot wait for a test's end.
	LogFile string
	// Namespace is the network namespace of a Subprocess; empty: this one.
	Namespace string
	// Alias is a Container's name on Network; Front is a second network, which
	// publishes its ports and stays when Network is cut.
	Alias string
	Front *Network
	// Env is for credentials, as NAME=value.
	Env []string
}

// Broker is one broker under test. Its methods are for one goroutine at a time,
// but for Tier and Log.
type Broker struct {
	o     Options
	id    int32
	kafka string
	http  string
	log   lockedBuffer
	run   runner
}

// runner starts and ends one kind of broker.
type runner interface {
	start(ctx context.Context, b *Broker) error
	kill() error
	stop(ctx context.Context) error
	pause() error
	resume() error
	loseDisk(ctx context.Context, b *Broker) error // of a broker that was killed or stopped
	pid() int
	ended() error // not nil once the broker has ended by itself
}

var errEnded = errors.New("the broker ended")

// readyWithin is how long a broker may take to be ready.
const readyWithin = 60 * time.Second

// New prepares a broker with addresses of its own; Start starts it.
func New(o Options) (*Broker, error) {
	b := &Broker{o: o, kafka: o.Kafka, http: o.HTTP}
	for _, addr := range []*string{&b.kafka, &b.http} {
		if *addr == "" {
			var err error
			if *addr, err = freeAddress(); err != nil {
				return nil, err
			}
		}
	}
	switch o.Kind {
	case InProcess:
		b.run = &inProcess{}
	case Subprocess:
		b.run = &subprocess{}
	case Container:
		b.run = &dockerContainer{}
	default:
		return nil, fmt.Errorf("unknown kind of broker %q", o.Kind)
	}
	if o.LogFile != "" {
		var err error
		if b.log.file, err = os.OpenFile(o.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Start starts the broker, or starts it again, and returns when it is ready.
func (b *Broker) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := b.run.start(ctx, b); err != nil {
		return fmt.Errorf("start %s broker: %w\n%s", b.o.Kind, err, b.Log())
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := b.getJSON(ctx, "/readyz", nil)
		if err == nil {
			return nil
		}
		if ended := b.run.ended(); ended != nil {
			return fmt.Errorf("start %s broker: %w\n%s", b.o.Kind, ended, b.Log())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s broker is not ready: %w\n%s", b.o.Kind, err, b.Log())
		}
	}
}

// Kill ends the broker without a word, as SIGKILL does.
func (b *Broker) Kill() error { return b.run.kill() }

// Stop ends the broker cleanly.
func (b *Broker) Stop(ctx context.Context) error { return b.run.stop(ctx) }

// Pause stops the broker's process as SIGSTOP does, and Resume lets it go on
// as if no time had passed. Brokers in this process cannot be paused.
func (b *Broker) Pause() error { return b.run.pause() }

// Resume ends a Pause.
func (b *Broker) Resume() error { return b.run.resume() }

// LoseDisk empties the data directory of a broker that does not run.
func (b *Broker) LoseDisk(ctx context.Context) error { return b.run.loseDisk(ctx, b) }

// Set changes a setting for the next Start.
func (b *Broker) Set(name, value string) {
	b.o.Settings = maps.Clone(b.o.Settings)
	if b.o.Settings == nil {
		b.o.Settings = make(map[string]string)
	}
	b.o.Settings[name] = value
}

// Kafka is the bootstrap address.
func (b *Broker) Kafka() string { return b.kafka }

// ID is the broker's node.id, 0 where Settings do not say it.
func (b *Broker) ID() int32 { return b.id }

// HTTP is the console's address.
func (b *Broker) HTTP() string { return b.http }

// PID is the broker's process, 0 where there is none of its own.
func (b *Broker) PID() int { return b.run.pid() }

// Log is what the broker has printed.
func (b *Broker) Log() string {
	if d, ok := b.run.(*dockerContainer); ok {
		return d.log()
	}
	return b.log.String()
}

// Tier is the broker's `tier status`.
func (b *Broker) Tier(ctx context.Context) ([]console.TierPartition, error) {
	var list []console.TierPartition
	return list, b.getJSON(ctx, "/api/v1/tier", &list)
}

// Metric is the sum of a metric's samples that have all the labels given as
// name="value".
func (b *Broker) Metric(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	body, err := b.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", lines.Text(), err)
		}
		sum += v
	}
	return sum, lines.Err()
}

func (b *Broker) getJSON(ctx context.Context, path string, into any) error {
	body, err := b.get(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if into == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(into)
}

func (b *Broker) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.http+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp.Body, nil
}

// arguments are the command line that every kind shares.
func (b *Broker) arguments(dataDir string) []string {
	args := []string{"serve", "--data-dir", dataDir}
	if b.o.StoreURL != "" {
		args = append(args, "--store", b.o.StoreURL)
	}
	return args
}

// listens reports whether the settings say where the broker listens.
func (b *Broker) listens() bool { return b.o.Settings["listeners"] != "" }

// environment is the settings as the broker reads them from its environment.
func (b *Broker) environment() []string {
	env := slices.Clone(b.o.Env)
	for _, name := range slices.Sorted(maps.Keys(b.o.Settings)) {
		env = append(env, config.EnvName(name)+"="+b.o.Settings[name])
	}
	return env
}

// freeAddress finds a loopback port nobody listens on.
func freeAddress() (string, error) { return ports.Free("127.0.0.1") }

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// lockedBuffer collects output while others read it.
type lockedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	file *os.File // may be nil
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		if _, err := l.file.Write(p); err != nil {
			return 0, err
		}
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
