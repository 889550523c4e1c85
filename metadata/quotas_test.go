package metadata

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/coldbrook/coldbrook/metadata/kv"
)

type quotasBy = map[QuotaEntity]map[string]float64

// Quotas are in the image of whoever opens the store after they were set, and a
// change of one name keeps the others.
func TestQuotasAreKeptByEntity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := kv.NewMem()
		s := openStore(t, mem, true)
		alter := func(e QuotaEntity, set map[string]float64, del ...string) {
			t.Helper()
			if err := s.AlterQuotas(t.Context(), e, set, del); err != nil {
				t.Fatal(err)
			}
		}
		alter("clients/replay", map[string]float64{"consumer_byte_rate": 2e6, "remote_fetch_byte_rate": 5e7})
		alter("clients/replay", map[string]float64{"consumer_byte_rate": 3e6})
		alter("users/a%2Fb/clients/<default>", map[string]float64{"producer_byte_rate": 0.5})
		alter("users/gone", map[string]float64{"producer_byte_rate": 1})
		before := s.Image()
		alter("users/gone", nil, "producer_byte_rate")
		alter("users/never", nil, "producer_byte_rate")
		want := quotasBy{
			"clients/replay":                {"consumer_byte_rate": 3e6, "remote_fetch_byte_rate": 5e7},
			"users/a%2Fb/clients/<default>": {"producer_byte_rate": 0.5},
		}
		if diff := cmp.Diff(want, s.Image().Quotas()); diff != "" {
			t.Errorf("quotas (-want +got):\n%s", diff)
		}
		if !s.Image().ChangedQuotas(before) || len(before.Quotas()) != 3 {
			t.Error("an image changed, or a change is not seen")
		}
		alter("clients/replay", map[string]float64{"consumer_byte_rate": 3e6})
		before = s.Image()
		if _, err := s.CreateTopic(t.Context(), TopicSpec{Name: "t", Assignments: assign(1, 1)}); err != nil {
			t.Fatal(err)
		}
		if s.Image().ChangedQuotas(before) {
			t.Error("a new topic looks like a change of quotas")
		}

		// Brokers of other versions read these.
		have, err := mem.Range(t.Context(), kv.RangeRequest{Key: "/coldbrook/coldbrook/quotas/", End: kv.PrefixEnd("/coldbrook/coldbrook/quotas/")})
		if err != nil || len(have.KVs) != 2 {
			t.Fatal(have.KVs, err)
		}
		if got, want := have.KVs[0].Key, "/coldbrook/coldbrook/quotas/clients/replay"; got != want {
			t.Errorf("key %s, want %s", got, want)
		}
		if got, want := string(have.KVs[0].Value), `{"consumer_byte_rate":3000000,"remote_fetch_byte_rate":50000000}`; got != want {
			t.Errorf("value %s, want %s", got, want)
		}
		if diff := cmp.Diff(want, openStore(t, mem, false).Image().Quotas()); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}

		// A snapshot has them word for word, and a restore brings them back.
		keys, _, err := s.Verbatim(t.Context())
		if err != nil || len(keys) != 2 {
			t.Fatal(keys, err)
		}
		r := restoredCluster()
		r.Verbatim = keys
		empty := kv.NewMem()
		if err := RestoreCluster(t.Context(), empty, "", r, false); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, openStore(t, empty, false).Image().Quotas()); diff != "" {
			t.Errorf("after a restore (-want +got):\n%s", diff)
		}
	})
}

// What somebody wrote into etcd that is no quota does not get into the image,
// and what is gone when a snapshot is loaded is gone from the image.
func TestQuotasThatMakeNoSenseAreNotShown(t *testing.T) {
	mem := kv.NewMem()
	s := openStore(t, mem, false)
	put := func(name string, value any) {
		t.Helper()
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(string(s.keys)+"quotas/"+name, b, 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("clients/zero", map[string]float64{"consumer_byte_rate": 0})
	put("clients/text", "fast")
	put("machines/x", map[string]float64{"consumer_byte_rate": 1})
	put("clients/good", map[string]float64{"consumer_byte_rate": 1})
	if invalid, err := s.load(t.Context()); err != nil || len(invalid) != 3 {
		t.Errorf("%v, invalid %v, want three", err, invalid)
	}
	if diff := cmp.Diff(quotasBy{"clients/good": {"consumer_byte_rate": 1}}, s.Image().Quotas()); diff != "" {
		t.Errorf("quotas (-want +got):\n%s", diff)
	}
	if _, err := mem.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(string(s.keys)+"quotas/clients/good", "")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(quotasBy{}, s.Image().Quotas(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("quotas (-want +got):\n%s", diff)
	}
	for _, e := range []QuotaEntity{"", "users", "ips/1.2.3.4"} {
		if err := s.AlterQuotas(t.Context(), e, map[string]float64{"a": 1}, nil); err == nil {
			t.Errorf("quotas of %q were taken", e)
		}
	}
	if err := s.AlterQuotas(t.Context(), "users/u", map[string]float64{"a": -1}, nil); err == nil {
		t.Error("a negative quota was taken")
	}
}
