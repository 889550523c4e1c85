package tiering

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/coldbrook/coldbrook/metadata"
	"github.com/coldbrook/coldbrook/tiering/cost"
	"github.com/coldbrook/coldbrook/tiering/object"
)

func TestCostsJoinWhatIsAskedForWithWhatIsStored(t *testing.T) {
	w := newWorld(t)
	ledger := cost.NewLedger("c1", func(id metadata.TopicID) (string, bool) { return w.topic.Name, id == w.topic.ID })
	store, err := object.WithCount(w.store, noop.Meter{}, ledger.Request)
	if err != nil {
		t.Fatal(err)
	}
	b := w.mustStart(settings{config: smallLog(), store: store, o: Options{Ledger: ledger}})
	if err := b.produce(100); err != nil {
		t.Fatal(err)
	}
	if err := b.log.Roll(); err != nil {
		t.Fatal(err)
	}
	b.uploaded()
	if err := b.evict(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.readAll(t.Context(), 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	rows, _ := b.m.Costs(time.Now(), cost.Prices{GBMonth: 1})
	if len(rows) == 0 || rows[0].Topic != "orders" {
		t.Fatalf("%+v", rows)
	}
	var stored int64
	for key, size := range w.objects() {
		if len(key) > 4 && key[len(key)-4:] == ".log" {
			stored += size
		}
	}
	r := rows[0]
	if r.RemoteBytes != stored || r.Segments == 0 || r.Used.Put < 3*1 || r.Used.BytesIn < stored || r.Used.BytesOut < stored || r.PerDay <= 0 {
		t.Errorf("stored %d, row %+v", stored, r)
	}
}
