package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const plenty = 1 << 30

// fill gives every field below v a random value; arrays get at most most elements.
func fill(rng *rand.Rand, v reflect.Value, most int) {
	if v.Type() == reflect.TypeFor[kmsg.Tags]() {
		tags := v.Addr().Interface().(*kmsg.Tags)
		for range rng.IntN(3) {
			tags.Set(100+rng.Uint32N(1000), make([]byte, rng.IntN(200)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "Version" {
				fill(rng, f, most)
			}
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem(), most)
		}
	case reflect.Slice:
		if rng.IntN(4) == 0 {
			return // null, where there is null
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(most+1), most))
		for i := range v.Len() {
			fill(rng, v.Index(i), most)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i), most)
		}
	case reflect.String:
		v.SetString(string(make([]byte, rng.IntN(200))))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(rng.Uint32() & 0xff))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(rng.Uint32())))
	default:
		panic(fmt.Sprint("no filler for ", v.Type()))
	}
}

// randomBody is a valid body of an API version.
func randomBody(rng *rand.Rand, key, version int16, most int) []byte {
	r := kmsg.RequestForKey(key)
	fill(rng, reflect.ValueOf(r).Elem(), most)
	r.SetVersion(version)
	return r.AppendTo(nil)
}

// eachVersion calls fn for every API version that has a schema.
func eachVersion(fn func(name string, key, version int16)) {
	for _, s := range schemas {
		for v := int16(0); v <= kmsg.RequestForKey(s.key).MaxVersion(); v++ {
			fn(fmt.Sprintf("%s v%d", s.name, v), s.key, v)
		}
	}
}

func TestGuardConsumesExactlyWhatKmsgEncodes(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	eachVersion(func(name string, key, version int16) {
		for range 40 {
			body := randomBody(rng, key, version, 3)
			behind, _, err := guard(key, version, append(slices.Clip(body), 0, 1, 2), plenty)
			if err != nil || !bytes.Equal(behind, []byte{0, 1, 2}) {
				t.Errorf("%s with %v behind: got %v, %v", name, []byte{0, 1, 2}, behind, err)
				return
			}
			cut := rng.IntN(len(body) + 1)
			if err := Guard(key, version, body[:cut], plenty); cut < len(body) && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut to %d of %d bytes: got %v, want %v", name, cut, len(body), err, ErrMalformed)
				return
			}
		}
	})
}

// TestGuardLetsPassWhatKafkaLetsPass holds a request that librdkafka 2.11 sends, captured, against Guard.
func TestGuardLetsPassWhatKafkaLetsPass(t *testing.T) {
	allTopics := []byte{0, 0, 0, 0, 1, 0, 0} // three bytes are left where the array's length was to be
	if err := Guard(3, 13, allTopics, plenty); err != nil {
		t.Error(err)
	}
}

// decodeAllocs returns what kmsg allocates for a body, and its error.
func decodeAllocs(key, version int16, body []byte) (int64, error) {
	r := kmsg.RequestForKey(key)
	r.SetVersion(version)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := r.ReadFrom(body)
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(r)
	return int64(after.TotalAlloc - before.TotalAlloc), err
}

// slack is what size classes of the allocator add to a decoded request, and the test's own noise.
func slack(budget int64) int64 { return budget/4 + 16<<10 }

// checkBudget checks that the smallest budget that Guard accepts bounds what kmsg allocates.
func checkBudget(t *testing.T, name string, key, version int16, body []byte) {
	t.Helper()
	budget := int64(64)
	for Guard(key, version, body, budget) != nil {
		if budget *= 2; budget > plenty {
			t.Errorf("%s: refused with any budget", name)
			return
		}
	}
	used, err := decodeAllocs(key, version, body)
	if err != nil {
		t.Errorf("%s: kmsg refuses what Guard accepts: %v", name, err)
	}
	if used > budget+slack(budget) {
		t.Errorf("%s: kmsg allocates %d bytes for %d, Guard accepted it for %d", name, used, len(body), budget)
	}
}

func TestGuardBudgetBoundsWhatDecodingAllocates(t *testing.T) {
	const seed = 2
	rng := rand.New(rand.NewPCG(seed, 0))
	eachVersion(func(name string, key, version int16) {
		for _, most := range []int{1, 8} {
			checkBudget(t, name, key, version, randomBody(rng, key, version, most))
		}
	})
}

