//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/servers"
)

const walkthroughFile = "../deploy/CLUSTER.md"

// step is a fenced block of commands of the walk-through and the mark above it:
//
//	not run: REASON   nothing can run it here
//	on: MACHINE…      run on each of them, one after the other
//	new: MACHINE…     on machines that are new, also when there was one of that name
//	lost: MACHINE…    on any machine, after these were destroyed
//	anew: MACHINE…    on any machine, when there are these and no others
//	(none)            on any machine
type step struct {
	line     int
	mark     string
	machines []string
	text     string
}

var stepMark = regexp.MustCompile(`^<!-- (not run|on|new|lost|anew): (.+) -->$`)

func steps(t *testing.T) []step {
	t.Helper()
	text, err := os.ReadFile(walkthroughFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []step
	var next step
	open := false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case open && line == "```":
			out, next, open = append(out, next), step{}, false
		case open:
			next.text += line + "\n"
		case line == "```sh":
			next.line, open = i+2, true
		case stepMark.MatchString(line):
			m := stepMark.FindStringSubmatch(line)
			next.mark, next.machines = m[1], strings.Fields(m[2])
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "<!--"), line != "" && next.mark != "":
			t.Fatalf("%s:%d: %q is no block, no mark, or stands between a mark and its block", walkthroughFile, i+1, line)
		}
	}
	if open || len(out) == 0 {
		t.Fatalf("%s: no blocks, or one without an end", walkthroughFile)
	}
	return out
}

// Three machines from nothing, restarts, a lost machine, a fourth one, a replay broker, etcd outside: an
// operator who types what deploy/CLUSTER.md says gets what it says.
func TestWalkThroughOfACluster(t *testing.T) {
	if err := canLink(); err != nil {
		t.Skipf("the machines of the walk-through are network namespaces: %v", err)
	}
	for _, tool := range []string{"bash", "kcat", "curl", "openssl", "nsenter", "chroot"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here: `make tools` installs what is missing", tool)
		}
	}
	w := newWalk(t)
	for _, name := range []string{anyMachine, "broker-1", "broker-2", "broker-3"} {
		w.create(name)
	}
	for _, s := range steps(t) {
		on := s.machines
		switch s.mark {
		case "not run":
			continue
		case "new":
			for _, name := range s.machines {
				w.destroy(name)
				w.create(name)
			}
		case "lost":
			for _, name := range s.machines {
				w.destroy(name)
			}
			// It takes the brokers a moment to see, and the operator longer than that.
			w.run(anyMachine, step{line: s.line, text: "until coldbrook cluster brokers | grep -q away; do sleep 0.2; done"})
			on = []string{anyMachine}
		case "anew":
			for name := range w.machines {
				w.destroy(name)
			}
			for _, name := range append(s.machines, anyMachine) {
				w.create(name)
			}
			on = []string{anyMachine}
		case "":
			on = []string{anyMachine}
		}
		for _, name := range on {
			w.run(name, s)
		}
		if strings.Contains(s.text, "-t history") {
			w.untilReplayed(s)
		}
	}
	out := w.out.String()
	for want, times := range map[string]int{
		"\n100000\n":                3, // records read back: at first, after a machine was lost, and from a replica
		"\n1000000\n":               1, // by the client of the replay broker
		"\n1000\n":                  1, // on the cluster with etcd outside
		"broker 4 holds nothing":    1,
		"forgot broker 4":           1,
		"replay":                    1,
		"3 live of 3 registered":    1,
		"broker.properties is good": 6,
	} {
		if n := strings.Count(out, want); n < times {
			t.Errorf("the commands printed %q %d times, want %d", want, n, times)
		}
	}
	t.Log(out)
}

// anyMachine runs what needs no particular one.
const anyMachine = "operator"

// walk is the machines of the walk-through.
type walk struct {
	t        *testing.T
	ctx      context.Context
	dir      string
	lab      *cluster.Lab
	machines map[string]*machine
	made     int32 // machines so far: each gets an address of its own
	store    string
	replace  *strings.Replacer
	tools    map[string]string // name of a program to its path
	out      strings.Builder
}

