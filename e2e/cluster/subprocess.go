package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// subprocess runs the broker's binary.
type subprocess struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of the process, once done is closed
}

func (s *subprocess) start(_ context.Context, b *Broker) error {
	if err := os.MkdirAll(b.o.Dir, 0o755); err != nil {
		return err
	}
	args := append([]string{b.o.Binary}, b.arguments(b.o.Dir)...)
	if !b.listens() {
		args = append(args, "--listen", b.kafka, "--http", b.http)
	}
	if b.o.Namespace != "" { // ip becomes the broker: same process
		args = append([]string{"ip", "netns", "exec", b.o.Namespace}, args...)
	}
	s.cmd = exec.Command(args[0], args[1:]...) // lives as long as the test wants, not as long as a context
	// The tests' own variables are no settings of the broker's.
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "COLDBROOK_") })
	s.cmd.Env = append(s.cmd.Env, b.environment()...)
	s.cmd.Stdout, s.cmd.Stderr = &b.log, &b.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = s.cmd.Wait()
	}()
	return nil
}

func (s *subprocess) kill() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.done
	return nil
}

func (s *subprocess) stop(ctx context.Context) error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.kill())
	}
}

func (s *subprocess) pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

func (s *subprocess) resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

func (s *subprocess) loseDisk(_ context.Context, b *Broker) error { return os.RemoveAll(b.o.Dir) }

func (s *subprocess) ended() error {
	select {
	case <-s.done:
		return errors.Join(s.err, errEnded)
	default:
		return nil
	}
}

func (s *subprocess) pid() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}
