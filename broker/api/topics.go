package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coldbrook/coldbrook/broker/coordinator/group"
	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/metadata/controller"
)

// Complaints of CreateTopics and CreatePartitions.
var (
	errInvalidPartitions  = errors.New("invalid partitions")
	errInvalidReplication = errors.New("invalid replication factor")
	errInvalidAssignment  = errors.New("invalid replica assignment")
	errTooMany            = errors.New("excessively large number of partitions per request")
)

// maxNewPartitions is how many partitions one request may create:
// ReplicationControlManager.MAX_PARTITIONS_PER_BATCH.
const maxNewPartitions = 10_000

// internalTopic says whether a name is that of a coordinator's topic:
// Topic.INTERNAL_TOPICS. Those of coordinators that are not there yet are kept for
// them.
func internalTopic(name string) bool {
	return name == group.Topic || name == "__transaction_state" || name == "__share_group_state"
}

// reservedTopic says whether clients may not make a topic of that name. The last one
// is no topic in Kafka either, but the log of its controllers.
func reservedTopic(name string) bool { return internalTopic(name) || name == "__cluster_metadata" }

// topicSpec is a topic to be created; -1 means the broker's default.
type topicSpec struct {
	name        string
	partitions  int32
	replication int16
	assignments [][]metadata.BrokerID // instead of the two numbers
	configs     map[string]string
}

// place resolves defaults and chooses replicas.
func (a *API) place(s *topicSpec) error {
	b := a.o.Settings().Broker()
	if s.partitions == -1 {
		s.partitions = b.NumPartitions
	}
	if s.replication == -1 {
		s.replication = b.DefaultReplicationFactor
	}
	if len(s.assignments) > 0 {
		s.partitions, s.replication = int32(len(s.assignments)), int16(len(s.assignments[0]))
		return checkAssignments(a.o.Metadata.Image(), s.assignments)
	}
	if s.partitions < 1 {
		return fmt.Errorf("%w: number of partitions %d, want at least 1", errInvalidPartitions, s.partitions)
	}
	if s.partitions > maxNewPartitions {
		return errTooMany // before they are placed
	}
	if s.replication < 1 {
		return fmt.Errorf("%w: %d, want at least 1", errInvalidReplication, s.replication)
	}
	img := a.o.Metadata.Image()
	var err error
	s.assignments, err = controller.Place(img.Brokers(), int(s.partitions), int(s.replication), len(img.Topics()))
	return err
}

// newTopicName checks the name of a topic to be created. Names that differ in
// '.' and '_' only would share the names of their metrics.
func newTopicName(img *metadata.Image, name string) error {
	if err := metadata.ValidTopicName(name); err != nil {
		return err
	}
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	for _, t := range img.Topics() {
		if collides(t.Name, name) {
			return fmt.Errorf("%w: topic %q collides with existing topic %q", metadata.ErrInvalidTopicName, name, t.Name)
		}
	}
	return nil
}

// collides says whether two names differ, and in '.' and '_' only. It allocates
// nothing: a request may ask for thousands of topics beside thousands that there are.
func collides(a, b string) bool {
	if len(a) != len(b) || a == b {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && (a[i] != '.' && a[i] != '_' || b[i] != '.' && b[i] != '_') {
			return false
		}
	}
	return true
}

func checkAssignments(img *metadata.Image, assignments [][]metadata.BrokerID) error {
	for n, replicas := range assignments {
		if len(replicas) == 0 || len(replicas) != len(assignments[0]) {
			return fmt.Errorf("%w: partition %d has %d replicas, partition 0 has %d", errInvalidAssignment, n, len(replicas), len(assignments[0]))
		}
		seen := make(map[metadata.BrokerID]bool)
		for _, id := range replicas {
			b, live := img.Broker(id)
			switch {
			case seen[id]:
				return fmt.Errorf("%w: partition %d names broker %d more than once", errInvalidAssignment, n, id)
			case !live:
				return fmt.Errorf("%w: partition %d names broker %d, which is not registered", errInvalidAssignment, n, id)
			case !b.Holds():
				return fmt.Errorf("%w: partition %d names broker %d, whose role is %s: it holds no partitions", errInvalidAssignment, n, id, b.Role)
			}
			seen[id] = true
		}
	}
	return nil
}

