package ports

import (
	"net"
	"strconv"
	"testing"
)

func port(t *testing.T, at string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNobodyElseGetsAPort(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		at, err := Free("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if seen[at] {
			t.Errorf("%s given twice", at)
		}
		seen[at] = true
		if p := port(t, at); p < first || p >= end {
			t.Errorf("port %d is among those that the kernel gives to others", p)
		}
	}
	for at := range seen {
		if c, err := claim(at); err == nil {
			c.Close()
			t.Errorf("%s could be claimed again", at)
		}
	}
}

func TestPortsOfARowAreNeighboursAndFree(t *testing.T) {
	row, err := Row("127.0.0.1", 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range row {
		if got, want := port(t, at), port(t, row[0])+i; got != want {
			t.Errorf("port %d, want %d", got, want)
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Errorf("not free: %v", err)
			continue
		}
		l.Close()
	}
}

func TestTakenPortIsNotGiven(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err := claim(l.Addr().String()); err == nil {
		c.Close()
		t.Errorf("%s was claimed while somebody listens there", l.Addr())
	}
}
