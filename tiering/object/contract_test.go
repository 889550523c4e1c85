package object_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/coldbrook/coldbrook/tiering/object"
)

// subject is one implementation under the contract.
type subject struct {
	// open returns a store that sees only what lies below folder, a fresh name for each test.
	open func(t *testing.T, folder string) object.Store
	// headKnowsCRC: Head tells the checksum that Put was given.
	headKnowsCRC bool
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// testContract is what every Store promises.
func testContract(t *testing.T, s subject) {
	for name, test := range map[string]func(*testing.T, subject){
		"PutThenGetReturnsTheBytes":          testRoundTrip,
		"RangesAreExact":                     testRanges,
		"MissingObjectIsNotFound":            testMissing,
		"PutReplaces":                        testReplace,
		"IfAbsentHasOneWinner":               testIfAbsent,
		"WrongChecksumLeavesNothing":         testChecksum,
		"ListIsOrderedAndPaged":              testList,
		"DeleteTakesManyKeys":                testDelete,
		"LargeObjectsGoUpWhole":              testLarge,
		"InvalidKeysAreRefused":              testKeys,
		"CancelledContextIsNotUnavailable":   testCancelled,
		"UnreadableBodyIsNotTheStoresFault":  testBodyError,
		"CheckPasses":                        testCheck,
		"PutAndDeleteInOneFolderDoNotClash":  testFolderRace,
		"LongestComponentsAndStrangeNamesDo": testStrangeNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func (s subject) fresh(t *testing.T) object.Store {
	t.Helper()
	folder := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	store := s.open(t, folder)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

func put(t *testing.T, s object.Store, key string, b []byte) object.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, object.Bytes(b), object.PutOptions{CRC32C: castagnoli(b), HasCRC: true})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func get(t *testing.T, s object.Store, key string) []byte {
	t.Helper()
	b, err := object.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func list(t *testing.T, s object.Store, prefix, after string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func testRoundTrip(t *testing.T, sub subject) {
	s := sub.fresh(t)
	for _, n := range []int{0, 1, 1000, 1 << 20, 3<<20 + 17} {
		key := fmt.Sprintf("topics/t.id/0/segments/%020d.log", n)
		want := pattern(n, uint64(n))
		info := put(t, s, key, want)
		if info.Key != key || info.Size != int64(n) || info.CRC32C != castagnoli(want) || sub.headKnowsCRC && !info.HasCRC {
			t.Errorf("put %d bytes: %+v", n, info)
		}
		if got := get(t, s, key); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d others", n, len(got))
		}
		head, err := s.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if head.Key != key || head.Size != int64(n) || head.Modified.IsZero() || head.ETag == "" || head.ETag != info.ETag {
			t.Errorf("head %+v after put %+v", head, info)
		}
		if head.HasCRC != sub.headKnowsCRC || (head.HasCRC && head.CRC32C != castagnoli(want)) {
			t.Errorf("head of %d bytes: checksum %08x (known %v), want %08x (known %v)", n, head.CRC32C, head.HasCRC, castagnoli(want), sub.headKnowsCRC)
		}
	}
}

func testRanges(t *testing.T, sub subject) {
	s := sub.fresh(t)
	want := pattern(100_000, 7)
	put(t, s, "ranges", want)
	put(t, s, "empty", nil)
	for _, r := range []struct{ off, n int64 }{{0, 1}, {0, 100_000}, {99_999, 1}, {5000, 70_000}, {50_000, 0}, {0, 0}} {
		got := make([]byte, r.n)
		if n, err := object.ReadFull(t.Context(), s, "ranges", r.off, got); err != nil || n != len(got) {
			t.Errorf("%d bytes from %d: got %d, %v", r.n, r.off, n, err)
		} else if !bytes.Equal(got, want[r.off:r.off+r.n]) {
			t.Errorf("%d bytes from %d are others", r.n, r.off)
		}
	}
	for _, off := range []int64{0, 1, 99_999} {
		body, err := s.Get(t.Context(), "ranges", off, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, want[off:]) {
			t.Errorf("all from %d: %d bytes, %v", off, len(got), err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, r := range []struct{ off, n int64 }{{0, 100_001}, {99_999, 2}, {100_000, 1}, {100_000, -1}, {100_001, -1}, {1 << 40, 5}} {
		body, err := s.Get(t.Context(), "ranges", r.off, r.n)
		if err == nil {
			_, err = io.ReadAll(body)
			_ = body.Close()
		}
		if !errors.Is(err, object.ErrShortBody) || object.Retriable(err) {
			t.Errorf("%d bytes from %d: got %v, want %v", r.n, r.off, err, object.ErrShortBody)
		}
	}
	if got := get(t, s, "empty"); len(got) != 0 {
		t.Errorf("empty object has %d bytes", len(got))
	}
}

func testMissing(t *testing.T, sub subject) {
	s := sub.fresh(t)
	put(t, s, "there/is/one", []byte("x"))
	for _, key := range []string{"nothing", "there", "there/is", "there/is/two", "there/is/one/more"} {
		if _, err := s.Get(t.Context(), key, 0, 1); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("get %s: got %v, want %v", key, err, object.ErrNotFound)
		}
		if _, err := s.Head(t.Context(), key); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("head %s: got %v, want %v", key, err, object.ErrNotFound)
		}
	}
	for _, keys := range [][]string{nil, {"nothing"}, {"nothing", "there/is/two"}} {
		if err := s.Delete(t.Context(), keys...); err != nil {
			t.Errorf("delete %v: %v", keys, err)
		}
	}
	var e *object.Error
	if _, err := s.Head(t.Context(), "nothing"); !errors.As(err, &e) || e.Op != "head" || e.Key != "nothing" || e.Store == "" {
		t.Errorf("head: %#v does not say what and where", err)
	}
	if got := list(t, s, "no/such/folder/", ""); len(got) != 0 {
		t.Errorf("list of a missing folder: %v", got)
	}
}

func testReplace(t *testing.T, sub subject) {
	s := sub.fresh(t)
	first := put(t, s, "one", []byte("first"))
	second := put(t, s, "one", []byte("the second"))
	if first.ETag == second.ETag {
		t.Errorf("ETag %s for both contents", first.ETag)
	}
	if got := get(t, s, "one"); string(got) != "the second" {
		t.Errorf("got %q", got)
	}
}

func testIfAbsent(t *testing.T, sub subject) {
	s := sub.fresh(t)
	const writers = 8
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range int64(writers) {
		wg.Go(func() {
			_, err := s.Put(t.Context(), "pointer", object.Bytes(fmt.Appendf(nil, "writer %d", i)), object.PutOptions{IfAbsent: true})
			switch {
			case err == nil:
				won.Add(1 + i<<32)
			case !errors.Is(err, object.ErrExists) && !object.Retriable(err): // S3 may say: conflict, try again
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := won.Load() & 0xffffffff; n != 1 {
		t.Fatalf("%d of %d writers won", n, writers)
	}
	if got, want := string(get(t, s, "pointer")), fmt.Sprintf("writer %d", won.Load()>>32); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := s.Put(t.Context(), "pointer", object.Bytes(nil), object.PutOptions{IfAbsent: true}); !errors.Is(err, object.ErrExists) {
		t.Errorf("put again: got %v, want %v", err, object.ErrExists)
	}
}

func testChecksum(t *testing.T, sub subject) {
	s := sub.fresh(t)
	for name, n := range map[string]int{"small": 1000, "large": 17 << 20} {
		b := pattern(n, 3)
		_, err := s.Put(t.Context(), name, object.Bytes(b), object.PutOptions{CRC32C: castagnoli(b) + 1, HasCRC: true})
		if !errors.Is(err, object.ErrChecksum) {
			t.Errorf("%s: got %v, want %v", name, err, object.ErrChecksum)
		}
		if _, err := s.Head(t.Context(), name); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("%s: head: got %v, want %v", name, err, object.ErrNotFound)
		}
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func testList(t *testing.T, sub subject) {
	s := sub.fresh(t)
	// Bytes on both sides of the slash, so that folders and files must be merged.
	all := []string{"a!/x", "a-b/1", "a.c/1", "a/1", "a/2/deep/er", "a/2/z", "a/20", "a0", "b"}
	for i := range 1003 { // more than a page of any server
		all = append(all, fmt.Sprintf("many/%04d", i))
	}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for _, key := range all {
		g.Go(func() error {
			_, err := s.Put(ctx, key, object.Bytes([]byte(key)), object.PutOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	for _, c := range []struct{ prefix, after string }{
		{"", ""}, {"a", ""}, {"a/", ""}, {"a/2", ""}, {"a/2/", ""}, {"a", "a/1"}, {"a/2/", "a/2/deep/er"}, {"", "b"}, {"", "a.zzz"},
		{"many/", ""}, {"many/", "many/0500"}, {"many/", "many/05"}, {"many/100", ""}, {"", "many/1000"}, {"many/", "zzz"}, {"a/2/deep", "a/2/deep/"},
	} {
		want := []string{}
		for _, key := range all {
			if strings.HasPrefix(key, c.prefix) && key > c.after {
				want = append(want, key)
			}
		}
		if diff := cmp.Diff(want, list(t, s, c.prefix, c.after)); diff != "" {
			t.Errorf("list %q after %q (-want +got):\n%s", c.prefix, c.after, diff)
		}
	}
	for info, err := range s.List(t.Context(), "a/2", "") {
		if err != nil || info.Size != int64(len(info.Key)) || info.Modified.IsZero() {
			t.Errorf("%+v, %v", info, err)
		}
		break // and stop early
	}
	if err := s.Delete(t.Context(), all...); err != nil { // more than a batch
		t.Fatal(err)
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("%d keys left after deleting all: %v", len(got), got[0])
	}
}

func testDelete(t *testing.T, sub subject) {
	s := sub.fresh(t)
	for _, key := range []string{"d/1", "d/2", "d/3", "d/4"} {
		put(t, s, key, []byte(key))
	}
	if err := s.Delete(t.Context(), "d/1"); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "d/2", "d/1", "gone", "d/4"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"d/3"}, list(t, s, "", "")); diff != "" {
		t.Error(diff)
	}
}

func testLarge(t *testing.T, sub subject) {
	s := sub.fresh(t)
	want := pattern(16<<20+12_345, 11)
	var progress atomic.Int64
	o := object.PutOptions{CRC32C: castagnoli(want), HasCRC: true, IfAbsent: true, Progress: func(n int64) { progress.Add(n) }}
	info, err := s.Put(t.Context(), "large", object.Bytes(want), o)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(len(want)) || info.CRC32C != o.CRC32C {
		t.Errorf("put: %+v", info)
	}
	if progress.Load() < int64(len(want)) {
		t.Errorf("progress of %d bytes, put %d", progress.Load(), len(want))
	}
	if got := get(t, s, "large"); !bytes.Equal(got, want) {
		t.Errorf("got %d other bytes", len(got))
	}
	tail := make([]byte, 12_346)
	if _, err := object.ReadFull(t.Context(), s, "large", 16<<20-1, tail); err != nil || !bytes.Equal(tail, want[16<<20-1:]) {
		t.Errorf("range over the last part's border: %v", err)
	}
	head, err := s.Head(t.Context(), "large")
	if err != nil || head.Size != int64(len(want)) || (head.HasCRC && head.CRC32C != o.CRC32C) {
		t.Errorf("head: %+v, %v", head, err)
	}
	if _, err := s.Put(t.Context(), "large", object.Bytes(want), o); !errors.Is(err, object.ErrExists) {
		t.Errorf("put again: got %v, want %v", err, object.ErrExists)
	}
}

func testKeys(t *testing.T, sub subject) {
	s := sub.fresh(t)
	for _, key := range []string{"", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\x00b", "a\nb", `a\b`, "\xff", strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x", ".uploads/x"} {
		if _, err := s.Put(t.Context(), key, object.Bytes(nil), object.PutOptions{}); !errors.Is(err, object.ErrInvalid) {
			t.Errorf("put %q: got %v, want %v", key, err, object.ErrInvalid)
		}
		if _, err := s.Get(t.Context(), key, 0, 1); !errors.Is(err, object.ErrInvalid) {
			t.Errorf("get %q: got %v, want %v", key, err, object.ErrInvalid)
		}
		if _, err := s.Head(t.Context(), key); !errors.Is(err, object.ErrInvalid) {
			t.Errorf("head %q: got %v, want %v", key, err, object.ErrInvalid)
		}
		if err := s.Delete(t.Context(), key); !errors.Is(err, object.ErrInvalid) {
			t.Errorf("delete %q: got %v, want %v", key, err, object.ErrInvalid)
		}
	}
}

func testCancelled(t *testing.T, sub subject) {
	s := sub.fresh(t)
	put(t, s, "x", pattern(1<<20, 1))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := s.Get(ctx, "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, bodyErr := io.ReadAll(body)
	_ = body.Close()
	_, putErr := s.Put(ctx, "y", object.Bytes([]byte("y")), object.PutOptions{})
	_, getErr := s.Get(ctx, "x", 0, 1)
	_, headErr := s.Head(ctx, "x")
	var listErr error
	for _, err := range s.List(ctx, "", "") {
		listErr = err
	}
	for op, err := range map[string]error{"read body": bodyErr, "put": putErr, "get": getErr, "head": headErr, "delete": s.Delete(ctx, "x"), "delete many": s.Delete(ctx, "x", "z"), "list": listErr} {
		if !errors.Is(err, context.Canceled) || object.Retriable(err) {
			t.Errorf("%s: got %v, want %v", op, err, context.Canceled)
		}
	}
	if _, err := s.Head(t.Context(), "y"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("cancelled put: %v", err)
	}
}

func testCheck(t *testing.T, sub subject) {
	s := sub.fresh(t)
	if err := object.Check(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("check left %v", got)
	}
}

func testFolderRace(t *testing.T, sub subject) {
	s := sub.fresh(t)
	var g errgroup.Group
	for w := range 4 {
		g.Go(func() error {
			for i := range 25 {
				key := fmt.Sprintf("one/folder/for/all/%d-%d", w, i)
				if _, err := s.Put(t.Context(), key, object.Bytes([]byte(key)), object.PutOptions{IfAbsent: i%2 == 0}); err != nil {
					return err
				}
				if _, err := s.Head(t.Context(), key); err != nil {
					return err
				}
				if err := s.Delete(t.Context(), key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func testStrangeNames(t *testing.T, sub subject) {
	s := sub.fresh(t)
	// The bucket's prefix takes its share of 1,024 bytes.
	keys := []string{strings.Repeat("c", 255), strings.Repeat("c", 250) + "/" + strings.Repeat("d", 255) + "/" + strings.Repeat("e", 255), "with space", "plus+and%41percent", "tilde~", "ümläut/日本", "a=b&c=d?e#f", "quote'\"<>", ".hidden", "..twodots", "semi;colon:at@"}
	for _, key := range keys {
		put(t, s, key, []byte(key))
	}
	for _, key := range keys {
		if got := get(t, s, key); string(got) != key {
			t.Errorf("%s: got %q", key, got)
		}
	}
	slices.Sort(keys)
	if diff := cmp.Diff(keys, list(t, s, "", "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := s.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "", ""); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// failingBody fails from some offset on.
type failingBody struct {
	object.Body
	from int64
	err  error
}

func (f failingBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.Body.ReadAt(p, off)
}

func testBodyError(t *testing.T, sub subject) {
	s := sub.fresh(t)
	broken := errors.New("the local disk is broken")
	for _, n := range []int{200_000, 17 << 20} {
		b := pattern(n, 5)
		body := failingBody{object.Bytes(b), int64(n / 2), broken}
		_, err := s.Put(t.Context(), "k", body, object.PutOptions{CRC32C: castagnoli(b), HasCRC: true})
		if !errors.Is(err, broken) || object.Retriable(err) {
			t.Errorf("%d bytes: got %v, want %v", n, err, broken)
		}
		if _, err := s.Head(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("head: %v", err)
		}
	}
}