// machine is a root directory and a process whose end is the machine's.
type machine struct {
	root, address string
	first         *exec.Cmd
	done          chan struct{}
}

func newWalk(t *testing.T) *walk {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	store := servers.MinIO(t)
	store.Bucket(t, "coldbrook")
	dir, err := os.MkdirTemp("", "coldbrook-walk-")
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{
		t: t, ctx: ctx, dir: dir, machines: make(map[string]*machine), tools: make(map[string]string),
		replace: strings.NewReplacer("minio-user", store.AccessKey, "minio-password", store.SecretKey),
	}
	if w.lab, err = cluster.NewLab(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	if w.store, err = w.lab.Forward(ctx, 9000, strings.TrimPrefix(store.Endpoint, "http://")); err != nil {
		t.Fatal(err)
	}
	if w.tools["coldbrook"], err = binary(); err != nil {
		t.Fatal(err)
	}
	if w.tools["etcd"], err = servers.Binary(ctx, servers.EtcdTool()); err != nil {
		t.Fatal(err)
	}
	w.tools["etcdctl"] = filepath.Join(dir, "etcdctl")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.tools["etcdctl"], "./servers/etcdctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcdctl: %v\n%s", err, out)
	}
	return w
}

func (w *walk) close() {
	if w.t.Failed() {
		w.logs()
	}
	for name := range w.machines {
		w.destroy(name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.lab.Close(ctx); err != nil {
		w.t.Error(err)
	}
	// The mounts of machines were theirs alone. If not, nothing must be removed through them.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(w.dir)) {
		w.t.Errorf("%s has mounts, it is left: %v", w.dir, err)
		return
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

// logs shows what services of the machines printed last.
func (w *walk) logs() {
	for name, m := range w.machines {
		files, err := fs.Glob(os.DirFS(m.root), "var/log/*.log")
		if err != nil {
			w.t.Error(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(m.root, f))
			if err != nil {
				w.t.Error(err)
			}
			w.t.Logf("%s: %s:\n%s", name, f, tail(string(b), 8<<10))
		}
	}
}

// create makes a machine with an empty disk, but for what the operator has brought: bin and deploy.
func (w *walk) create(name string) {
	w.t.Helper()
	w.made++
	space, address, err := w.lab.Join(w.ctx, w.made)
	if err != nil {
		w.t.Fatal(err)
	}
	homes := filepath.Join(w.dir, "machines")
	m := &machine{root: filepath.Join(homes, name), address: address, done: make(chan struct{})}
	local := filepath.Join(w.dir, "local", fmt.Sprintf("%s-%d", name, w.made))
	for _, d := range []string{local, m.root} {
		w.must(os.MkdirAll(d, 0o755))
	}
	w.install(name, m.root, local)
	script, err := filepath.Abs("testdata/walkthrough/machine.sh")
	w.must(err)
	m.first = exec.Command("ip", "netns", "exec", space, script, name, m.root, local, homes)
	m.first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	m.first.Stderr = &errs
	out, err := m.first.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.first.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		defer close(m.done)
		_ = m.first.Wait() // killed
	}()
	if w.machines[name] = m; err != nil || line != "up\n" {
		w.destroy(name)
		w.t.Fatalf("machine %s: %v\n%s", name, err, errs.String())
	}
	w.hosts()
}

// install brings what is not of the machine's own making.
func (w *walk) install(name, root, local string) {
	for _, f := range []string{"systemctl", "rsync"} {
		w.copy("testdata/walkthrough/"+f, filepath.Join(local, "sbin", f))
	}
	for _, f := range []string{"etcd", "etcdctl"} {
		w.copy(w.tools[f], filepath.Join(local, "sbin", f))
	}
	w.must(os.MkdirAll(filepath.Join(local, "bin"), 0o755))
	if name == anyMachine {
		w.copy(w.tools["coldbrook"], filepath.Join(local, "bin/coldbrook"))
	}
	w.copy("testdata/walkthrough/etcd.service", filepath.Join(root, "etc/systemd/system/etcd.service"))
	home := filepath.Join(root, "root")
	w.copy(w.tools["coldbrook"], filepath.Join(home, "bin/coldbrook"))
	err := filepath.WalkDir("../deploy", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// The operator has adapted the files. The store here has no certificate.
		b = bytes.ReplaceAll(b, []byte("secure=true"), []byte("secure=false"))
		if filepath.Ext(path) == ".properties" {
			b = append(b, "log.retention.check.interval.ms=1000\n"...) // what takes minutes
		}
		to := filepath.Join(home, "deploy", strings.TrimPrefix(path, "../deploy/"))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	w.must(err)
}

func (w *walk) copy(from, to string) {
	w.t.Helper()
	b, err := os.ReadFile(from)
	w.must(err)
	w.must(os.MkdirAll(filepath.Dir(to), 0o755))
	w.must(os.WriteFile(to, b, 0o755))
}

func (w *walk) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// hosts tells all machines all names.
func (w *walk) hosts() {
	w.t.Helper()
	text := "127.0.0.1 localhost\n" + w.store + " minio.example.com\n"
	for name, m := range w.machines {
		text += fmt.Sprintf("%s %s.example.com %s\n", m.address, name, name)
	}
	for _, m := range w.machines {
		w.must(os.WriteFile(filepath.Join(m.root, "etc/hosts"), []byte(text), 0o644))
	}
}

// destroy ends a machine without a word.
func (w *walk) destroy(name string) {
	m, ok := w.machines[name]
	if !ok {
		return
	}
	delete(w.machines, name)
	if err := m.first.Process.Kill(); err != nil {
		w.t.Error(err)
	}
	<-m.done
	// Its disk is kept for who wants to know, and its name is free.
	w.must(os.Rename(m.root, fmt.Sprintf("%s-lost-%s", m.root, m.address)))
}

// untilReplayed reads history again until the replay broker has served some of it: local copies have to go
// first.
func (w *walk) untilReplayed(s step) {
	w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		out := w.run("broker-5", step{line: s.line, text: "curl -sf http://127.0.0.1:9644/metrics | grep ^coldbrook_remote_fetch_bytes_total || true"})
		if strings.Contains(out, "coldbrook_remote_fetch_bytes_total") {
			return
		}
		// The same records, from wherever they are.
		if out := w.run(anyMachine, step{line: s.line, text: "kcat -b $COLDBROOK_BOOTSTRAP -X client.rack=a -C -t history -o beginning -e -q | wc -l"}); out != "1000000\n" {
			w.t.Fatalf("a reader of 1000000 records found %s", out)
		}
	}
	w.t.Fatal("the replay broker has served nothing")
}

// runs is how a block is run: what one exports is there in the next one on the same machine.
const runs = `cd; [ ! -f .exports ] || . ./.exports; set -eu -o pipefail
%s
export -p > .exports`

// run runs a block on a machine.
func (w *walk) run(name string, s step) string {
	w.t.Helper()
	m := w.machines[name]
	if m == nil {
		w.t.Fatalf("%s:%d: there is no machine %s", walkthroughFile, s.line, name)
	}
	ctx, cancel := context.WithTimeout(w.ctx, 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.first.Process.Pid), "-m", "-u", "-n", "-p", "chroot", m.root,
		"/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
		"/usr/bin/bash", "-c", fmt.Sprintf(runs, w.replace.Replace(s.text)))
	out, err := cmd.CombinedOutput()
	fmt.Fprintf(&w.out, "\n--- CLUSTER.md:%d on %s\n%s", s.line, name, out)
	if err != nil {
		w.t.Fatalf("%s:%d on %s: %v\n%s%s", walkthroughFile, s.line, name, err, s.text, tail(w.out.String(), 8<<10))
	}
	return string(out)
}
