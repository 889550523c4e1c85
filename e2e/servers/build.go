package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
)

// Tool is a server that Go can build.
type Tool struct {
	Name    string // of the binary
	Package string // import path of its main package
	Version string // module version
	Ours    bool   // the package is of this module, and what it is made of has Version
}

// MinIOTool returns what MinIO servers are built from: its last release that is still a Go module.
func MinIOTool() Tool {
	return Tool{Name: "minio", Package: "github.com/minio/minio", Version: "v0.0.0-20260212201848-7aac2a2c5b7c"}
}

// VersityTool returns what versitygw servers are built from.
func VersityTool() Tool {
	return Tool{Name: "versitygw", Package: "github.com/versity/versitygw/cmd/versitygw", Version: "v1.8.0"}
}

// EtcdTool returns what etcd servers are built from. etcd's module has replace
// directives, with which `go install` refuses it.
func EtcdTool() Tool {
	return Tool{Name: "etcd", Package: "github.com/coldbrook/coldbrook/e2e/servers/etcd", Version: "v" + version.Version, Ours: true}
}

// CacheDir is $COLDBROOK_CACHE or a folder of the user's cache directory. It may not exist yet.
func CacheDir() (string, error) {
	if dir := os.Getenv("COLDBROOK_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache directory: %w (set COLDBROOK_CACHE)", err)
	}
	return filepath.Join(dir, "coldbrook"), nil
}

// Binary returns the path of t's binary and builds it first when it is missing or of another
// version. Building MinIO takes minutes; ctx bounds it. Safe across processes.
func Binary(ctx context.Context, t Tool) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(bin, t.Name)
	if builtFrom(path, t) {
		return path, nil
	}
	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("lock %s.lock: %w", path, err)
	}
	defer unlock()
	if builtFrom(path, t) { // by whoever held the lock
		return path, nil
	}
	return path, build(ctx, t, bin)
}

// builtFrom reports whether path holds a binary of t's very version. `go install` renames the
// finished binary into place, so what is there is whole.
func builtFrom(path string, t Tool) bool {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	mark, err := os.ReadFile(path + ".version")
	return err == nil && strings.TrimSpace(string(mark)) == t.Version
}

func build(ctx context.Context, t Tool, bin string) error {
	temp, err := os.MkdirTemp(bin, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	args := []string{"install", "-trimpath", "-ldflags=-s -w", t.Package + "@" + t.Version}
	if t.Ours {
		args = []string{"build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(temp, t.Name), t.Package}
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if !t.Ours {
		cmd.Dir = temp // outside any module
		cmd.Env = append(cmd.Env, "GOBIN="+temp)
	}
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, tail(out))
	}
	path := filepath.Join(bin, t.Name)
	if err := os.Rename(filepath.Join(temp, t.Name), path); err != nil {
		return err
	}
	return os.WriteFile(path+".version", []byte(t.Version+"\n"), 0o644)
}

func tail(out []byte) string {
	const most = 2000
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return strings.TrimSpace(string(out))
}
