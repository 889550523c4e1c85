package config

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func allDefs() []Def { return append(Brokers(), Topics()...) }

func TestEverySettingIsDescribedAndItsDefaultIsValid(t *testing.T) {
	seen, flags := map[string]bool{}, map[string]bool{}
	for _, d := range allDefs() {
		id := d.Scope.String() + " " + d.Name
		if seen[id] {
			t.Errorf("%s: twice in the table", id)
		}
		seen[id] = true
		if len(d.Doc) < 20 || !strings.HasSuffix(d.Doc, ".") {
			t.Errorf("%s: doc %q is no sentence", id, d.Doc)
		}
		if d.Type.String() == "unknown" {
			t.Errorf("%s: no type", id)
		}
		if d.Flag != "" && flags[d.Flag] {
			t.Errorf("%s: flag %s is another's", id, d.Flag)
		}
		flags[d.Flag] = true
		if strings.HasSuffix(d.Name, ".ms") && d.Unit != Milliseconds || strings.HasSuffix(d.Name, ".bytes") && d.Unit != Bytes {
			t.Errorf("%s: unit %q", id, d.Unit)
		}
		if v, ok := d.DefaultValue(); ok {
			if got, err := d.check(v); err != nil || got != v {
				t.Errorf("%s: default %q becomes %q, %v", id, v, got, err)
			}
		}
		for _, s := range d.Synonyms {
			b, ok := find(ScopeBroker, s.Name)
			if !ok || s.Factor < 1 {
				t.Errorf("%s: synonym %+v", id, s)
				continue
			}
			if d.Scope == ScopeTopic && s.Factor == 1 && b.Type != d.Type && !(b.Type == Int && d.Type == Long) {
				t.Errorf("%s is %s and its synonym %s is %s", id, d.Type, b.Name, b.Type)
			}
		}
		if d.Scope == ScopeTopic {
			if d.Dynamic != ReadOnly || d.Flag != "" {
				t.Errorf("%s: a topic's setting has neither mode nor flag", id)
			}
			if _, ok := d.DefaultValue(); !ok && !d.Internal {
				t.Errorf("%s: no default", id)
			}
		}
	}
	if !slices.IsSortedFunc(topicDefs, func(a, b Def) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the topics' table is not sorted")
	}
}

// A setting nobody reads is a promise nobody keeps: every one is read by name in a typed struct, or is
// the default of a topic's.
func TestEverySettingIsRead(t *testing.T) {
	read := map[string]bool{}
	for _, file := range []string{"broker.go", "etcd.go", "topic.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 1 {
				if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					read[strings.Trim(lit.Value, `"`)] = true
				}
			}
			return true
		})
	}
	for _, d := range topicDefs {
		if !read[d.Name] {
			t.Errorf("topic setting %s is not read", d.Name)
		}
		for _, s := range d.Synonyms {
			read[s.Name] = true
		}
	}
	for _, d := range brokerDefs {
		if !read[d.Name] {
			t.Errorf("broker setting %s is not read", d.Name)
		}
	}
}

// fieldsOf returns the field of a typed struct that each setting is read into.
func fieldsOf(t *testing.T) map[string]string {
	t.Helper()
	fields := map[string]string{}
	note := func(field string, value ast.Expr) {
		ast.Inspect(value, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				fields[strings.Trim(lit.Value, `"`)] = field
			}
			return true
		})
	}
	for _, file := range []string{"broker.go", "topic.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok {
					note(key.Name, n.Value)
				}
			case *ast.AssignStmt:
				if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok {
					note(to.Sel.Name, n.Rhs[0])
				}
			}
			return true
		})
	}
	return fields
}

// A setting that is accepted and changes nothing says so, in the manual and when it is set.
func TestSettingsWithoutEffectSaySo(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "config" || d.Name() == "e2e" || strings.HasPrefix(d.Name(), ".git")) {
			return cmp.Or(err, fs.SkipDir)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				used[sel.Sel.Name] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fields := fieldsOf(t)
	own := map[string]bool{"broker.session.timeout.ms": true, "replay.client.ids": true} // read by other fields and methods here
	for _, d := range allDefs() {
		if field, ok := fields[d.Name]; ok && !used[field] && !own[d.Name] && !d.Inert {
			t.Errorf("nobody reads %s, which %s is read into", field, d.Name)
		}
		if d.Inert != strings.Contains(d.Doc, "without effect: ") {
			t.Errorf("%s: inert is %v, its doc says: %s", d.Name, d.Inert, d.Doc)
		}
	}
	s := load(t, map[string]string{"remote.log.reader.threads": "10", "log.retention.ms": "5"})
	if got := s.Inert(); len(got) != 1 || got[0].Def.Name != "remote.log.reader.threads" {
		t.Errorf("set without effect: %v", got)
	}
	if got := Defaults().Inert(); len(got) != 0 {
		t.Errorf("nothing is set: %v", got)
	}
}

