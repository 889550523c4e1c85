package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// bench is one run.
type bench struct {
	options
	dir    string
	data   int64 // bytes of what is replayed
	length time.Duration
	rows   []row
}

// row is one line of the report. Zero figures were not measured.
type row struct {
	Name     string  `json:"name"`
	MBps     float64 `json:"mb_per_s,omitempty"`
	Requests float64 `json:"requests_per_s,omitempty"`
	P50      float64 `json:"p50_ms,omitempty"`
	P99      float64 `json:"p99_ms,omitempty"`
	P999     float64 `json:"p99_9_ms,omitempty"`
	CPU      float64 `json:"cpu_s_per_gb,omitempty"`
	Allocs   float64 `json:"allocs_per_request,omitempty"`
	PeakMB   float64 `json:"peak_rss_mb,omitempty"`
	GETs     float64 `json:"gets_per_gb,omitempty"`
	Cached   float64 `json:"cache_hit_ratio,omitempty"` // of the bytes: 1 - bytes from the store / bytes to consumers
	Value    float64 `json:"value,omitempty"`
	Unit     string  `json:"unit,omitempty"`
	Limit    string  `json:"limit,omitempty"`
	LimitMB  float64 `json:"limit_mb_per_s,omitempty"`
	LimitMs  float64 `json:"limit_p99_ms,omitempty"`
	Want     string  `json:"want,omitempty"`
	Note     string  `json:"note,omitempty"`
}

func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Printf("%-58s %s\n", r.Name, r.short())
	if r.Note != "" {
		fmt.Printf("    %s\n", r.Note)
	}
}

func (r row) short() string {
	switch {
	case r.MBps > 0 && r.LimitMB > 0:
		return fmt.Sprintf("%7.0f MB/s, %.2f of %s", r.MBps, r.MBps/r.LimitMB, r.Limit)
	case r.LimitMs > 0:
		return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, %.2f of %s", r.P50, r.P99, r.P999, r.P99/r.LimitMs, r.Limit)
	case r.P999 > 0:
		return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms", r.P50, r.P99, r.P999)
	case r.MBps > 0:
		return fmt.Sprintf("%7.0f MB/s", r.MBps)
	case r.Unit != "":
		return fmt.Sprintf("%7.1f %s", r.Value, r.Unit)
	default:
		return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", r.P50, r.P99)
	}
}

// table prints the rows for people.
func (b *bench) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nMEASURE\tMB/s\tREQ/s\tP50 ms\tP99 ms\tP99.9 ms\tCPU s/GB\tALLOCS/REQ\tPEAK MB\tGET/GB\tCACHED\tLIMIT\tRATIO\tWANT")
	for _, r := range b.rows {
		ratio, limit := "", r.Limit
		switch {
		case r.LimitMs > 0:
			ratio = fmt.Sprintf("%.2f", r.P99/r.LimitMs)
			limit = fmt.Sprintf("%s %.2f ms", r.Limit, r.LimitMs)
		case r.LimitMB > 0:
			ratio = fmt.Sprintf("%.2f", r.MBps/r.LimitMB)
			limit = fmt.Sprintf("%s %.0f MB/s", r.Limit, r.LimitMB)
		}
		mb := figure(r.MBps, "%.0f")
		if r.Unit != "" {
			mb = fmt.Sprintf("%.1f %s", r.Value, r.Unit)
		}
		for _, cell := range []string{r.Name, mb, figure(r.Requests, "%.0f"), figure(r.P50, "%.2f"), figure(r.P99, "%.2f"), figure(r.P999, "%.2f"),
			figure(r.CPU, "%.2f"), figure(r.Allocs, "%.0f"), figure(r.PeakMB, "%.0f"), figure(r.GETs, "%.0f"), figure(r.Cached, "%.2f"), limit, ratio} {
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t, r.Want)
	}
	t.Flush()
}

func figure(v float64, format string) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}
