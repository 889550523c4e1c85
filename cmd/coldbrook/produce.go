package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// produceOptions are the flags of produce.
type produceOptions struct {
	keySeparator    string
	headerSeparator string
	headers         []string
	partition       int32
	acks            string
	compression     string
	nullKey         bool
	nullValue       bool
	maxLine         int
}

func (a *app) produceCommand() *cobra.Command {
	var o produceOptions
	c := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write lines from standard input to a topic, a record a line",
		Example: `  echo hello | coldbrook produce greetings
  coldbrook produce orders --key-separator : < orders.txt          # key:value
  coldbrook produce orders --header source=import --compression zstd < orders.txt
  printf 'trace:1,tenant:a\tvalue\n' | coldbrook produce orders --header-separator '\t'`,
		Args:              exactly("TOPIC"),
		ValidArgsFunction: a.completeTopics(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, parse, err := o.resolve()
			if err != nil {
				return err
			}
			linger := 5 * time.Millisecond
			if a.inTerminal {
				linger = 0 // a person waits for each line
			}
			cl, err := a.connect(cmd.Context(), append(opts, kgo.DefaultProduceTopic(args[0]), kgo.AllowAutoTopicCreation(),
				kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(100_000), kgo.MaxBufferedBytes(64<<20), kgo.UnknownTopicRetries(10))...)
			if err != nil {
				return err
			}
			defer cl.Close()
			if a.inTerminal {
				a.note("a record a line; Ctrl-D ends")
			}
			return a.produceLines(cmd.Context(), cl, o.maxLine, parse)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.keySeparator, "key-separator", "K", "", "what separates key and value in a line, `text` (\\t is a tab); without it a line is a value")
	f.StringVar(&o.headerSeparator, "header-separator", "", "what separates headers (name:value,…) from the rest of a line, `text`")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header for every record, `name=value`; repeatable")
	f.Int32VarP(&o.partition, "partition", "p", -1, "`number` of the partition; -1 chooses by key as every Kafka client does")
	f.StringVar(&o.acks, "acks", "all", "`all`, 1 or 0: who has to have a record before it counts as written")
	f.StringVarP(&o.compression, "compression", "z", "none", "`codec`: none, gzip, snappy, lz4 or zstd")
	f.BoolVar(&o.nullKey, "null-key", false, "an empty key is no key")
	f.BoolVar(&o.nullValue, "null-value", false, "an empty value is a tombstone")
	f.IntVar(&o.maxLine, "max-line", 100<<20, "the longest line, in `bytes`")
	a.bootstrapFlag(c)
	return c
}

// resolve turns the flags into client options and a parser of lines.
func (o *produceOptions) resolve() ([]kgo.Opt, func([]byte) (*kgo.Record, error), error) {
	var opts []kgo.Opt
	switch o.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, nil, usagef("--acks %s: want all, 1 or 0", o.acks)
	}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, ok := codecs[o.compression]
	if !ok {
		return nil, nil, usagef("--compression %s: want none, gzip, snappy, lz4 or zstd", o.compression)
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	switch {
	case o.partition >= 0:
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	case o.partition != -1:
		return nil, nil, usagef("--partition %d: want 0 or more", o.partition)
	}
	var fixed []kgo.RecordHeader
	for _, h := range o.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return nil, nil, usagef("--header %s: want name=value", h)
		}
		fixed = append(fixed, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	keySep, headerSep := []byte(separator(o.keySeparator)), []byte(separator(o.headerSeparator))
	return opts, func(line []byte) (*kgo.Record, error) { return o.record(line, fixed, keySep, headerSep) }, nil
}

// separator understands \t, \n and \0, which are hard to type.
func separator(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\0`, "\x00").Replace(s)
}

// record makes one of a line. It keeps no part of line.
func (o *produceOptions) record(line []byte, fixed []kgo.RecordHeader, keySep, headerSep []byte) (*kgo.Record, error) {
	line = bytes.Clone(line)
	r := &kgo.Record{Partition: max(o.partition, 0), Headers: fixed}
	if len(headerSep) > 0 {
		head, rest, ok := bytes.Cut(line, headerSep)
		if !ok {
			return nil, fmt.Errorf("no header separator %q", headerSep)
		}
		r.Headers = fixed[:len(fixed):len(fixed)]
		for h := range bytes.SplitSeq(head, []byte(",")) {
			if len(h) == 0 {
				continue
			}
			k, v, ok := bytes.Cut(h, []byte(":"))
			if !ok {
				return nil, fmt.Errorf("header %q: want name:value", h)
			}
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(k), Value: v})
		}
		line = rest
	}
	r.Value = line
	if len(keySep) > 0 {
		key, value, ok := bytes.Cut(line, keySep)
		if !ok {
			return nil, fmt.Errorf("no key separator %q", keySep)
		}
		r.Key, r.Value = key, value
		if o.nullKey && len(key) == 0 {
			r.Key = nil
		} else if r.Key == nil {
			r.Key = []byte{}
		}
	}
	if len(r.Value) == 0 {
		r.Value = []byte{}
		if o.nullValue {
			r.Value = nil
		}
	}
	return r, nil
}

// produceLines sends every line and waits for the answers. The first failure stops it.
func (a *app) produceLines(ctx context.Context, cl *kgo.Client, maxLine int, parse func([]byte) (*kgo.Record, error)) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var acked, ackedBytes atomic.Int64
	bar := a.progress("producing", a.inputSize(), size)
	begun := time.Now()
	in := bufio.NewReaderSize(a.in, 1<<20)
	var read, lines int64
	var readErr error
	for ctx.Err() == nil {
		line, err := readLine(in, maxLine)
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			if !errors.Is(err, io.EOF) {
				readErr = fmt.Errorf("standard input, line %d: %w", lines+1, err)
			}
			break
		}
		lines++
		read += int64(len(line)) + 1
		r, perr := parse(line)
		if perr != nil {
			readErr = fmt.Errorf("standard input, line %d: %w", lines, perr)
			break
		}
		cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				fail(err)
				return
			}
			acked.Add(1)
			ackedBytes.Add(int64(len(r.Key) + len(r.Value)))
		})
		bar.at(read)
	}
	flushErr := cl.Flush(ctx)
	bar.done()
	n, took := acked.Load(), time.Since(begun)
	if cause := context.Cause(ctx); cause != nil {
		flushErr = cause
	}
	if n > 0 || readErr == nil && flushErr == nil {
		a.note("produced %s, %s in %s (%.0f records/s)", count(n, "record"), size(ackedBytes.Load()), span(took), float64(n)/max(took.Seconds(), 1e-9))
	}
	if n < lines && flushErr != nil {
		flushErr = fmt.Errorf("%s not acknowledged: %w", count(lines-n, "record"), flushErr)
	}
	return errors.Join(readErr, flushErr)
}

// readLine returns a line without its end, valid until the next call.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= limit {
			line, err = in.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1] // a carriage return before it is data
	}
	if len(line) > limit {
		return nil, fmt.Errorf("longer than %s (--max-line)", size(int64(limit)))
	}
	return line, err
}

// inputSize is the size of standard input if it is a file, else 0.
func (a *app) inputSize() int64 {
	f, ok := a.in.(*os.File)
	if !ok {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