const (
	// topicReady bounds the wait for this broker to open a new topic's logs.
	topicReady = 10 * time.Second
	// decideWait bounds what waits for etcd where the request names no time.
	decideWait = 30 * time.Second
)

// createTopic creates the topic and returns when this broker serves its
// partitions, so that the client's next request finds them.
func (a *API) createTopic(ctx context.Context, s topicSpec) (*metadata.Topic, error) {
	if err := newTopicName(a.o.Metadata.Image(), s.name); err != nil {
		return nil, err
	}
	if len(s.assignments) == 0 || s.partitions < 1 {
		if err := a.place(&s); err != nil {
			return nil, err
		}
	}
	t, err := a.o.Metadata.CreateTopic(ctx, metadata.TopicSpec{Name: s.name, Assignments: s.assignments, Configs: s.configs})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, topicReady)
	defer cancel()
	if err := a.o.Replicas.WaitTopic(ctx, t.ID); err != nil {
		a.log.Warn("topic created but not served yet", "topic", t.Name, "err", err)
	}
	return t, nil
}

// singleCreate makes concurrent automatic creations of one topic into one.
type singleCreate struct {
	count   atomic.Int32 // of running
	mu      sync.Mutex
	running map[string]chan struct{}
}

// settle waits for a creation under way: the topic is known before it is served.
func (sc *singleCreate) settle(ctx context.Context, name string) {
	if sc.count.Load() == 0 {
		return
	}
	sc.mu.Lock()
	busy := sc.running[name]
	sc.mu.Unlock()
	if busy == nil {
		return
	}
	select {
	case <-busy:
	case <-ctx.Done():
	}
}

// createOnce creates the topic unless it exists or somebody is creating it, in
// which case it waits for them.
func (a *API) createOnce(ctx context.Context, s topicSpec) (*metadata.Topic, error) {
	for {
		if t, ok := a.o.Metadata.Image().Topic(s.name); ok {
			a.creating.settle(ctx, s.name)
			return t, nil
		}
		busy, mine := a.creating.begin(s.name)
		if mine {
			t, err := a.createMine(ctx, s)
			if errors.Is(err, metadata.ErrTopicExists) && a.shown(ctx, s.name) == nil {
				continue // another broker was faster
			}
			return t, err
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *API) createMine(ctx context.Context, s topicSpec) (*metadata.Topic, error) {
	defer a.creating.end(s.name)
	ctx, cancel := context.WithTimeout(ctx, topicReady)
	defer cancel()
	return a.createTopic(ctx, s)
}

// shown waits until the image has the topic.
func (a *API) shown(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, topicReady)
	defer cancel()
	for {
		img := a.o.Metadata.Image()
		if _, ok := img.Topic(name); ok {
			return nil
		}
		if err := a.newerImage(ctx, img); err != nil {
			return err
		}
	}
}

// begin returns a channel that is closed when the creation under way ends;
// mine says that it is the caller's.
func (sc *singleCreate) begin(name string) (busy <-chan struct{}, mine bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if ch := sc.running[name]; ch != nil {
		return ch, false
	}
	if sc.running == nil {
		sc.running = make(map[string]chan struct{})
	}
	ch := make(chan struct{})
	sc.running[name] = ch
	sc.count.Add(1)
	return ch, true
}

func (sc *singleCreate) end(name string) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	close(sc.running[name])
	delete(sc.running, name)
	sc.count.Add(-1)
}

// minSegmentBytes is the least that segment.bytes of a topic may be.
const minSegmentBytes = 1 << 20

// groupTopic makes the topic of the group coordinator, once.
func (a *API) groupTopic(ctx context.Context) (*metadata.Topic, error) {
	b := a.o.Settings().Broker()
	brokers := 0
	for _, other := range a.o.Metadata.Image().Brokers() {
		if other.Holds() {
			brokers++
		}
	}
	return a.createOnce(ctx, topicSpec{
		name:       group.Topic,
		partitions: b.Group.OffsetsPartitions,
		// Fewer brokers than replicas wanted must not keep groups from working; the
		// topic grows when there are more.
		replication: int16(min(int(b.Group.OffsetsReplicationFactor), max(brokers, 1))),
		configs: map[string]string{
			"cleanup.policy": "compact", "compression.type": "producer", "remote.storage.enable": "false",
			"segment.bytes": strconv.Itoa(int(max(b.Group.OffsetsSegmentBytes, minSegmentBytes))),
		},
	})
}
