package segment

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/record"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// TestFilesAreKafkas pins every file of a log directory, byte for byte. The layouts
// are those of Kafka's OffsetIndex, TimeIndex, TransactionIndex (AbortedTxn),
// CheckpointFile, PartitionMetadataFile and CleanShutdownFileHandler.
func TestFilesAreKafkas(t *testing.T) {
	mem := vfs.NewMem()
	d := openDir(t, mem)
	if err := d.SetMeta(Meta{ClusterID: "MkU3OEVBNTcwNTJENDM2Qg", NodeID: 7, DirectoryID: "4L6g3nShT-eMCtK--X86sw"}); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, d, Config{IndexIntervalBytes: 100})
	txn := record.NewBuilder(record.BuilderOptions{Transactional: true, Producer: &record.Producer{ID: 0x1122, Epoch: 3}})
	txn.Append(0x18BCFE56800, []byte("k"), []byte("v"))
	mustAppend(t, l, 2, txn.Build())                                             // offset 0, position 0
	mustAppend(t, l, 2, plain(0x18BCFE56801, "a", "b", strings.Repeat("c", 30))) // 1 to 3
	marker := record.NewEndTxnBatch(0x1122, 3, record.EndTxnMarker{CoordinatorEpoch: 9}, 0x18BCFE56900)
	if _, err := l.AppendAsLeader(marker, AppendOptions{LeaderEpoch: 2, Origin: Coordinator, Now: t0}); err != nil {
		t.Fatal(err) // 4
	}
	mustAppend(t, l, 5, plain(0x18BCFE56950, "d")) // 5
	l.SetHighWatermark(5)
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 5, plain(0x18BCFE56960, "e"))
	l.SetHighWatermark(6)
	if err := l.SetLogStart(3); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	text := map[string]string{
		"meta.properties":                         "#\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\ndirectory.id=4L6g3nShT-eMCtK--X86sw\nnode.id=7\nversion=1\n",
		"recovery-point-offset-checkpoint":        "0\n1\norders 3 7\n",
		"replication-offset-checkpoint":           "0\n1\norders 3 6\n",
		"log-start-offset-checkpoint":             "0\n1\norders 3 3\n",
		".kafka_cleanshutdown":                    `{"version":0,"brokerEpoch":-1}`,
		"orders-3/leader-epoch-checkpoint":        "0\n2\n2 3\n5 5\n",
		"orders-3/partition.metadata":             "version: 0\ntopic_id: " + testID.String(),
		"orders-3/00000000000000000000.log":       "",
		"orders-3/00000000000000000006.log":       "",
		"orders-3/00000000000000000006.snapshot":  "",
		"orders-3/00000000000000000007.snapshot":  "",
		"orders-3/00000000000000000000.index":     "",
		"orders-3/00000000000000000000.timeindex": "",
		"orders-3/00000000000000000000.txnindex":  "",
		".lock":                                   "",
	}
	binary := map[string]string{
		// relative offset, position
		"orders-3/00000000000000000000.index": "00000004 000000c1",
		// timestamp, relative offset
		"orders-3/00000000000000000000.timeindex": "0000018bcfe56900 00000004" + "0000018bcfe56950 00000005",
		// version, producer, first, last, last stable offset
		"orders-3/00000000000000000000.txnindex": "0000 0000000000001122 0000000000000000 0000000000000004 0000000000000005",
		// version, CRC32C, entries: producer, epoch, last sequence, last offset, delta, timestamp, coordinator epoch, first offset
		"orders-3/00000000000000000006.snapshot": "0001 6037f7f8 00000001 0000000000001122 0003 00000000 0000000000000000 00000000 0000018bcfe56900 00000009 ffffffffffffffff",
	}
	found := map[string]bool{}
	for _, dir := range []string{"", "orders-3/"} {
		names, err := mem.List("/data/" + strings.TrimSuffix(dir, "/"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if n != "orders-3" {
				found[dir+n] = true
			}
		}
	}
	for name, want := range text {
		if !found[name] {
			t.Errorf("%s is missing", name)
			continue
		}
		delete(found, name)
		b, err := vfs.ReadFile(mem, "/data/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" && string(b) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, b, want)
		}
		if want := strings.ReplaceAll(binary[name], " ", ""); want != "" && hex.EncodeToString(b) != want {
			t.Errorf("%s:\n%x\nwant\n%s", name, b, want)
		}
	}
	for name := range found {
		t.Errorf("%s is not Kafka's", name)
	}
}

// TestReadsKafkasFiles: what Kafka writes a little differently is understood.
func TestReadsKafkasFiles(t *testing.T) {
	m, err := DecodeMeta([]byte("#\n#Thu May 22 10:00:00 UTC 2025\nnode.id=1\ndirectory.id=x\nversion=1\ncluster.id=abc\n"))
	if err != nil || m != (Meta{ClusterID: "abc", NodeID: 1, DirectoryID: "x"}) {
		t.Fatalf("got %+v, %v", m, err)
	}
	id, err := decodeTopicID([]byte("version: 0\ntopic_id: " + testID.String() + "\n"))
	if err != nil || id != testID {
		t.Fatalf("got %v, %v", id, err)
	}
	// A Kafka that was killed leaves its active index at its full size, with zeros.
	mem := vfs.NewMem()
	l := openLog(t, openDir(t, mem), Config{IndexIntervalBytes: 1})
	for range 10 {
		mustAppend(t, l, 0, plain(1000, "a"))
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/data/orders-3/00000000000000000000.index", "/data/orders-3/00000000000000000000.timeindex"} {
		f, err := mem.OpenReadWrite(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(12 * 1000); err != nil {
			t.Fatal(err)
		}
	}
	l2 := openLog(t, openDir(t, mem.Crash(newRand(1), 100)), Config{IndexIntervalBytes: 1})
	if diff := cmp.Diff(values(t, l, 0), values(t, l2, 0)); diff != "" {
		t.Fatal(diff)
	}
	checkIndexes(t, l2, l2.parts[0])
}

func TestDirectoryNames(t *testing.T) {
	for name, want := range map[string]string{
		"orders-3": "orders-3", "a-b-12": "a-b-12", "orders": "", "orders-": "", "-3": "", "orders-03": "", "orders-x": "",
		"orders-3.0123456789abcdef0123456789abcdef-delete": "deleted", "x-delete": "", "__consumer_offsets-49": "__consumer_offsets-49",
		"orders--1": "", "a/b-1": "",
	} {
		tp, kind := parseDirName(name)
		got := ""
		switch kind {
		case partitionDir:
			got = tp.String()
		case deletedDir:
			got = "deleted"
		}
		if got != want && !(name == "orders--1" && got == "orders--1") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	long := metadata.TopicPartition{Topic: strings.Repeat("t", 249), Partition: 12345}
	name := besideName(long, strings.Repeat("0", 32), deletedDirSuffix)
	if _, kind := parseDirName(name); len(name) > 255 || kind != deletedDir {
		t.Errorf("%s has %d bytes, kind %d", name, len(name), kind)
	}
}
