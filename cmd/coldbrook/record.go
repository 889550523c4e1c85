package main

import (
	"bufio"
	"encoding/json"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordJSON is a record as consume -o json prints it. Exactly one of value and value_base64 is there;
// a null value is "value": null.
type recordJSON struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   int64        `json:"timestamp_ms"`
	Key         *string      `json:"key"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

type headerJSON struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// text returns b as a string if it is one, else as bytes for base64.
func text(b []byte) (*string, []byte) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	}
	return nil, b
}

// recordPrinter returns what prints a record in the chosen form.
func (a *app) recordPrinter(format string) (func(*bufio.Writer, *kgo.Record) error, error) {
	switch {
	case a.json() && format != "":
		return nil, usagef("--format and -o json are two answers to one question")
	case a.json():
		return printRecordJSON, nil
	case format == "":
		return func(w *bufio.Writer, r *kgo.Record) error {
			if _, err := w.Write(r.Value); err != nil {
				return err
			}
			return w.WriteByte('\n')
		}, nil
	}
	f, err := kgo.NewRecordFormatter(format)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	var buf []byte
	return func(w *bufio.Writer, r *kgo.Record) error {
		buf = f.AppendRecord(buf[:0], r)
		_, err := w.Write(buf)
		return err
	}, nil
}

func printRecordJSON(w *bufio.Writer, r *kgo.Record) error {
	j := recordJSON{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli()}
	j.Key, j.KeyBase64 = text(r.Key)
	j.Value, j.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		hj := headerJSON{Name: h.Key}
		hj.Value, hj.ValueBase64 = text(h.Value)
		j.Headers = append(j.Headers, hj)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(j)
}
