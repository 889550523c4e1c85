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

	"golang.org/x/sys/unix"

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
	return b.startAt(ctx, cluster.Options{Dir: filepath.Join(b.dir, name), Settings: settings})
}

// startAt starts the broker as o says, but for its kind.
func (b *bench) startAt(ctx context.Context, o cluster.Options) (*process, error) {
	o.Kind, o.Binary = cluster.Subprocess, b.broker
	br, err := cluster.New(o)
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
func (p *process) cpu() (time.Duration, error) { return cpuOf(p.PID()) }

func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may hold spaces: fields are counted behind its ')'.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return ticks(fields[11:13]...)
}

// yield has all threads of a process, and those that they start, run only where nobody else wants to
// (SCHED_IDLE), at once when somebody does.
func yield(pid int) error {
	for done := map[string]bool{}; ; {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		before := len(done)
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err == nil && !done[t.Name()] {
				err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it ended
				return err
			}
			done[t.Name()] = true
		}
		if len(done) == before {
			return nil
		}
	}
}

// machineCPU is what all cores have spent so far: on nothing or waiting for a
// disk, away where the hypervisor had them, and altogether.
func machineCPU() (idle, stolen, all time.Duration, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal guest…, and guest is in user
	if idle, err = ticks(fields[4:6]...); err != nil {
		return 0, 0, 0, err
	}
	if stolen, err = ticks(fields[8]); err != nil {
		return 0, 0, 0, err
	}
	all, err = ticks(fields[1:9]...)
	return idle, stolen, all, err
}

// ticks adds times of /proc up.
func ticks(fields ...string) (time.Duration, error) {
	var sum int64
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / clockTicks, nil
}

// memory is the resident set now and at its peak since forgetPeak, in bytes.
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

// forgetPeak makes the present resident set the peak (proc(5), clear_refs).
func (p *process) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0)
}

// storeUse is what the broker has read from its object store so far.
func (p *process) storeUse(ctx context.Context) (gets, bytes float64, err error) {
	gets, err = p.Metric(ctx, "coldbrook_object_request_seconds_count", `op="get"`)
	if err != nil {
		return 0, 0, err
	}
	bytes, err = p.Metric(ctx, "coldbrook_object_read_bytes_total")
	return gets, bytes, err
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