func TestGuardRefusesHostileLengthsWithoutAllocating(t *testing.T) {
	// A frame of zeros with one large array length makes kmsg allocate 64 times its size.
	zeros := make([]byte, 1<<20)
	fetch := bytes.Clone(zeros)
	copy(fetch, []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x00, 0x0f, 0xff, 0xf0})
	ones := bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 1<<10)
	for name, body := range map[string][]byte{"zeros": zeros, "fetch": fetch, "ones": ones, "empty": nil} {
		eachVersion(func(api string, key, version int16) {
			allocs := testing.AllocsPerRun(1, func() { _ = Guard(key, version, body, 1<<20) })
			if allocs > 12 { // the error
				t.Errorf("%s, %s: %g allocations", api, name, allocs)
			}
		})
	}
	if err := Guard(1, 4, fetch, 1<<20); !errors.Is(err, ErrBudget) && !errors.Is(err, ErrMalformed) {
		t.Errorf("hostile fetch: %v", err)
	}
}

func TestGuardCapsElementsAndTags(t *testing.T) {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Version = 5
	r.Groups = make([]string, maxElements+1)
	if err := Guard(r.Key(), r.Version, r.AppendTo(nil), plenty); !errors.Is(err, ErrBudget) {
		t.Errorf("a million and one groups: got %v, want %v", err, ErrBudget)
	}
	r.Groups = r.Groups[:maxElements]
	if err := Guard(r.Key(), r.Version, r.AppendTo(nil), plenty); err != nil {
		t.Errorf("a million groups: %v", err)
	}
	r.Groups = nil
	for i := range maxTags + 1 {
		r.UnknownTags.Set(uint32(i), nil)
	}
	if err := Guard(r.Key(), r.Version, r.AppendTo(nil), plenty); !errors.Is(err, ErrBudget) {
		t.Errorf("10,001 tagged fields: got %v, want %v", err, ErrBudget)
	}
	// kmsg alone would count down from four billion.
	body := append(make([]byte, 0, 8), 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)
	if err := Guard(r.Key(), r.Version, body, plenty); !errors.Is(err, ErrBudget) {
		t.Errorf("2^32-1 tagged fields: got %v, want %v", err, ErrBudget)
	}
}

// TestGuardBoundsStringsAsKafka: a compact string may be no longer than one of the
// older versions, whose length is an int16, also where it is nullable.
func TestGuardBoundsStringsAsKafka(t *testing.T) {
	for extra, want := range map[int]error{0: nil, 1: ErrMalformed} {
		name := strings.Repeat("x", math.MaxInt16+extra)
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.InstanceID = 6, "g", &name
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Version, describe.Groups = 5, []string{name}
		for _, r := range []kmsg.Request{join, describe} {
			if err := Guard(r.Key(), r.GetVersion(), r.AppendTo(nil), plenty); !errors.Is(err, want) {
				t.Errorf("%T with a name of %d bytes: got %v, want %v", r, len(name), err, want)
			}
		}
	}
}

func TestGuardDoesNotAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	body := randomBody(rng, 1, 17, 8)
	if n := testing.AllocsPerRun(100, func() {
		if err := Guard(1, 17, body, plenty); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestGuardRefusesUnknownApis(t *testing.T) {
	for _, k := range [][2]int16{{-1, 0}, {0, -1}, {0, 99}, {999, 0}} {
		if err := Guard(k[0], k[1], nil, plenty); !errors.Is(err, ErrMalformed) {
			t.Errorf("key %d version %d: got %v, want %v", k[0], k[1], err, ErrMalformed)
		}
	}
}

// FuzzGuardBoundsDecoding decodes with kmsg whatever Guard accepts.
func FuzzGuardBoundsDecoding(f *testing.F) {
	rng := rand.New(rand.NewPCG(4, 0))
	eachVersion(func(_ string, key, version int16) {
		f.Add(key, version, randomBody(rng, key, version, 2))
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		const budget = 1 << 20
		if Guard(key, version, body, budget) != nil {
			return
		}
		used, err := decodeAllocs(key, version, body)
		if err != nil {
			t.Errorf("kmsg refuses what Guard accepts: %v", err)
		}
		if used > budget+slack(budget) {
			t.Errorf("kmsg allocates %d bytes for %d", used, len(body))
		}
	})
}

func BenchmarkGuardFetch100Partitions(b *testing.B) {
	r := kmsg.NewPtrFetchRequest()
	r.Version = 13
	topic := kmsg.NewFetchRequestTopic()
	for i := range int32(100) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition = i
		topic.Partitions = append(topic.Partitions, p)
	}
	r.Topics = append(r.Topics, topic)
	body := r.AppendTo(nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Guard(1, 13, body, plenty); err != nil {
			b.Fatal(err)
		}
	}
}
