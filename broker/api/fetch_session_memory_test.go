package api

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// sessionOf is a session of n partitions of topics whose names have 200 bytes.
func sessionOf(n int) *fetchSession {
	s := newFetchSession(false, false)
	for i := range n {
		s.put(fetchTarget{topic: fmt.Sprint(i, strings.Repeat("x", 200))})
	}
	return s
}

func TestFetchSessionsAreChargedWhatTheyRemember(t *testing.T) {
	const limit = 1 << 20
	now := time.Unix(1e9, 0)
	sc := newSessionCache(1000, limit)
	made := 0
	for range 100 {
		if sc.add(sessionOf(100), now) != 0 {
			made++
		}
	}
	if sc.bytes > limit || made < 10 || made > 40 {
		t.Errorf("%d sessions of 100 partitions take %d bytes, want at most %d", made, sc.bytes, limit)
	}
	if id := newSessionCache(10, limit).add(sessionOf(2000), now); id != 0 {
		t.Error("a session takes more than a quarter of the cache")
	}
	s := sc.lru.Front().Value.(*fetchSession)
	s.put(fetchTarget{topic: strings.Repeat("y", limit)})
	if sc.touch(s, now) {
		t.Error("a session may grow beyond the cache")
	}
	sc.expireLocked(now.Add(sessionExpiry + time.Second))
	if sc.bytes != 0 || sc.size != 0 || len(sc.byID) != 0 || sc.lru.Len() != 0 {
		t.Errorf("expired sessions leave %d bytes of %d partitions", sc.bytes, sc.size)
	}
}
