package main

import (
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// distance is a server further away: what is sent to it arrives late, what it
// answers at once. Each GET takes that much longer.
type distance struct {
	l    net.Listener
	to   string
	late time.Duration
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func startDistance(endpoint string, late time.Duration) (*distance, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &distance{l: l, to: u.Host, late: late}
	d.wg.Go(d.serve)
	return d, nil
}

func (d *distance) endpoint() string { return "http://" + d.l.Addr().String() }

func (d *distance) close() {
	d.l.Close()
	d.mu.Lock()
	for _, c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *distance) serve() {
	for {
		near, err := d.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", d.to)
		if err != nil {
			near.Close()
			continue
		}
		d.mu.Lock()
		d.conns = append(d.conns, near, far)
		d.mu.Unlock()
		d.wg.Go(func() {
			defer near.Close()
			_, _ = io.Copy(near, far)
		})
		d.wg.Go(func() {
			defer far.Close()
			b := make([]byte, 64<<10)
			for {
				n, err := near.Read(b)
				if err != nil {
					return
				}
				time.Sleep(d.late)
				if _, err := far.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
}
