package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/broker/api"
	"github.com/coldbrook/coldbrook/broker/config"
	"github.com/coldbrook/coldbrook/e2e/ports"
	"github.com/coldbrook/coldbrook/e2e/scenario"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

var update = flag.Bool("update", false, "write the tables of README.md that come from the code")

const readmeFile = "../README.md"

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shellBlock is a fenced block of commands.
type shellBlock struct {
	line   int    // of its first command in README.md
	notRun string // why a test cannot run it; empty: it is run
	text   string
}

var notRunMark = regexp.MustCompile(`^<!-- not run: (.+) -->$`)

// shellBlocks returns the blocks fenced as sh, in order.
func shellBlocks(t *testing.T, text string) []shellBlock {
	t.Helper()
	var blocks []shellBlock
	var open *shellBlock
	reason := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case open != nil && line == "```":
			blocks = append(blocks, *open)
			open, reason = nil, ""
		case open != nil:
			open.text += line + "\n"
		case line == "```sh":
			open = &shellBlock{line: i + 2, notRun: reason}
		case notRunMark.MatchString(line):
			reason = notRunMark.FindStringSubmatch(line)[1]
		case line != "" && reason != "":
			t.Errorf("README.md:%d: %q stands between a not-run mark and its block", i+1, line)
		}
	}
	if open != nil {
		t.Errorf("README.md:%d: a block without an end", open.line)
	}
	return blocks
}

// A reader who types what README.md says gets what it says: all blocks run, in order, in one shell
// against brokers with README's flags, and each command has to succeed.
func TestREADMECommands(t *testing.T) {
	for _, tool := range []string{"bash", "kcat", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here: `make tools` installs what is missing", tool)
		}
	}
	store := servers.MinIO(t)
	store.Bucket(t, "coldbrook")
	store.Bucket(t, "my-bucket")
	kafka, http := freeAddress(t), freeAddress(t)
	// What a reader has to replace too, and the ports, which may be taken.
	real := strings.NewReplacer("127.0.0.1:9092", kafka, "127.0.0.1:9644", http,
		"127.0.0.1:9093", freeAddress(t), "127.0.0.1:9645", freeAddress(t), "127.0.0.1:9094", freeAddress(t), "127.0.0.1:9646", freeAddress(t),
		"127.0.0.1:2380", freePair(t), "127.0.0.1:2480", freePair(t), "127.0.0.1:2580", freePair(t),
		"127.0.0.1:9000", strings.TrimPrefix(store.Endpoint, "http://"),
		"minio-user", store.AccessKey, "minio-password", store.SecretKey, "aws-key", store.AccessKey, "aws-secret", store.SecretKey,
		"region=eu-central-1", "region="+store.Region+"&endpoint="+store.Endpoint, "https://s3.example.com", store.Endpoint)
	script := shellPreamble
	for _, b := range shellBlocks(t, readme(t)) {
		if b.notRun == "" {
			script += fmt.Sprintf("at %d\n%s", b.line, real.Replace(b.text))
		}
	}
	out, err := shell(t, script, kafka, http)
	if err != nil {
		at := regexp.MustCompile(`(?m)^at README\.md:\d+$`).FindAllString(out, -1)
		t.Fatalf("%v, %s\n%s", err, at[max(len(at)-1, 0):], tail(out, 8<<10))
	}
	for _, want := range []string{
		"order-1 paid",      // kcat has read what it wrote
		"order-1=created",   // the command line too
		"REMOTE TO",         // tier status
		"USD/DAY",           // tier cost
		"COLD BYTES",        // group describe
		"coldbrook_remote_", // metrics
		"\n1000000\n",       // the last record, after its segments were uploaded
		"broker.properties is good",
		"3 live of 3 registered", // a cluster
		"elected ",               // its leaders
		"moved 1 partition in ",  // its partitions
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands did not print %q", want)
		}
	}
	if t.Failed() {
		t.Log(tail(out, 8<<10))
	}
}

