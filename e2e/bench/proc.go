package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
)

// process is a broker under test.
type process struct {
	*cluster.Broker
	ready time.Duration // from start to /readyz
}

// clockTicks is USER_HZ, which Linux fixes at 100 for user space.
const clockTicks = 100

// startBroker starts the broker with data in a directory of its own and waits
// until it is ready.
func (b *bench) startBroker(ctx context.Context, name string, settings map[string]string) (*process, error) {
	br, err := cluster.New(cluster.Options{Kind: cluster.Subprocess, Binary: b.broker, Dir: filepath.Join(b.dir, name), Settings: settings})
	if err != nil {
		return nil, err
	}
	p := &process{Broker: br}
	return p, p.start(ctx)
}

func (p *process) start(ctx context.Context) error {
	start := time.Now()
	err := p.Start(ctx)
	p.ready = time.Since(start)
	return err
}

// end kills the broker; what it thinks of that does not matter any more.
func (p *process) end() { _ = p.Kill() }

// cpu is the process's user and system time so far.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	// The command's name may hold spaces: fields are counted behind its ')'.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// memory is the resident set now and at its peak, in bytes.
func (p *process) memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, 0, err
	}
	read := func(name string) (n int64) {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
		if m != nil {
			n, _ = strconv.ParseInt(string(m[1]), 10, 64) // digits only
		}
		return n << 10
	}
	return read("VmRSS"), read("VmHWM"), nil
}

// mallocs is the number of heap objects the broker has allocated so far.
func (p *process) mallocs() (int64, error) {
	resp, err := http.Get("http://" + p.HTTP() + "/debug/pprof/allocs?debug=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`# Mallocs = (\d+)`).FindSubmatch(body)
	if m == nil {
		return 0, errors.New("no Mallocs in the allocation profile")
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}
