//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coldbrook/coldbrook/e2e/cluster"
	"github.com/coldbrook/coldbrook/e2e/scenario"
)

// TestKafkaToolsWork runs Kafka's own command line tools, which are its Java clients, against a broker.
func TestKafkaToolsWork(t *testing.T) {
	classPath := kafkaTools(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	b := run(t, cluster.Options{Kind: cluster.Subprocess, Binary: path, Dir: t.TempDir(), Settings: scenario.Settings(), StoreURL: "file://" + t.TempDir()})
	files := t.TempDir()
	file := func(name, content string) string {
		f := filepath.Join(files, name)
		if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	const (
		topics  = "org.apache.kafka.tools.TopicCommand"
		configs = "kafka.admin.ConfigCommand"
		offsets = "org.apache.kafka.tools.GetOffsetShell"
		groups  = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	)
	moved := file("moved.json", `{"version":1,"partitions":[{"topic":"jt","partition":0,"replicas":[1]}]}`)
	for _, c := range []struct {
		tool, args, input string
		want              []string // of what it prints
	}{
		{topics, "--create --topic jt --partitions 3 --config segment.bytes=1048576", "", []string{"Created topic jt."}},
		{topics, "--describe --topic jt", "", []string{"PartitionCount: 3", "segment.bytes=1048576", "Partition: 2\tLeader: 1\tReplicas: 1\tIsr: 1"}},
		{configs, "--alter --entity-type topics --entity-name jt --add-config local.retention.ms=1000", "", []string{"Completed updating config for topic jt."}},
		{configs, "--describe --entity-type topics --entity-name jt", "", []string{"local.retention.ms=1000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:local.retention.ms=1000"}},
		{configs, "--alter --entity-type brokers --entity-default --add-config log.retention.ms=99999999", "", []string{"Completed updating default config"}},
		{configs, "--describe --entity-type brokers --entity-default", "", []string{"log.retention.ms=99999999"}},
		{configs, "--alter --entity-type users --entity-name u --entity-type clients --entity-name c --add-config consumer_byte_rate=5000000", "", []string{"Completed updating config for user u."}},
		{configs, "--describe --entity-type users --entity-type clients", "", []string{"Quota configs for user-principal 'u', client-id 'c' are consumer_byte_rate=5000000.0"}},
		{"org.apache.kafka.tools.ProducerPerformance", "--topic jt --num-records 50000 --record-size 200 --throughput -1 --producer-props compression.type=zstd bootstrap.servers=BROKER", "", []string{"50000 records sent"}},
		{"org.apache.kafka.tools.ConsoleProducer", "--topic jt --property parse.key=true", "k1\tv1\nk2\tv2\n", nil},
		{"org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic jt --from-beginning --max-messages 50002 --timeout-ms 60000 --group all --property print.key=true", "", []string{"k1\tv1", "k2\tv2", "Processed a total of 50002 messages"}},
		{offsets, "--topic jt --time -2", "", []string{"jt:0:0\njt:1:0\njt:2:0"}},
		{offsets, "--topic jt --time -3", "", []string{"jt:0:", "jt:1:", "jt:2:"}},
		{offsets, "--topic jt --time -4", "", []string{"jt:0:", "jt:1:", "jt:2:"}},
		{offsets, "--topic jt --time -5", "", []string{"jt:0:", "jt:1:", "jt:2:"}},
		{groups, "--list", "", []string{"all"}},
		{groups, "--describe --group all", "", []string{"LOG-END-OFFSET"}},
		{groups, "--describe --group all --state", "", []string{"Empty"}},
		{groups, "--reset-offsets --group all --topic jt --to-earliest --execute", "", []string{"NEW-OFFSET"}},
		{groups, "--delete --group all", "", []string{"was successful"}},
		{"org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file " + file("deleted.json", `{"version":1,"partitions":[{"topic":"jt","partition":0,"offset":100}]}`), "", []string{"low_watermark: 100"}},
		{"org.apache.kafka.tools.reassign.ReassignPartitionsCommand", "--execute --reassignment-json-file " + moved, "", []string{"Successfully started"}},
		{"org.apache.kafka.tools.reassign.ReassignPartitionsCommand", "--verify --reassignment-json-file " + moved, "", []string{"jt-0 is completed"}},
		{"org.apache.kafka.tools.LeaderElectionCommand", "--election-type preferred --all-topic-partitions", "", nil},
		{"org.apache.kafka.tools.LogDirsCommand", "--describe --topic-list jt", "", []string{`"partition":"jt-2"`, `"error":null`}},
		{"org.apache.kafka.tools.BrokerApiVersionsCommand", "", "", []string{"Fetch(1): 4 to 18 [usable: 18]"}},
		{"org.apache.kafka.tools.ClusterTool", "list-endpoints", "", []string{"unfenced"}},
		{topics, "--alter --topic jt --partitions 4", "", nil},
		{topics, "--describe --topic jt", "", []string{"PartitionCount: 4"}},
		{topics, "--delete --topic jt", "", nil},
	} {
		name := c.tool[strings.LastIndexByte(c.tool, '.')+1:] + " " + c.args
		args := strings.Fields(strings.ReplaceAll(c.args, "BROKER", b.Kafka()))
		if !strings.Contains(c.args, "BROKER") {
			args = append(args, "--bootstrap-server", b.Kafka())
		}
		out, err := kafkaTool(t, classPath, c.tool, c.input, args...)
		if err != nil || strings.Contains(out, "Exception") || strings.Contains(out, "ERROR") {
			t.Fatalf("%s: %v\n%s", name, err, tail(out, 2000))
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not print %q:\n%s", name, want, tail(out, 2000))
			}
		}
	}
}

// kafkaTool runs a tool and returns all that it printed.
func kafkaTool(t *testing.T, classPath, class, input string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", append([]string{"-Xmx256m", "-cp", classPath, class}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
