package object

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxKeyBytes       = 1024
	maxComponentBytes = 255
	// A directory store keeps unfinished uploads here; no key may begin with it.
	tempFolder = ".uploads"
)

// ValidKey checks what every implementation can store: UTF-8 without control characters, 1 to
// 1,024 bytes, slash-separated components of 1 to 255 bytes, none of them "." or "..".
func ValidKey(key string) error {
	if key == "" || len(key) > maxKeyBytes {
		return fmt.Errorf("key of %d bytes: want 1 to %d: %w", len(key), maxKeyBytes, ErrInvalid)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("key %q: not UTF-8: %w", key, ErrInvalid)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] == 0x7f || key[i] == '\\' {
			return fmt.Errorf("key %q: byte %#x is not allowed: %w", key, key[i], ErrInvalid)
		}
	}
	for first, rest := true, key; ; first = false {
		c, tail, more := strings.Cut(rest, "/")
		if c == "" || c == "." || c == ".." || len(c) > maxComponentBytes || (first && c == tempFolder) {
			return fmt.Errorf("key %q: component %q is not allowed: %w", key, c, ErrInvalid)
		}
		if !more {
			return nil
		}
		rest = tail
	}
}
