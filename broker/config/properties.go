package config

import (
	"fmt"
	"strconv"
	"strings"
)

// line is one setting of a file and where it stands.
type line struct{ name, value, place string }

// maxFile bounds a configuration file; the largest we have seen is 30 KiB.
const maxFile = 4 << 20

// parseProperties reads Java's properties format: # and ! comments, = or : or blanks between name
// and value, \ at the end of a line to go on, \t \n \r \f \uXXXX and \ before anything else for
// itself. Complaints name file and line.
func parseProperties(file string, body []byte) ([]line, []error) {
	if len(body) > maxFile {
		return nil, []error{fmt.Errorf("%s: %d bytes are too many for a configuration file", file, len(body))}
	}
	var out []line
	var errs []error
	raw := strings.Split(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n")
	for i := 0; i < len(raw); i++ {
		place := file + ":" + strconv.Itoa(i+1)
		text := strings.TrimLeft(raw[i], " \t\f")
		if text == "" || text[0] == '#' || text[0] == '!' {
			continue
		}
		for continued(text) && i+1 < len(raw) {
			i++
			text = text[:len(text)-1] + strings.TrimLeft(raw[i], " \t\f")
		}
		l, err := parseLine(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", place, err))
		case l.name == "":
			errs = append(errs, fmt.Errorf("%s: %q has no setting's name", place, text))
		default:
			l.place = place
			out = append(out, l)
		}
	}
	return out, errs
}

// continued reports whether a line ends in an odd number of backslashes.
func continued(s string) bool {
	n := len(s) - len(strings.TrimRight(s, `\`))
	return n%2 == 1
}

func parseLine(s string) (line, error) {
	end := len(s)
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", s[i]) >= 0 {
			end = i
			break
		}
	}
	name, err := unescape(s[:end])
	if err != nil {
		return line{}, err
	}
	rest := strings.TrimLeft(s[end:], " \t\f")
	separated := rest != "" && (rest[0] == '=' || rest[0] == ':')
	if separated {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	if !separated && rest == "" {
		return line{}, fmt.Errorf("%q has no value: want setting=value", name)
	}
	value, err := unescape(rest)
	return line{name: name, value: value}, err
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			break
		}
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if i+4 >= len(s) {
				return "", fmt.Errorf(`malformed \uxxxx encoding in %q`, s)
			}
			n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", fmt.Errorf(`malformed \uxxxx encoding in %q`, s)
			}
			b.WriteRune(rune(n))
			i += 4
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}
