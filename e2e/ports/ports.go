// Package ports gives tests and benchmarks addresses for servers that stop and come back, or whose
// address others are told before they start.
//
// A port that the kernel picked and that was then closed is free to be picked again: for an outgoing
// connection of any process, at the moment the server that keeps it is away. So these ports are below
// the range from which kernels pick, and each is claimed, until this process ends, by a UDP socket of the
// same number, which other processes that ask here respect. Concurrent use is safe.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Below 32768, where Linux begins to pick ports of its own, and above what servers like to listen on.
const (
	first = 12000
	end   = 32000
)

const attempts = 1000

// The claims live as long as the process: a finalizer would close a socket that nobody holds.
var (
	mu     sync.Mutex
	claims []net.PacketConn
)

// Free returns an address host:port nobody listens on.
func Free(host string) (string, error) {
	row, err := Row(host, 1)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// Row returns n addresses of host with consecutive ports nobody listens on, n at least 1.
func Row(host string, n int) ([]string, error) {
	var err error
	for range attempts {
		port := first + rand.IntN(end-first-n)
		var row []string
		var claimed []net.PacketConn
		for i := range n {
			at := net.JoinHostPort(host, strconv.Itoa(port+i))
			var c net.PacketConn
			if c, err = claim(at); err != nil {
				break
			}
			row, claimed = append(row, at), append(claimed, c)
		}
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			claims = append(claims, claimed...)
			return row, nil
		}
		for _, c := range claimed {
			c.Close()
		}
	}
	return nil, fmt.Errorf("no %d free ports in a row on %s: %w", n, host, err)
}

func claim(at string) (net.PacketConn, error) {
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", at)
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
