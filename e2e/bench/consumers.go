package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumers run in a process of their own, this program with --consume, so
// that what they cost can be told from what producers do.
type consumers struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// consumption is what --consume gets as JSON.
type consumption struct {
	Addr   string
	Load   fetchLoad
	Relays *heldRelays // instead of Load
	Length time.Duration
}

func startConsumers(ctx context.Context, what consumption) (*consumers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	c := &consumers{cmd: exec.CommandContext(ctx, self, "--consume", string(arg))}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c, c.cmd.Start()
}

func (c *consumers) pid() int { return c.cmd.Process.Pid }

// wait waits until they have ended by themselves.
func (c *consumers) wait() error {
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("consumers: %w\n%s", err, c.out.Bytes())
	}
	return nil
}

// end kills them if they are still there.
func (c *consumers) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// consume is the other process.
func consume(ctx context.Context, arg string) error {
	var c consumption
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	if c.Relays != nil {
		return c.Relays.run(ctx, c.Length)
	}
	_, err := c.Load.run(ctx, c.Addr, c.Length)
	return err
}

// hold sets the client quota for what a client id reads out of the tier, in
// bytes a second; 0 removes it.
func hold(ctx context.Context, addr, clientID string, rate float64) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	altered, err := kadm.NewClient(cl).AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &clientID}},
		Ops:    []kadm.AlterClientQuotaOp{{Key: "remote_fetch_byte_rate", Value: rate, Remove: rate == 0}},
	}})
	for _, a := range altered {
		err = errors.Join(err, a.Err)
	}
	return err
}

func deleteTopic(ctx context.Context, addr, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).DeleteTopic(ctx, topic)
	return err
}
