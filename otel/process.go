package otel

import (
	"context"
	"errors"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// names of runtime/metrics we report.
const (
	rtGoroutines = "/sched/goroutines:goroutines"
	rtHeap       = "/memory/classes/heap/objects:bytes"
	rtTotal      = "/memory/classes/total:bytes"
	rtReleased   = "/memory/classes/heap/released:bytes"
	rtLimit      = "/gc/gomemlimit:bytes"
	rtCycles     = "/gc/cycles/total:gc-cycles"
	rtAllocated  = "/gc/heap/allocs:bytes"
	rtGCCPU      = "/cpu/classes/gc/total:cpu-seconds"
)

// observeProcess reports memory, CPU, descriptors and the garbage collector of this process. Each
// scrape reads three small files of /proc and asks the runtime once; where there is no /proc the
// first three are absent.
func observeProcess(m metric.Meter, started time.Time) error {
	var errs []error
	gauge := func(name, unit, doc string) metric.Int64ObservableGauge {
		g, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(doc))
		errs = append(errs, err)
		return g
	}
	counter := func(name, unit, doc string) metric.Float64ObservableCounter {
		c, err := m.Float64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(doc))
		errs = append(errs, err)
		return c
	}
	resident := gauge("process.memory.resident", "By", "Resident memory (RSS).")
	open := gauge("process.open.files", "", "Open file descriptors.")
	cpu := counter("process.cpu.time", "s", "CPU time, user and system.")
	uptime := gauge("process.uptime", "s", "Time since start.")
	goroutines := gauge("go.goroutines", "", "Goroutines.")
	heap := gauge("go.memory.heap", "By", "Memory of live and not yet collected objects.")
	held := gauge("go.memory.used", "By", "Memory the Go runtime holds: without memory-mapped files, with what it has not given back yet.")
	limit := gauge("go.memory.limit", "By", "GOMEMLIMIT.")
	cycles := counter("go.gc.cycles", "", "Garbage collections.")
	allocated := counter("go.memory.allocated", "By", "Bytes allocated.")
	gcCPU := counter("go.gc.cpu.time", "s", "CPU time of the garbage collector.")
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if n, ok := residentBytes(); ok {
			o.ObserveInt64(resident, n)
		}
		if n, ok := openFiles(); ok {
			o.ObserveInt64(open, n)
		}
		if s, ok := cpuSeconds(); ok {
			o.ObserveFloat64(cpu, s)
		}
		o.ObserveInt64(uptime, int64(time.Since(started).Seconds()))
		v := readRuntime(rtGoroutines, rtHeap, rtTotal, rtReleased, rtLimit, rtCycles, rtAllocated, rtGCCPU)
		o.ObserveInt64(goroutines, int64(v[rtGoroutines]))
		o.ObserveInt64(heap, int64(v[rtHeap]))
		o.ObserveInt64(held, int64(v[rtTotal]-v[rtReleased]))
		o.ObserveInt64(limit, int64(min(v[rtLimit], 1<<62)))
		o.ObserveFloat64(cycles, v[rtCycles])
		o.ObserveFloat64(allocated, v[rtAllocated])
		o.ObserveFloat64(gcCPU, v[rtGCCPU])
		return nil
	}, resident, open, cpu, uptime, goroutines, heap, held, limit, cycles, allocated, gcCPU)
	return err
}

func readRuntime(names ...string) map[string]float64 {
	samples := make([]metrics.Sample, len(names))
	for i, n := range names {
		samples[i].Name = n
	}
	metrics.Read(samples)
	out := make(map[string]float64, len(names))
	for _, s := range samples {
		switch s.Value.Kind() {
		case metrics.KindUint64:
			out[s.Name] = float64(s.Value.Uint64())
		case metrics.KindFloat64:
			out[s.Name] = s.Value.Float64()
		}
	}
	return out
}

func residentBytes() (int64, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

func openFiles() (int64, bool) {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return int64(len(names)) - 1, err == nil // without the one that lists them
}

// cpuSeconds reads user and system time, in ticks of 1/100 s on every Linux there is (USER_HZ).
func cpuSeconds() (float64, bool) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, false
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return float64(user+system) / 100, err1 == nil && err2 == nil
}
