package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// StandardAuthorizer is the class name Kafka users write to switch ACLs on.
const StandardAuthorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"

// Listener is one address of the broker.
type Listener struct {
	Name     string // upper case, as PLAINTEXT or EXTERNAL
	Protocol string // PLAINTEXT
	Host     string // empty: every interface
	Port     int32  // 0: any free port, and in AdvertisedListeners the one that was bound
}

// Address returns host:port for net.Listen and net.Dial.
func (l Listener) Address() string {
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// String returns NAME://host:port.
func (l Listener) String() string { return l.Name + "://" + l.Address() }

// parseListeners reads NAME://HOST:PORT,…; an entry without a name is a PLAINTEXT one, so that
// --listen 0.0.0.0:9092 means what it says.
func parseListeners(value string) ([]Listener, error) {
	var out []Listener
	for _, part := range splitList(value) {
		name, address, found := strings.Cut(part, "://")
		if !found {
			name, address = "PLAINTEXT", part
		}
		name = strings.ToUpper(name)
		if name == "" {
			return nil, fmt.Errorf("%s has no listener name", part)
		}
		host, portText, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%s: want HOST:PORT or NAME://HOST:PORT", part)
		}
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%s: port %q is not between 0 and 65535", part, portText)
		}
		if slices.ContainsFunc(out, func(l Listener) bool { return l.Name == name }) {
			return nil, errors.New("Each listener must have a different name, listeners: " + value)
		}
		if port != 0 && slices.ContainsFunc(out, func(l Listener) bool { return l.Port == int32(port) && l.Host == host }) {
			return nil, errors.New("Each listener must have a different port, listeners: " + value)
		}
		out = append(out, Listener{Name: name, Host: host, Port: int32(port)})
	}
	if len(out) == 0 {
		return nil, errors.New("at least one listener is needed")
	}
	return out, nil
}

func checkListeners(v string) error {
	_, err := parseListeners(v)
	return err
}

func checkAdvertised(v string) error {
	if v == "" {
		return nil
	}
	ls, err := parseListeners(v)
	if err != nil {
		return err
	}
	for _, l := range ls {
		if ip := net.ParseIP(l.Host); ip != nil && ip.IsUnspecified() {
			return fmt.Errorf("advertised.listeners cannot use the nonroutable meta-address %s. Use a routable IP address", l.Host)
		}
	}
	return nil
}

func parseProtocolMap(v string) (map[string]string, error) {
	out := map[string]string{}
	for _, part := range splitList(v) {
		name, protocol, found := strings.Cut(part, ":")
		if !found {
			return nil, fmt.Errorf("%s: want NAME:PROTOCOL", part)
		}
		out[strings.ToUpper(strings.TrimSpace(name))] = strings.ToUpper(strings.TrimSpace(protocol))
	}
	return out, nil
}

func checkProtocolMap(v string) error {
	m, err := parseProtocolMap(v)
	if err != nil {
		return err
	}
	for name, protocol := range m {
		switch protocol {
		case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL": // Kafka's own default names all four
		default:
			return fmt.Errorf("No enum constant org.apache.kafka.common.security.auth.SecurityProtocol.%s (listener %s)", protocol, name)
		}
	}
	return nil
}

func checkHTTP(v string) error {
	if v == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not between 0 and 65535", port)
	}
	return nil
}

func checkStoreURL(v string) error {
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil {
		return errors.New("not a URL")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Path == "" {
			return errors.New("want file:///absolute/dir, with three slashes")
		}
		if u.Fragment != "" || u.RawQuery != "" || u.ForceQuery || strings.HasSuffix(v, "#") {
			return errors.New("'#' and '?' in the name of a directory are written %23 and %3F")
		}
	case "s3":
		if u.Host == "" {
			return errors.New("want s3://bucket/prefix, the bucket is missing")
		}
	case "minio":
		if u.Host == "" || strings.Trim(u.Path, "/") == "" {
			return errors.New("want minio://host:port/bucket/prefix, the host or the bucket is missing")
		}
	default:
		return errors.New("the scheme must be one of: file, s3, minio")
	}
	return nil
}

var clusterName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

func checkClusterName(v string) error {
	if !clusterName.MatchString(v) || v == "." || v == ".." {
		return errors.New("want 1 to 100 letters, digits, '.', '_' or '-'")
	}
	return nil
}

func checkAuthorizer(v string) error {
	if v != "" && v != StandardAuthorizer {
		return errors.New("the only authorizer is " + StandardAuthorizer)
	}
	return nil
}

// RackAwareSelector is the class name Kafka users write to let consumers read from their own rack.
const RackAwareSelector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"

func checkSelector(v string) error {
	if v != "" && v != RackAwareSelector {
		return errors.New("the only selector is " + RackAwareSelector)
	}
	return nil
}

func checkSuperUsers(v string) error {
	for p := range strings.SplitSeq(v, ";") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		if kind, name, found := strings.Cut(p, ":"); !found || kind == "" || name == "" {
			return fmt.Errorf("expected a string in format principalType:principalName but got %s", p)
		}
	}
	return nil
}