// kafka are the defaults of Kafka 4.x for what we have in common. departures is what differs, on purpose.
var (
	kafka = map[string]string{
		"auto.create.topics.enable": "true", "auto.leader.rebalance.enable": "true", "broker.session.timeout.ms": "9000", "compression.gzip.level": "-1",
		"compression.lz4.level": "9", "compression.type": "producer", "compression.zstd.level": "3", "connections.max.idle.ms": "600000", "controlled.shutdown.enable": "true",
		"default.replication.factor": "1", "delete.topic.enable": "true", "fetch.max.bytes": "57671680",
		"follower.fetch.last.tiered.offset.enable": "false", "follower.replication.throttled.rate": "9223372036854775807", "group.initial.rebalance.delay.ms": "3000", "group.max.session.timeout.ms": "1800000",
		"group.max.size": "2147483647", "group.min.session.timeout.ms": "6000", "leader.imbalance.check.interval.seconds": "300", "leader.replication.throttled.rate": "9223372036854775807",
		"log.cleaner.delete.retention.ms": "86400000", "log.cleaner.max.compaction.lag.ms": "9223372036854775807", "log.cleaner.min.cleanable.ratio": "0.5",
		"log.cleaner.min.compaction.lag.ms": "0", "log.cleanup.policy": "delete", "log.flush.interval.messages": "9223372036854775807",
		"log.flush.offset.checkpoint.interval.ms": "60000", "log.flush.scheduler.interval.ms": "9223372036854775807", "log.index.interval.bytes": "4096",
		"log.index.size.max.bytes": "10485760", "log.local.retention.bytes": "-2", "log.local.retention.ms": "-2",
		"log.message.timestamp.after.max.ms": "3600000", "log.message.timestamp.before.max.ms": "9223372036854775807", "log.message.timestamp.type": "CreateTime",
		"log.preallocate": "false", "log.remote.copy.lag.bytes": "-1", "log.remote.copy.lag.ms": "0", "log.retention.bytes": "-1", "log.retention.check.interval.ms": "300000",
		"log.retention.hours": "168", "log.roll.hours": "168", "log.roll.jitter.hours": "0", "log.segment.bytes": "1073741824", "log.segment.delete.delay.ms": "60000",
		"max.connections": "2147483647", "max.connections.per.ip": "2147483647", "max.incremental.fetch.session.cache.slots": "1000", "message.max.bytes": "1048588",
		"min.insync.replicas": "1", "num.partitions": "1", "num.recovery.threads.per.data.dir": "2", "num.replica.fetchers": "1", "offset.metadata.max.bytes": "4096",
		"offsets.commit.timeout.ms": "5000", "offsets.load.buffer.size": "5242880", "offsets.retention.check.interval.ms": "600000", "offsets.retention.minutes": "10080",
		"offsets.topic.num.partitions": "50", "offsets.topic.replication.factor": "3", "offsets.topic.segment.bytes": "104857600", "producer.id.expiration.ms": "86400000",
		"queued.max.request.bytes": "-1", "quota.window.num": "11", "quota.window.size.seconds": "1", "remote.fetch.max.wait.ms": "500",
		"remote.list.offsets.request.timeout.ms": "30000", "remote.log.index.file.cache.total.size.bytes": "1073741824",
		"remote.log.manager.copier.thread.pool.size": "10", "remote.log.manager.copy.max.bytes.per.second": "9223372036854775807",
		"remote.log.manager.expiration.thread.pool.size": "10", "remote.log.manager.fetch.max.bytes.per.second": "9223372036854775807",
		"remote.log.manager.task.interval.ms": "30000", "remote.log.manager.task.retry.backoff.max.ms": "30000", "remote.log.manager.task.retry.backoff.ms": "500",
		"remote.log.reader.threads": "10", "remote.log.storage.system.enable": "false", "replica.fetch.max.bytes": "1048576", "replica.fetch.min.bytes": "1", "replica.fetch.backoff.ms": "1000", "replica.socket.timeout.ms": "30000",
		"replica.fetch.response.max.bytes": "10485760", "replica.fetch.wait.max.ms": "500", "replica.high.watermark.checkpoint.interval.ms": "5000",
		"replica.lag.time.max.ms": "30000", "socket.request.max.bytes": "104857600", "super.users": "", "transaction.max.timeout.ms": "900000",
		"unclean.leader.election.enable": "false", "authorizer.class.name": "", "allow.everyone.if.no.acl.found": "false",
	}
	departures = map[string]string{
		"broker.session.timeout.ms":                    "3000",
		"log.flush.interval.messages":                  "1",
		"queued.max.request.bytes":                     "134217728",
		"remote.log.storage.system.enable":             "true",
		"remote.log.index.file.cache.total.size.bytes": "67108864",
	}
	// Kafka has no default for these, or one that depends on the machine or on KRaft.
	noDefault = []string{"node.id", "broker.rack", "listeners", "advertised.listeners", "listener.security.protocol.map", "inter.broker.listener.name", "log.dirs", "replica.selector.class"}
)

func TestDefaultsAreKafkasOrAreNamed(t *testing.T) {
	for _, d := range brokerDefs {
		want, known := kafka[d.Name]
		if v, ok := departures[d.Name]; ok {
			want = v
			if !strings.Contains(d.Doc, "Kafka") {
				t.Errorf("%s: the doc does not say that Kafka's default is another", d.Name)
			}
		}
		switch {
		case d.Own == known || d.Own && slices.Contains(noDefault, d.Name):
			if !d.Unset && !slices.Contains(noDefault, d.Name) {
				t.Errorf("%s: Own is %v, in Kafka's list: %v", d.Name, d.Own, known)
			}
		case known && (d.Unset || d.Default != want):
			t.Errorf("%s: default %q, want %q", d.Name, d.Default, want)
		}
	}
}

func TestReferenceHasEverySetting(t *testing.T) {
	text, rows := Reference(true, true), ReferenceJSON(true, true)
	n := 0
	for _, d := range allDefs() {
		if d.Internal {
			if strings.Contains(text, "### "+d.Name+"\n") {
				t.Errorf("%s is internal and in the manual", d.Name)
			}
			continue
		}
		n++
		if !strings.Contains(text, "### "+d.Name+"\n\n"+d.Doc+"\n") {
			t.Errorf("%s is not in the manual", d.Name)
		}
	}
	if len(rows) != n {
		t.Errorf("%d rows, want %d", len(rows), n)
	}
}
