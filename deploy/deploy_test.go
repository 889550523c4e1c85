// Package deploy holds the files that put Coldbrook on machines; its tests hold
// them against the programs that read them.
package deploy

import (
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/coldbrook/coldbrook/broker/config"
)

func TestComposeFileStartsBrokerAndMinIO(t *testing.T) {
	b, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Image   string
			Build   struct{ Context, Dockerfile string }
			Command []string
			Volumes []string
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	broker, ok := file.Services["coldbrook"]
	if !ok || len(file.Services) != 2 || file.Services["minio"].Image == "" {
		t.Fatalf("services: %v, want coldbrook and minio", file.Services)
	}
	if _, err := os.Stat(filepath.Join(broker.Build.Context, broker.Build.Dockerfile)); err != nil {
		t.Errorf("the broker's Dockerfile: %v", err)
	}
	checkServe(t, nil, broker.Command)
	// The MinIO of the file has no certificate; to a host that is not this one the driver speaks TLS unless told.
	if !slices.Contains(broker.Command, "--store=minio://minio:9000/coldbrook?secure=false") {
		t.Errorf("the broker's command has no store without TLS: %q", broker.Command)
	}
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("service %s mounts volume %s, which is not declared", name, volume)
			}
		}
	}
	checkCompose(t, "compose.yaml")
}

// checkCompose asks docker compose, where there is one, what it thinks of a file.
func checkCompose(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "docker", "compose", "version").CombinedOutput(); err != nil {
		t.Logf("no docker compose here, %s was only parsed: %s", file, out)
		return
	}
	cmd := exec.CommandContext(t.Context(), "docker", "compose", "-f", file, "config", "--quiet")
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER=user", "MINIO_ROOT_PASSWORD=password")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("docker compose config: %v\n%s", err, out)
	}
}

func TestImageRunsWhatTheMakefileBuilds(t *testing.T) {
	var from, to string
	var entrypoint, cmd []string
	for line := range lines(t, "Dockerfile") {
		var err error
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "COPY":
			from, to, _ = strings.Cut(rest, " ")
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &entrypoint)
		case "CMD":
			err = json.Unmarshal([]byte(rest), &cmd)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if len(entrypoint) != 1 || entrypoint[0] != to {
		t.Errorf("the entry point is %q, the binary is copied to %q", entrypoint, to)
	}
	checkServe(t, nil, cmd)
	for line := range lines(t, "../Makefile") {
		if name, path, ok := strings.Cut(line, ":="); ok && strings.TrimSpace(name) == "BIN" {
			if path = strings.TrimSpace(path); path != from {
				t.Errorf("the Dockerfile copies %q, make build writes %q", from, path)
			}
			return
		}
	}
	t.Error("the Makefile does not say where it builds to")
}

func lines(t *testing.T, path string) iter.Seq[string] {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitSeq(string(b), "\n")
}

// built is the directory of a program built here, once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coldbrook-deploy-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "../cmd/coldbrook").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build broker: %w\n%s", err, out)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("COLDBROOK_BINARY") == "" {
		if dir, _ := built(); dir != "" { // its error has been seen
			_ = os.RemoveAll(dir) // in the directory for what is temporary
		}
	}
	os.Exit(code)
}

// binary is the broker's program: the one the Makefile built, or one built here.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("COLDBROOK_BINARY"); path != "" {
		return path
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "coldbrook")
}

var flag = regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[\w-]+)`)

// checkServe holds a command line of `serve` against its help and, through
// `config print`, which takes the same flags, the values against their settings.
// env is the environment, and all there is of it.
func checkServe(t *testing.T, env, args []string) {
	t.Helper()
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("%q is no serve command", args)
	}
	path := binary(t)
	out, err := exec.CommandContext(t.Context(), path, "serve", "--help").Output()
	if err != nil {
		t.Fatalf("serve --help: %v", err)
	}
	known := make(map[string]bool)
	for _, m := range flag.FindAllSubmatch(out, -1) {
		known[string(m[1])] = true
	}
	for _, arg := range args[1:] {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "-") && !known[name] {
			t.Errorf("serve has no flag %s", name)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"config", "print"}, args[1:]...)...)
	cmd.Env = append([]string{}, env...) // none of this machine's settings
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%q: %v\n%s", args, err, out)
	}
}

func TestUnitIsValidAndHardened(t *testing.T) {
	b, err := os.ReadFile("coldbrook.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ExecStart=/usr/local/bin/coldbrook serve", "LimitNOFILE=", "NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=on-failure", "[Install]"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("coldbrook.service lacks %s", want)
		}
	}
	for line := range lines(t, "coldbrook.service") {
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			command = strings.ReplaceAll(command, "/etc/coldbrook/broker.properties", "broker.properties")
			checkServe(t, nil, strings.Fields(command)[1:])
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here, the unit was only read")
		return
	}
	// verify wants the program to exist.
	unit := strings.ReplaceAll(string(b), "/usr/local/bin/coldbrook", "/bin/true")
	path := filepath.Join(t.TempDir(), "coldbrook.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	// What it does not know it warns of and lets pass.
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestExampleConfigurationIsValid(t *testing.T) {
	if _, err := config.Load("broker.properties", nil, nil); err != nil {
		t.Error(err)
	}
}