// shellPreamble runs `coldbrook serve` in the background, as the reader does in another terminal,
// and ends those before it, unless it is a cluster's, which wait for each other.
const shellPreamble = `set -eu -o pipefail
brokers=
members=
at() { echo "at README.md:$1"; }
end_brokers() {
	[ -z "$brokers" ] || kill -INT $brokers
	for broker in $brokers; do
		wait $broker || { cat serve.*.log; brokers=; exit 1; }
	done
	brokers= members=
	rm -f serve.*.log
}
trap end_brokers EXIT
coldbrook() {
	[ "$1" = serve ] || { command coldbrook "$@"; return; }
	case " $* " in
	*" --etcd-peers "*) [ -n "$members" ] || end_brokers; members=1 ;;
	*) end_brokers ;;
	esac
	command coldbrook "$@" > serve.$RANDOM.log 2>&1 &
	brokers="$brokers $!"
	[ -z "$members" ] || return 0
	until command coldbrook topic list > /dev/null 2>&1; do
		kill -0 $brokers 2> /dev/null || { cat serve.*.log; brokers=; exit 1; }
	done
}
`

// shell runs a script in a directory that has what a checkout has, with the binary in its PATH. Brokers
// in it listen on the given addresses unless told otherwise, and do in moments what takes minutes.
func shell(t *testing.T, script, kafka, http string) (string, error) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs("../deploy")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(deploy, filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(bin, "coldbrook")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(without(os.Environ(), "COLDBROOK_", "AWS_", "MINIO_", "OTEL_"), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir,
		"COLDBROOK_BOOTSTRAP="+kafka, "COLDBROOK_HTTP="+http, "COLDBROOK_LISTENERS="+kafka, "COLDBROOK_HTTP_LISTEN="+http)
	for name, value := range scenario.Settings() {
		cmd.Env = append(cmd.Env, config.EnvName(name)+"="+value)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the broker with it
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	return out.String(), err
}

// without leaves out variables whose names start with one of the prefixes.
func without(env []string, prefixes ...string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(kv, p) })
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return freeRow(t, 1)[0]
}

// freePair is a free address whose port has a free neighbour below, for an etcd member's clients.
func freePair(t *testing.T) string {
	t.Helper()
	return freeRow(t, 2)[1]
}

func freeRow(t *testing.T, n int) []string {
	t.Helper()
	row, err := ports.Row("127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// What no test can run must at least exist: make targets, files of the tree, commands and flags.
func TestREADMENamesWhatExists(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	text := readme(t)
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^make ([a-z0-9]+)|`make ([a-z0-9]+)`").FindAllStringSubmatch(text, -1) {
		if target := m[1] + m[2]; !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
			t.Errorf("the Makefile has no target %s", target)
		}
	}
	for _, file := range regexp.MustCompile(`\bdeploy/[\w./-]*\w|\]\(([^)#:]+)\)`).FindAllString(text, -1) {
		file = strings.TrimSuffix(strings.TrimPrefix(file, "]("), ")")
		if _, err := os.Stat(filepath.Join("..", file)); err != nil {
			t.Error(err)
		}
	}
	for _, b := range shellBlocks(t, text) {
		if b.notRun == "" {
			continue
		}
		for line := range strings.Lines(b.text) {
			args := strings.Fields(line)
			if len(args) == 0 || args[0] != "coldbrook" {
				continue
			}
			// Flags are read before --help is obeyed.
			if out, err := exec.CommandContext(t.Context(), path, append(args[1:], "--help")...).CombinedOutput(); err != nil {
				t.Errorf("README.md:%d: %s: %v\n%s", b.line, strings.TrimSpace(line), err, out)
			}
		}
	}
	// Names with dots are settings, but for some files.
	for _, m := range regexp.MustCompile("`([a-z]+(?:\\.[a-z]+)+)(?:=[^`]*)?`").FindAllStringSubmatch(text, -1) {
		_, ofBroker := config.Find(config.ScopeBroker, m[1])
		_, ofTopic := config.Find(config.ScopeTopic, m[1])
		if !ofBroker && !ofTopic && !slices.Contains([]string{"topic.json", "go.mod"}, m[1]) {
			t.Errorf("there is no setting %s", m[1])
		}
	}
}

