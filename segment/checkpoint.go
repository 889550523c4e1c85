package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/segment/vfs"
)

// Kafka's checkpoint files are text: a line with the version, a line with the
// number of entries, one line an entry.
const (
	checkpointVersion = 0
	// maxCheckpoint bounds a checkpoint file: a million partitions.
	maxCheckpoint = 64 << 20

	recoveryPointFile = "recovery-point-offset-checkpoint"
	highWatermarkFile = "replication-offset-checkpoint"
	logStartFile      = "log-start-offset-checkpoint"
	leaderEpochFile   = "leader-epoch-checkpoint"
)

// EncodeOffsetCheckpoint returns the bytes of a file such as
// recovery-point-offset-checkpoint, sorted by partition.
func EncodeOffsetCheckpoint(offsets map[metadata.TopicPartition]int64) []byte {
	keys := make([]metadata.TopicPartition, 0, len(offsets))
	for tp := range offsets {
		keys = append(keys, tp)
	}
	slices.SortFunc(keys, metadata.TopicPartition.Compare)
	b := checkpointHeader(len(keys))
	for _, tp := range keys {
		b = append(b, tp.Topic...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(tp.Partition), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, offsets[tp], 10)
		b = append(b, '\n')
	}
	return b
}

// DecodeOffsetCheckpoint reads what EncodeOffsetCheckpoint wrote, or ErrCorrupt.
func DecodeOffsetCheckpoint(b []byte) (map[metadata.TopicPartition]int64, error) {
	offsets := map[metadata.TopicPartition]int64{}
	err := decodeCheckpoint(b, func(line string) error {
		f := strings.Split(line, " ")
		if len(f) != 3 {
			return fmt.Errorf("%d fields, want 3", len(f))
		}
		partition, err := strconv.ParseInt(f[1], 10, 32)
		if err != nil {
			return err
		}
		offset, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return err
		}
		tp := metadata.TopicPartition{Topic: f[0], Partition: int32(partition)}
		if _, ok := offsets[tp]; ok || f[0] == "" || partition < 0 || offset < 0 {
			return errors.New("repeated or out of range")
		}
		offsets[tp] = offset
		return nil
	})
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

// EncodeEpochs returns the bytes of a leader-epoch-checkpoint file.
func EncodeEpochs(epochs []EpochEntry) []byte {
	b := checkpointHeader(len(epochs))
	for _, e := range epochs {
		b = strconv.AppendInt(b, int64(e.Epoch), 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, e.StartOffset, 10)
		b = append(b, '\n')
	}
	return b
}

// DecodeEpochs reads what EncodeEpochs wrote, or ErrCorrupt. Epochs and start
// offsets grow from entry to entry.
func DecodeEpochs(b []byte) ([]EpochEntry, error) {
	var epochs []EpochEntry
	err := decodeCheckpoint(b, func(line string) error {
		first, second, ok := strings.Cut(line, " ")
		if !ok {
			return errors.New("one field, want 2")
		}
		epoch, err := strconv.ParseInt(first, 10, 32)
		if err != nil {
			return err
		}
		start, err := strconv.ParseInt(second, 10, 64)
		if err != nil {
			return err
		}
		e := EpochEntry{Epoch: int32(epoch), StartOffset: start}
		if n := len(epochs); epoch < 0 || start < 0 ||
			n > 0 && (e.Epoch <= epochs[n-1].Epoch || e.StartOffset < epochs[n-1].StartOffset) {
			return errors.New("out of range or order")
		}
		epochs = append(epochs, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return epochs, nil
}

func checkpointHeader(entries int) []byte {
	return fmt.Appendf(nil, "%d\n%d\n", checkpointVersion, entries)
}

// decodeCheckpoint calls entry for each line after the header.
func decodeCheckpoint(b []byte, entry func(line string) error) error {
	n, count := 0, 0
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte{'\n'})
		b = rest
		n++
		var err error
		switch {
		case n == 1:
			if string(line) != strconv.Itoa(checkpointVersion) {
				err = fmt.Errorf("version %.20q", line)
			}
		case n == 2:
			count, err = strconv.Atoi(string(line))
			if err == nil && count < 0 {
				err = errors.New("negative count")
			}
		case n-2 > count:
			err = fmt.Errorf("more than %d entries", count)
		default:
			err = entry(string(line))
		}
		if err != nil {
			return fmt.Errorf("checkpoint line %d: %w: %w", n, ErrCorrupt, err)
		}
	}
	if n < 2 || n-2 != count {
		return fmt.Errorf("checkpoint: %d lines for %d entries: %w", n, count, ErrCorrupt)
	}
	return nil
}

// readCheckpoint reads an offset checkpoint; a missing file is empty.
func readCheckpoint(fsys vfs.FS, name string) (map[metadata.TopicPartition]int64, error) {
	b, err := vfs.ReadFile(fsys, name, maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return map[metadata.TopicPartition]int64{}, nil
	}
	if err != nil {
		return nil, err
	}
	offsets, err := DecodeOffsetCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return offsets, nil
}
