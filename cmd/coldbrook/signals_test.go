package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// runsCommand makes the test binary the command, for what only a process of its own can show.
const runsCommand = "TEST_RUNS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(runsCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a broker in a process of its own.
type process struct {
	*exec.Cmd
	kafka    string
	out, err *os.File // the reading ends
}

// apartEnv has the test binary be the command, whatever settings and paths the tests themselves were given.
func apartEnv() []string {
	own := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "COLDBROOK_") })
	return append(own, runsCommand+"=1")
}

// serveApart starts a broker with its streams in pipes; shell runs first, in the process that becomes the broker.
func serveApart(t *testing.T, dir, shell string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", dir}, args...)
	p := &process{Cmd: exec.Command("/bin/sh", append([]string{"-c", shell + `; exec "$0" "$@"`, self}, args...)...)}
	p.Env = apartEnv()
	var writers [2]*os.File
	for i, end := range []**os.File{&p.out, &p.err} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		*end, writers[i] = r, w
		t.Cleanup(func() { _ = r.Close() })
	}
	p.Stdout, p.Stderr = writers[0], writers[1]
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	for _, w := range writers {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// ready waits for the banner.
func (p *process) ready(t *testing.T) {
	t.Helper()
	place := regexp.MustCompile(`^ +Kafka +(\S+)$`)
	lines := bufio.NewScanner(p.out)
	for lines.Scan() {
		if m := place.FindStringSubmatch(lines.Text()); m != nil {
			p.kafka = m[1]
		}
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			return
		}
	}
	said, _ := io.ReadAll(p.err) // it has ended
	t.Fatalf("not ready: %s", said)
}

// signal sends signals one right after the other and returns the exit code.
func (p *process) signal(t *testing.T, all ...os.Signal) int {
	t.Helper()
	for _, s := range all {
		if err := p.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.Wait() // its error is the exit code
	return p.ProcessState.ExitCode()
}

// The terminal closes, or tee or a log collector is restarted: nothing of that is a reason to lose a broker, or to stop
// it other than in order.
func TestBrokerOutlivesTheReaderOfItsLogAndStopsInOrder(t *testing.T) {
	t.Parallel()
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP) // or the brokers ignore it where the tests do, as under nohup
	defer signal.Stop(heard)
	for _, c := range []struct {
		shell   string
		signals []os.Signal
	}{
		{":", []os.Signal{syscall.SIGHUP, syscall.SIGHUP}},  // the terminal's and the shell's
		{":", []os.Signal{syscall.SIGTERM, syscall.SIGHUP}}, // systemd with SendSIGHUP=
		{"trap '' HUP", []os.Signal{syscall.SIGTERM}},       // nohup
	} {
		p := serveApart(t, filepath.Join(t.TempDir(), "data"), c.shell, "--set", "log.level=debug")
		p.ready(t)
		for _, f := range []*os.File{p.out, p.err} {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, line := range []string{"topic create t", "topic describe t"} { // connections, which are logged
			if code, _, errs := command(t, "", append(strings.Fields(line), "-b", p.kafka)...); code != 0 {
				t.Fatalf("%s: exit code %d: %s", line, code, errs)
			}
		}
		if strings.HasPrefix(c.shell, "trap") {
			if err := p.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if code, _, errs := command(t, "", "topic", "list", "-b", p.kafka); code != 0 {
				t.Fatalf("after a SIGHUP that is ignored: %s", errs)
			}
		}
		if code := p.signal(t, c.signals...); code != 0 {
			t.Errorf("%s, %v: %s", c.shell, c.signals, p.ProcessState)
		}
	}
}

// A command whose reader leaves ends quietly, as Unix has it.
func TestCommandsEndWithTheirReader(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/sh", "-c", `"$0" config reference | head -n 1`, self)
	c.Env = apartEnv()
	if out, err := c.CombinedOutput(); err != nil || bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// Every character that a directory may have is no more than a character.
func TestDataDirectoryMayHaveAnyName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a#b?c%d%20e f+&é日\n\"'[v6]:\\")
	kafka, _, _, _, stop := serveHere(t, "--data-dir", dir)
	if code, _, errs := command(t, "", "topic", "create", "t", "-b", kafka); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"objects", "etcd", "t-0", "meta.properties"} {
		if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
			t.Error(err)
		}
	}
	if beside, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(beside) != 1 {
		t.Errorf("%v %v", beside, err)
	}
	if code, out, errs := command(t, "", "doctor", "--data-dir", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"); !strings.Contains(out+errs, "put, get, list and delete") {
		t.Errorf("doctor: %d %s%s", code, out, errs)
	}
}

// etcd would end the process by itself, and say only that "it" needs more.
func TestFewOpenFilesAreOneClearLine(t *testing.T) {
	t.Parallel()
	p := serveApart(t, filepath.Join(t.TempDir(), "data"), "ulimit -n 100")
	said, err := io.ReadAll(p.err)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // its error is the exit code
	want := "coldbrook: open files: too few open files are allowed: 100, and a broker needs at least 256 before it has partitions and clients\nraise the limit of open files: LimitNOFILE= of the service, or ulimit -n 65536 before the start\n"
	if code := p.ProcessState.ExitCode(); code != exitFailed || string(said) != want {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
}