// The tables are written by -update; without it they have to be what it would write.
func TestREADMETables(t *testing.T) {
	old := readme(t)
	text := between(t, old, "<!-- settings: ", "<!-- settings end -->", func(body string) string { return settingsTable(t, body) })
	text = between(t, text, "<!-- apis: ", "<!-- apis end -->", func(string) string { return apiTable() })
	if !strings.Contains(text, "<!-- measured: begin -->\n") || !strings.Contains(text, "<!-- measured: end -->\n") {
		t.Error("README.md has lost the marks around what is measured")
	}
	if *update {
		if err := os.WriteFile(readmeFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(old, text); d != "" {
		t.Errorf("README.md is not what the code says (-README +code; `go test ./e2e -run README -update` writes it):\n%s", d)
	}
}

// between replaces the lines between the line that starts with from and the line to.
func between(t *testing.T, text, from, to string, replace func(body string) string) string {
	t.Helper()
	start := strings.Index(text, from)
	end := strings.Index(text, to)
	if start < 0 || end < start {
		t.Fatalf("README.md has no %s and %s", from, to)
	}
	start += strings.IndexByte(text[start:], '\n') + 1
	return text[:start] + replace(text[start:end]) + text[end:]
}

func apiTable() string {
	var b strings.Builder
	b.WriteString("| Key | API | Versions |\n| --- | --- | --- |\n")
	for _, v := range api.Versions() {
		versions := fmt.Sprintf("%d–%d", v.Min, v.Max)
		if v.Min == v.Max {
			versions = strconv.Itoa(int(v.Max))
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", v.Key, v.Name, versions)
	}
	return b.String()
}

// settingsTable writes the defaults into the rows. Those above "**Topic**" are brokers' settings.
func settingsTable(t *testing.T, body string) string {
	t.Helper()
	var b strings.Builder
	scope := config.ScopeBroker
	row := regexp.MustCompile("^\\| `([a-z0-9.]+)` \\|[^|]*\\|(.*)\\|$")
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "**Topic**") {
			scope = config.ScopeTopic
		}
		if m := row.FindStringSubmatch(line); m != nil {
			d, ok := config.Find(scope, m[1])
			if !ok {
				t.Errorf("there is no %s setting %s", scope, m[1])
			}
			line = fmt.Sprintf("| `%s` | %s |%s|", m[1], shownDefault(d), m[2])
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// shownDefault is the default of a setting, and in brackets what a large number means.
func shownDefault(d config.Def) string {
	v, ok := d.DefaultValue()
	switch {
	case !ok:
		return "none"
	case v == "":
		return "empty"
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return "`" + v + "`"
	}
	said := ""
	switch {
	case n == math.MaxInt64 || n == math.MaxInt32:
		said = "no limit"
	case d.Unit == config.Bytes:
		said = inUnits(n, 1<<30, "GiB", 1<<20, "MiB", 1<<10, "KiB")
	case d.Unit == config.Milliseconds:
		said = inUnits(n, 86400000, "d", 3600000, "h", 60000, "min", 1000, "s")
	case d.Unit == config.Minutes:
		said = inUnits(n, 1440, "d", 60, "h")
	}
	if said != "" {
		said = " (" + said + ")"
	}
	return "`" + v + "`" + said
}

// inUnits writes n in the largest unit that is in it; units come in pairs of size and name.
func inUnits(n int64, units ...any) string {
	for i := 0; i < len(units); i += 2 {
		size := int64(units[i].(int))
		switch {
		case n >= size && n%size == 0:
			return fmt.Sprintf("%d %s", n/size, units[i+1])
		case n >= size && size > 1000: // as max.message.bytes, 1 MiB and a bit
			return fmt.Sprintf("%.3g %s", float64(n)/float64(size), units[i+1])
		}
	}
	return ""
}
