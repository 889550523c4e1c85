package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// EnvPrefix starts the environment variable of a setting: COLDBROOK_LOG_RETENTION_MS.
const EnvPrefix = "COLDBROOK_"

// EnvName returns the environment variable of a setting.
func EnvName(setting string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

// Load reads the file (none if empty), env (as os.Environ gives it) and flags (setting → value) and
// returns the settings, or every complaint there is, one a line, each with its place. A relative
// data.dir is taken from the working directory.
func Load(file string, env []string, flags map[string]string) (*Settings, error) {
	static := map[string]static{}
	var errs []error
	if file != "" {
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		lines, parseErrs := parseProperties(file, body)
		errs = append(errs, parseErrs...)
		first := map[string]string{}
		for _, l := range lines {
			if before, twice := first[l.name]; twice {
				errs = append(errs, &SettingError{Place: l.place, Name: l.name, bare: true,
					Reason: fmt.Sprintf("%s is set twice, first at %s", l.name, before)})
				continue
			}
			first[l.name] = l.place
			errs = append(errs, put(static, l.name, l.value, Origin{Kind: FromFile, Where: l.place}))
		}
	}
	errs = append(errs, loadEnv(static, env)...)
	for _, name := range sortedKeys(flags) {
		where := "flag --set " + name
		if d, ok := find(ScopeBroker, name); ok && d.Flag != "" {
			where = "flag --" + d.Flag
		}
		errs = append(errs, put(static, name, flags[name], Origin{Kind: FromFlag, Where: where}))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return newSettings(static, nil, nil)
}

// Defaults returns the settings of a broker nobody configured.
func Defaults() *Settings {
	s, err := newSettings(nil, nil, nil)
	if err != nil {
		panic("config: the table's own defaults are invalid: " + err.Error()) // impossible: TestDefaultsAreValid
	}
	return s
}

// notSettings are variables with our prefix that other parts of the project use.
var notSettings = []string{"COLDBROOK_CACHE", "COLDBROOK_CONFIG", "COLDBROOK_BOOTSTRAP", "COLDBROOK_HTTP"}

// serviceLink matches what Kubernetes puts into every container of a namespace that has a service
// named coldbrook or coldbrook-…: it is not meant for us.
var serviceLink = regexp.MustCompile(`^COLDBROOK(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)$`)

func loadEnv(into map[string]static, env []string) []error {
	byEnv := map[string]string{}
	for i := range brokerDefs {
		byEnv[EnvName(brokerDefs[i].Name)] = brokerDefs[i].Name
	}
	var errs []error
	env = slices.Clone(env)
	slices.Sort(env)
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !strings.HasPrefix(name, EnvPrefix) || slices.Contains(notSettings, name) {
			continue
		}
		setting, known := byEnv[name]
		where := "environment " + name
		switch {
		case known:
			errs = append(errs, put(into, setting, value, Origin{Kind: FromEnv, Where: where}))
		case serviceLink.MatchString(name):
		default:
			guess := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, EnvPrefix), "_", "."))
			e := unknown(ScopeBroker, guess)
			e.Place = where
			errs = append(errs, e)
		}
	}
	return errs
}

func put(into map[string]static, name, value string, o Origin) error {
	d, ok := find(ScopeBroker, name)
	if !ok {
		e := unknown(ScopeBroker, name)
		e.Place = o.Where
		return e
	}
	v, err := d.check(value)
	if err != nil {
		var se *SettingError
		if errors.As(err, &se) {
			se.Place = o.Where
		}
		return err
	}
	into[name] = static{value: v, origin: o}
	return nil
}

// elsewhere are settings of a Kafka configuration that mean nothing here, and why.
var elsewhere = map[string]string{
	"process.roles":                          "every broker has every role",
	"controller.quorum.voters":               "etcd keeps the metadata: see etcd.endpoints",
	"controller.quorum.bootstrap.servers":    "etcd keeps the metadata: see etcd.endpoints",
	"controller.listener.names":              "etcd keeps the metadata: see etcd.endpoints",
	"zookeeper.connect":                      "etcd keeps the metadata: see etcd.endpoints",
	"metadata.log.dir":                       "etcd keeps the metadata: see etcd.data.dir",
	"broker.id":                              "it is called node.id",
	"port":                                   "see listeners",
	"host.name":                              "see listeners",
	"log.dir":                                "see log.dirs or data.dir",
	"num.network.threads":                    "each connection has its own goroutines",
	"num.io.threads":                         "each connection has its own goroutines",
	"background.threads":                     "there is no such pool",
	"socket.send.buffer.bytes":               "the kernel sizes its buffers",
	"socket.receive.buffer.bytes":            "the kernel sizes its buffers",
	"queued.max.requests":                    "see queued.max.request.bytes",
	"remote.log.storage.manager.class.name":  "see remote.store.url",
	"remote.log.metadata.manager.class.name": "manifests in the object store take its place",
	"remote.log.manager.thread.pool.size":    "see remote.log.manager.copier.thread.pool.size",
	"log.cleaner.enable":                     "nothing is compacted yet",
}

// unknown is the error for a name that is in no table: what it could have meant, or why it is not here.
func unknown(scope Scope, name string) *SettingError {
	e := &SettingError{Name: name, bare: true}
	if scope == ScopeTopic {
		e.Reason = "Unknown topic config name: " + name
	} else {
		e.Reason = "unknown setting " + name
	}
	if scope == ScopeBroker {
		if why, ok := elsewhere[name]; ok {
			e.Hint = "remove it: " + why
			return e
		}
		if d, ok := find(ScopeTopic, name); ok {
			if len(d.Synonyms) > 0 {
				e.Hint = "this is a setting of topics; the broker's default for it is " + d.Synonyms[0].Name
			} else {
				e.Hint = "this is a setting of topics"
			}
			return e
		}
	}
	if near := nearest(scope, name); near != "" {
		e.Hint = "did you mean " + near + "?"
	}
	return e
}

// nearest returns the setting with the smallest edit distance, if it is near enough to be a typo.
func nearest(scope Scope, name string) string {
	defs := brokerDefs
	if scope == ScopeTopic {
		defs = topicDefs
	}
	best, least := "", max(2, len(name)/4)+1
	for i := range defs {
		if defs[i].Internal {
			continue
		}
		if d := distance(name, defs[i].Name); d < least {
			best, least = defs[i].Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance, for names of bounded length.
func distance(a, b string) int {
	if len(a) > 200 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir // no working directory: leave it relative, the first use of it will say so
}
