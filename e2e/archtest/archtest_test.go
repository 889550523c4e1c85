package archtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/coldbrook/coldbrook/"

// imports is what each package may import of this module: no more, and each
// name has a reason to be there.
var imports = map[string][]string{
	"segment/vfs":    {},
	"segment/record": {},
	"metadata/kv":    {},
	"broker/wire":    {},
	"tiering/memory": {},
	"broker/quota":   {},
	"broker/config":  {},
	"otel":           {},

	"segment/producer": {"segment/record"},
	// Parts of uploads lie outside Go's heap, as cached pieces do.
	"tiering/object": {"tiering/memory"},
	"metadata":       {"metadata/kv"},

	// Pure; topics and partitions have metadata's ids.
	"tiering/manifest": {"metadata"},
	// Pure; the index and the manifest's entry of a segment come from one scan.
	"tiering/index": {"segment/record", "tiering/manifest"},

	"segment": {"segment/vfs", "segment/record", "segment/producer", "metadata"},
	// A bucket without brokers: what it takes to read one, and etcd's types.
	"tiering/bucket": {"metadata", "tiering/index", "tiering/manifest", "tiering/object"},
	// From the bucket alone; what comes back is in etcd's types.
	"tiering/restore": {"metadata", "tiering/bucket", "tiering/manifest", "tiering/object"},
	// Segments of a log go up, in manifests that the leader commits.
	"tiering/upload": {"metadata", "segment", "segment/record", "tiering/bucket", "tiering/index", "tiering/manifest", "tiering/object"},
	// What readers of a log ask for, in the log's types; producers' snapshots say which transactions are open.
	"tiering/read": {"metadata", "segment", "segment/producer", "segment/record",
		"tiering/bucket", "tiering/cache", "tiering/index", "tiering/manifest", "tiering/object"},
	// Retention goes over the log and the tier. Who leads what, and how a segment is put back, it is told by the manager.
	"tiering/gc": {"metadata", "segment", "tiering/bucket", "tiering/index", "tiering/manifest", "tiering/object"},
	// A ledger is told of requests and knows whose folder a key lies in.
	"tiering/cost": {"metadata", "tiering/manifest", "tiering/object"},
	// The second level of the cache is a directory.
	"tiering/cache": {"segment/vfs", "tiering/memory"},

	// The manager puts them together.
	"tiering": {"metadata", "segment", "tiering/bucket", "tiering/cache", "tiering/cost", "tiering/gc", "tiering/manifest", "tiering/object",
		"tiering/read", "tiering/upload"},
	"metadata/controller": {"metadata"},
	"broker/auth":         {},

	// A fetch reserves its client's part of the tier before it reads.
	"broker/replica":     {"broker/quota", "broker/wire", "segment", "metadata"},
	"broker/coordinator": {"segment/record"},
	// An internal topic in memory, for the tests of both coordinators.
	"broker/coordinator/internal/memlog": {"broker/coordinator", "segment/record"},

	// Offsets are kept in record batches; Kafka's group messages are kmsg's.
	"broker/coordinator/group": {"broker/coordinator", "segment/record"},

	"broker/api": {"broker/auth", "broker/config", "broker/coordinator/group", "broker/quota", "broker/replica", "broker/wire",
		"metadata", "metadata/controller", "segment", "segment/producer", "segment/record"},
	// The settings page shows settings as DescribeConfigs does.
	"broker/console": {"broker/config"},

	"broker": {"broker/api", "broker/auth", "broker/config", "broker/console", "broker/coordinator", "broker/coordinator/group",
		"broker/quota", "broker/replica", "broker/wire", "metadata", "metadata/controller", "metadata/kv",
		"segment", "segment/record", "segment/vfs",
		"tiering", "tiering/bucket", "tiering/cache", "tiering/cost", "tiering/gc", "tiering/object", "tiering/restore", "tiering/upload"},
}

// above may import anything below cmd and e2e.
var above = []string{"cmd/", "e2e"}

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", module+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestPackagesImportOnlyWhatIsBelowThem(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 || slices.ContainsFunc(above, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		seen[name] = true
		allowed, known := imports[name]
		if !known {
			t.Errorf("package %s is not in the table", name)
			continue
		}
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, module); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, which the table does not allow", name, to)
			}
		}
	}
	for name := range imports {
		if !seen[name] {
			t.Errorf("the table names package %s, which does not exist", name)
		}
	}
}

func TestEveryPackageSaysWhatItHides(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// maxLines is where a file has more than one subject.
const maxLines = 800

func TestFilesHaveOneSubject(t *testing.T) {
	eachFile(t, func(path string, lines []string, _ bool) {
		if len(lines) > maxLines {
			t.Errorf("%s has %d lines, more than %d", path, len(lines), maxLines)
		}
	})
}

// banned is what must not be written, and where it may be all the same.
var banned = []struct {
	what    string
	pattern *regexp.Regexp
	tests   bool     // counts in tests too
	except  []string // prefixes of paths
}{
	{"context.Background below cmd: pass a context", regexp.MustCompile(`context\.(Background|TODO)\(\)`), false, []string{"cmd/", "e2e/"}},
	{"time.Sleep: wait for a condition", regexp.MustCompile(`time\.Sleep\(`), false, []string{"e2e/"}},
	{"fmt.Print: log or return", regexp.MustCompile(`fmt\.Print(ln|f)?\(`), false, []string{"cmd/", "e2e/"}},
	{"functions of sync/atomic: use the types", regexp.MustCompile(`atomic\.(Add|Load|Store|Swap|CompareAndSwap)(Int|Uint|Pointer)`), true, nil},
	{"os.Is…: use errors.Is", regexp.MustCompile(`os\.Is(NotExist|Exist|Permission)\(`), true, nil},
	{"init functions: construct explicitly", regexp.MustCompile(`^func init\(\)`), true, nil},
	{"an error that is not wrapped: use %w", regexp.MustCompile(`(?:return|=).*fmt\.Errorf\("(?:[^"%]|%[^w])*",[^)]*\berr\)$`), false, nil},
}

func TestHouseRules(t *testing.T) {
	eachFile(t, func(path string, lines []string, test bool) {
		for _, b := range banned {
			if test && !b.tests || slices.ContainsFunc(b.except, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
				continue
			}
			for n, line := range lines {
				code, _, _ := strings.Cut(line, "//")
				if b.pattern.MatchString(code) && !strings.HasPrefix(path, "e2e/archtest/") {
					t.Errorf("%s:%d: %s", path, n+1, b.what)
				}
			}
		}
	})
}

// kafkaErrors may be used in api only, and in group, whose answers are Kafka's
// messages; clients read them.
var kafkaErrors = []string{"broker/api/", "broker/coordinator/group/", "cmd/", "e2e/"}

func TestKafkaErrorCodesLiveInAPI(t *testing.T) {
	eachFile(t, func(path string, lines []string, test bool) {
		if test || slices.ContainsFunc(kafkaErrors, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			return
		}
		for n, line := range lines {
			if strings.Contains(line, "franz-go/pkg/kerr") {
				t.Errorf("%s:%d: Kafka's error codes belong to broker/api", path, n+1)
			}
		}
	})
}

func eachFile(t *testing.T, check func(path string, lines []string, test bool)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), "coldbrook-data")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var lines []string
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			lines = append(lines, s.Text())
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		check(filepath.ToSlash(rel), lines, strings.HasSuffix(path, "_test.go"))
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
