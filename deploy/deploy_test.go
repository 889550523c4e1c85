// Package deploy holds the files that put Coldbrook on machines; its tests hold
// them against the programs that read them.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("service %s mounts volume %s, which is not declared", name, volume)
			}
		}
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "compose", "version").CombinedOutput(); err == nil {
		cmd := exec.CommandContext(t.Context(), "docker", "compose", "-f", "compose.yaml", "config", "--quiet")
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER=user", "MINIO_ROOT_PASSWORD=password")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("docker compose config: %v\n%s", err, out)
		}
	} else {
		t.Logf("no docker compose here, the file was only parsed: %s", out)
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
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestExampleConfigurationIsValid(t *testing.T) {
	if _, err := config.Load("broker.properties", nil, nil); err != nil {
		t.Error(err)
	}
}
